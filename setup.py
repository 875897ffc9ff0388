import re
from pathlib import Path

from setuptools import find_packages, setup


ROOT = Path(__file__).parent

# A floor is the oldest release known to work, a cap the first one not known to: each states its reason. `make lowest`
# installs the floors and runs the tests on them. Together they stay within what LeRobot 0.6.1 allows beside it
# (huggingface_hub<2, torch<2.12, numpy<2.3). The environment that the Makefile sets up is pinned, in constraints.txt.
INSTALL_REQUIRES = [
    # 1.0: beside an older one, an installed peft keeps diffusers from being imported. With accelerate, models load
    # without a second copy in memory, and can be offloaded.
    "accelerate>=1.0",
    # 0.42: the attention modules and caches that the transformer is built on. Under 0.43: to be loaded from the Hub,
    # components are entered into undocumented tables of diffusers, so a release is let in once it is tested.
    "diffusers>=0.42,<0.43",
    # 1.32: what diffusers 0.42 asks for.
    "huggingface_hub>=1.32",
    # 1.26: the first for Python 3.12, so that every supported Python starts from the same one.
    "numpy>=1.26",
    # 0.8: what diffusers 0.42 asks for.
    "safetensors>=0.8",
    # 1.11.2: the first for Python 3.12. Student's t intervals of an evaluation (scipy.special).
    "scipy>=1.11.2",
    # 2.6: what diffusers 0.42 asks for.
    "torch>=2.6",
    # 1.0: older ones break the lines of the examples in `nnit COMMAND --help`; before 0.9.14, `nnit` does not start.
    # Here and not in an extra, for pip installs the command `nnit` in any case, and a command has to work as it was
    # installed; it brings three small packages of pure Python.
    "tyro>=1.0",
]

DIGITS = [
    # 1.3.1: the first for Python 3.12. Its wheel holds the data of the digits task.
    "scikit-learn>=1.3.1",
]
PICTURES = [
    # 3.8: the oldest they were drawn with.
    "matplotlib>=3.8",
]

EXTRAS = {
    # `make demo`: digits, and a picture of what was generated.
    "demo": [*DIGITS, *PICTURES],
    # `nnit train`, the card that it ends with, and the scripts in examples/.
    "training": [
        *DIGITS,
        *PICTURES,
        # 15: what datasets 3 asks for. Reading a malicious parquet file in 14.0.0 could run code (CVE-2023-47248). The
        # index of a weight dataset is a parquet file.
        "pyarrow>=15",
        # 2.16.2: 2.16.0 installs TensorFlow's nightly build. `--report_to tensorboard`, the default.
        "tensorboard>=2.16.2",
        # 4.66.3: what datasets 3 asks for.
        "tqdm>=4.66.3",
        # 3.1: what torch asks for. Model cards are templates.
        "jinja2>=3.1",
        # 10.1: the first for Python 3.12. Pictures of results are saved with a palette and their source.
        "pillow>=10.1",
    ],
    # `nnit search` draws a picture of what it found.
    "search": PICTURES,
    # The ONNX export, which is held to what onnxruntime computes.
    "onnx": [
        # 1.17 and 1.19: the first for numpy 2.
        "onnx>=1.17",
        "onnxruntime>=1.19",
    ],
    # The web demo, space.
    "space": [
        *DIGITS,
        *PICTURES,
        # 6.31: the oldest that the page was clicked through with. It asks for pillow<13.
        "gradio>=6.31",
        "onnx>=1.17",
    ],
    # `nnit train TABLE` and `nnit predict`.
    "tables": [
        # 2.2: the first for numpy 2.
        "pandas>=2.2",
        "pyarrow>=15",
    ],
    # Environments of Gymnasium, those of MuJoCo included.
    "mujoco": [
        # 1.0: the first with the environments of version 5.
        "gymnasium[mujoco]>=1.0",
        # Under 4, which consists of packages that gymnasium does not name.
        "mujoco<4",
        # Teachers and networks on their way to worker processes.
        "cloudpickle>=3",
    ],
    # The robot tasks of Meta-World.
    "metaworld": [
        # 3.1: the release that its experts are measured in. It asks for mujoco 3.3.0, no other.
        "metaworld>=3.1",
        # 23: what Gymnasium asks for with its extra `mujoco`, whose modules Meta-World imports without that extra.
        "packaging>=23",
        # Teachers and networks on their way to worker processes.
        "cloudpickle>=3",
    ],
    # Recorded demonstrations: ManiSkill's and Minari's are HDF5, LeRobot's Parquet.
    "recordings": ["h5py>=3.10", "pyarrow>=15"],
    # Kept apart, for torchvision has to be of the same build as torch, and breaks diffusers where it is not.
    "mnist": ["torchvision"],
    # 3.0.1: the release that robot tasks are measured in.
    "maniskill": ["mani_skill>=3.0.1", "cloudpickle>=3"],
    # What `nnit export --format lerobot` writes, run by `lerobot-eval`, which imports LeRobot's datasets too. 0.6.1:
    # the release that the plugin is written for. Under 0.7: the next may change what a plugin is. It asks for Python
    # 3.12.
    "lerobot": ["lerobot[dataset,evaluation]>=0.6.1,<0.7", "mani_skill>=3.0.1"],
    "test": [
        # What others open the index of a weight dataset with.
        "datasets>=3",
        "hypothesis",
        # The notebook of examples, run from start to end.
        "ipykernel",
        "nbclient",
        # 0.18: the first that can be imported beside transformers 5. LoRA adapters on the transformer.
        "peft>=0.18",
        # The web demo in Debian's chromium.
        "playwright>=1.65",
        "pytest>=8",
        "pytest-timeout",
        "pytest-xdist",
    ],
    # Their verdicts change with every release: constraints.txt has the ones that count.
    "quality": ["import-linter", "mypy", "ruff"],
    # `make release`.
    "release": [
        "build>=1.2",
        # 6.1: the first to check the licence files of metadata 2.4, which setuptools 77 writes.
        "twine>=6.1",
    ],
}
# What `make` installs.
DEV = (
    "training",
    "tables",
    "mujoco",
    "recordings",
    "maniskill",
    "metaworld",
    "onnx",
    "space",
    "test",
    "quality",
    "release",
)
EXTRAS["dev"] = sorted({needed for extra in DEV for needed in EXTRAS[extra]})


REPOSITORY = "https://github.com/nnit-diffusers/nnit-diffusers"


def version() -> str:
    match = re.search(r'^__version__ = "(.+)"$', (ROOT / "src/nnit_diffusers/__init__.py").read_text(), re.M)
    assert match is not None
    return match[1]


setup(
    name="nnit-diffusers",
    version=version(),
    description="Diffusion models that generate working neural networks of any width and depth.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The nnit-diffusers authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Source": REPOSITORY,
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
        "Paper": "https://arxiv.org/abs/2603.00180",
    },
    keywords="diffusion, hypernetwork, weight generation, neural network, diffusers",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
    # 3.11: what diffusers 0.42 asks for.
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"nnit_diffusers": ["py.typed"], "nnit_diffusers.cards": ["*.md", "*.jinja"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["nnit = nnit_diffusers.cli.main:main"]},
)
