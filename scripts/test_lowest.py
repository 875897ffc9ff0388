"""Runs the test suite on the oldest releases that setup.py claims to work with, in an environment of its own.

    make lowest [TORCH_INDEX=...]
    python scripts/test_lowest.py [--venv .venv/lowest] [--torch-index URL] [arguments of pytest]

Nothing but Python and pip is needed. ManiSkill and the browser are left out: they are pinned by what they test.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("training", "onnx", "space", "test")
LEFT_OUT = ("tests/tasks/maniskill", "tests/browser/test_space_browser.py")
# Tests that hold for newer releases alone, and what they are about.
NEWER = {
    "tests/test_optimization.py::test_matrices_follow_torchs_muon": "torch 2.9 has the optimizer to compare with",
    "tests/models/test_transformer_nnit_diffusers.py::test_the_repeated_blocks_compile_once_for_all": (
        "torch 2.7 has the option that the test sets"
    ),
    "tests/test_export.py::test_a_half_precision_network_is_exported_in_float32_and_stays_as_it_is[torch-export]": (
        "torch 2.6 writes the time into the file"
    ),
    "tests/cli/test_commands.py::test_every_format_is_exported[torch-export]": "torch 2.6 writes the time into the file",
    "tests/cli/test_commands.py::test_a_search_leaves_winner_picture_and_state": (
        "torch 2.6 draws other networks from the same seed, and none of them reaches the target"
    ),
    "tests/network_search/test_search.py::test_the_winner_is_the_smallest_finalist_that_meets_the_demand_and_holds_on_"
    "other_episodes": "torch 2.6 draws other networks from the same seed",
}


def setup_arguments() -> dict[str, Any]:
    """What setup.py passes to `setup`; nothing is built or installed."""
    given: dict[str, Any] = {}
    stand_in = ModuleType("setuptools")
    stand_in.find_packages = lambda where: []
    stand_in.setup = given.update
    before = sys.modules.get("setuptools")
    sys.modules["setuptools"] = stand_in
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        del sys.modules["setuptools"]
        if before is not None:
            sys.modules["setuptools"] = before
    return given


def floors() -> dict[str, str]:
    """The oldest release of every package that an installation with `EXTRAS` claims to work with, where it has one."""
    given = setup_arguments()
    requirements = [*given["install_requires"], *(one for extra in EXTRAS for one in given["extras_require"][extra])]
    matches = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in matches if match}


def install(venv: Path, torch_index: str) -> None:
    """Makes the environment: torch first and by itself, as the Makefile does."""
    oldest = floors()
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    constraints = venv / "floors.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in oldest.items()), encoding="utf-8")
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", constraints]
    subprocess.run([*pip, *(["--index-url", torch_index] if torch_index else []), "torch"], check=True)
    subprocess.run([*pip, "--editable", f"{ROOT}[{','.join(EXTRAS)}]"], check=True)
    print(constraints.read_text(), end="", flush=True)


def pytest_arguments() -> list[str]:
    """What the test suite is called with. Warnings are no errors here: old releases warn of what newer ones changed."""
    left_out = [f"--ignore={path}" for path in LEFT_OUT]
    return ["-W", "default", *left_out, *(f"--deselect={test}" for test in NEWER)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv/lowest", help="where to make the environment")
    parser.add_argument("--torch-index", default="", help="where torch is taken from, if not from pip's own index")
    options, others = parser.parse_known_args()
    venv = options.venv.resolve()
    install(venv, options.torch_index)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [venv / "bin/python", "-m", "pytest", *pytest_arguments(), *(others or ["--numprocesses", "2"])]
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main()
