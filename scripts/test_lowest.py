"""Runs the test suite on the oldest releases that setup.py claims to work with, in an environment of its own.

    make lowest [TORCH_INDEX=...]
    python scripts/test_lowest.py [--venv .venv/lowest] [--torch-index URL] [arguments of pytest]

Nothing but Python and pip is needed. ManiSkill, Meta-World and the browser are left out: `make test` covers them.
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
LEFT_OUT = (
    "tests/tasks/maniskill",
    "tests/browser/test_space_browser.py",
    *("tests/tasks/metaworld", "tests/cli/test_metaworld_command.py", "tests/benchmarks/test_metaworld_experts.py"),
)
# Tests that need something else than the floors, and what.
DESELECTED = {
    "tests/training/test_optimizer.py::test_matrices_are_updated_as_by_the_muon_of_torch": "torch 2.9: its Muon",
    "tests/models/test_transformer_caches.py::test_repeated_blocks_compile_only_once": (
        "a newer torch: the option that the test sets"
    ),
    # torch 2.6 stores the time in the file.
    "tests/export/test_export_formats.py::test_a_half_precision_network_is_exported_in_float32_and_not_changed["
    "torch-export]": "a newer torch",
    "tests/export/test_export_formats.py::test_the_same_network_gives_the_same_bytes[torch-export]": "a newer torch",
    "tests/cli/test_export_command.py::test_every_format_is_exported[torch-export]": "a newer torch",
    # torch 2.6 draws other networks from the same seed, and the tests expect certain ones.
    "tests/cli/test_commands.py::test_a_search_saves_winner_plot_and_state": "a newer torch",
    "tests/network_search/test_search.py::test_the_winner_is_the_smallest_network_that_reaches_the_target_also_on_"
    "other_episodes": "a newer torch",
    "tests/browser/test_space.py::test_requirements_are_valid_and_consistent_for_pip": "the pinned versions",
    "tests/browser/test_space.py::test_a_robot_is_filmed": "ManiSkill",
    "tests/examples/test_demo_robot.py::test_without_a_vulkan_device_it_prints_what_to_install_and_runs_the_digits_"
    "demo": "ManiSkill",
}


def setup_arguments() -> dict[str, Any]:
    """What setup.py passes to `setup`; nothing is built or installed."""
    given: dict[str, Any] = {}
    stand_in = ModuleType("setuptools")
    vars(stand_in).update(find_packages=lambda where: [], setup=given.update)
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
    pip: list[str | Path] = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", constraints]
    subprocess.run([*pip, *(["--index-url", torch_index] if torch_index else []), "torch"], check=True)
    subprocess.run([*pip, "--editable", f"{ROOT}[{','.join(EXTRAS)}]"], check=True)
    print(constraints.read_text(), end="", flush=True)


def pytest_arguments() -> list[str]:
    """Arguments of pytest. Warnings are no errors here: old releases warn of what newer ones have changed."""
    left_out = [f"--ignore={path}" for path in LEFT_OUT]
    return ["-W", "default", *left_out, *(f"--deselect={test}" for test in DESELECTED)]


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
