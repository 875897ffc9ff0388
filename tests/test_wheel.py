"""The wheel in a clean environment: complete, and used outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
USE = """
import sys
from pathlib import Path
import torch
import nnit_diffusers
from nnit_diffusers import NNiTPipeline, evaluate, get_task
from nnit_diffusers.cards import write_card
from nnit_diffusers.cli.main import main

package = Path(nnit_diffusers.__file__).parent
assert Path(sys.prefix) in package.parents, package
assert (package / "py.typed").is_file()
pipe = NNiTPipeline.from_pretrained("digits")
networks = pipe([20], num_inference_steps=2, generator=torch.Generator().manual_seed(0)).networks
task = get_task("digits")
assert evaluate(networks, task)[0].num_episodes == 360
write_card("digits", task)
assert "# NNiT for digits" in Path("digits", "README.md").read_text()

# the command, with a task of the working directory
sys.argv = ["nnit", "train", "mine:breast_cancer", "--output", "mine", "--dry-run"]
main()
"""


def run(command, folder):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A folder outside the checkout, with an environment of the wheel and its dependencies alone."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        [sys.executable, "-m", "pip", "wheel", ROOT, "--quiet", "--no-deps", "--no-build-isolation", "-w", folder],
        folder,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], folder)
    # Dependencies are those of this environment. Python does not read the .pth files there, so the checkout stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_works_outside_the_checkout(clean):
    shutil.copytree(ROOT / "nnit" / "digits", clean / "digits")
    shutil.copyfile(ROOT / "examples" / "custom_task.py", clean / "mine.py")
    shown = run([clean / "venv" / "bin" / "python", "-c", USE], clean)
    assert '"task": "breast_cancer"' in shown
