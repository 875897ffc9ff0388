"""The package as it is installed and first imported."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import nnit_diffusers
from nnit_diffusers.diffusers_internals import TESTED_DIFFUSERS


REQUIREMENTS = [Requirement(line) for line in metadata.requires("nnit-diffusers")]
ROOT = Path(__file__).parents[1]
EXTRAS = metadata.metadata("nnit-diffusers").get_all("Provides-Extra")


def run_python(code: str) -> str:
    """What `code` prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def required(extra: str = "") -> dict[str, Requirement]:
    """What an installation asks for, by name: always, or with `extra` besides."""
    always = {r.name for r in REQUIREMENTS if r.marker is None}
    chosen = {r.name: r for r in REQUIREMENTS if r.marker is None or r.marker.evaluate({"extra": extra})}
    return {name: requirement for name, requirement in chosen.items() if not extra or name not in always}


def test_version_is_that_of_the_distribution():
    assert nnit_diffusers.__version__ == metadata.version("nnit-diffusers")


@pytest.mark.parametrize("name", nnit_diffusers.__all__)
def test_public_name_is_importable_and_documented(name):
    public = getattr(nnit_diffusers, name)
    assert name in dir(nnit_diffusers)
    assert public.__doc__, f"`{name}` has no docstring."


def test_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="NoSuchName"):
        nnit_diffusers.NoSuchName  # noqa: B018


def test_import_costs_next_to_nothing_beside_torch_and_diffusers():
    # Processor time, the best of three: what else the machine does is not to count.
    code = (
        "import time, torch, diffusers; t = time.process_time(); import nnit_diffusers; print(time.process_time() - t)"
    )
    assert any(float(run_python(code)) < 0.3 for _ in range(3))


def test_no_optional_dependency_is_imported_with_the_public_names():
    optional = ["datasets", "gradio", "mani_skill", "matplotlib", "metaworld", "pyarrow", "sklearn", "tensorboard"]
    optional.append("torchvision")
    code = "import sys; from nnit_diffusers import *; print(*sys.modules, sep='\\n')"
    imported = run_python(code).split()
    assert "nnit_diffusers.networks" in imported
    assert not set(optional) & set(imported)


def test_no_script_is_imported_by_its_bare_name():
    # mypy and import-linter do not see it: a script is found where it stands, and is in no package.
    folders = ("benchmarks", "examples", "scripts", "space")
    scripts = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    nodes = [node for path in ROOT.glob("src/**/*.py") for node in ast.walk(ast.parse(path.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert {"torch", "diffusers.utils"} <= imported
    assert not scripts & {name.partition(".")[0] for name in imported}


def test_development_installs_every_extra_but_those_that_need_another_torch():
    pulled_in = set().union(*(required(extra) for extra in EXTRAS if extra not in ("dev", "lerobot", "mnist")))
    assert set(required("dev")) == pulled_in
    assert "torchvision" not in pulled_in


@pytest.mark.parametrize("installed_beside", ["huggingface_hub==1.33.0", "torch==2.11.0", "numpy==2.2.6"])
def test_requirements_leave_room_for_lerobot(installed_beside):
    name, version = installed_beside.split("==")
    assert required()[name].specifier.contains(version)


def test_diffusers_is_kept_to_the_releases_that_registration_was_tested_with():
    specifier = required()["diffusers"].specifier
    assert specifier == SpecifierSet(TESTED_DIFFUSERS)
    assert specifier.contains(metadata.version("diffusers"))
