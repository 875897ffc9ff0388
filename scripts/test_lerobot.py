"""Runs the tests of the LeRobot plugin with LeRobot itself, in an environment of its own.

    make lerobot PYTHON=python3.12 [TORCH_INDEX=...]
    python3.12 scripts/test_lerobot.py [--venv .venv/lerobot] [--torch-index URL] [--source FOLDER] [tests]

LeRobot needs Python 3.12 or later, and caps torch below the version that `make test` has. ManiSkill 3.0.1 needs a
motion planner that has no release for Python 3.13, which nothing here uses: there it is installed without.
`--source` tests a checkout of LeRobot instead of the release, with the release's dependencies.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from test_lowest import ROOT, setup_arguments


OLDEST_PYTHON = (3, 12)
# What LeRobot 0.6 allows, and together: of another build, torchvision can't be imported.
TORCH = ("torch<2.12", "torchvision<0.27")
TESTS = ("tests/integrations",)
PLANNER = "mplib"


def without(requirements: Iterable[str], name: str) -> list[str]:
    """Requirements but those of extras, and but the package `name`."""
    kept = [requirement for requirement in requirements if "extra ==" not in requirement]
    return [requirement for requirement in kept if re.match(r"[\w.-]+", requirement)[0] != name]  # type: ignore[index]


def install(venv: Path, torch_index: str) -> Path:
    """Makes the environment, torch first and by itself, and returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    python = venv / "bin/python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    extras = setup_arguments()["extras_require"]
    (lerobot,) = (one for one in extras["lerobot"] if one.startswith("lerobot"))
    simulator = [one for one in extras["lerobot"] if one != lerobot]
    index = ["--index-url", torch_index] if torch_index else []
    subprocess.run([*pip, *index, *TORCH], check=True)
    subprocess.run([*pip, "pytest", "pytest-timeout", lerobot, "--editable", str(ROOT)], check=True)
    # ManiSkill without its motion planner
    subprocess.run([*pip, "--no-deps", *simulator], check=True)
    listed = "from importlib.metadata import requires; print('\\n'.join(requires('mani_skill') or ()))"
    found = subprocess.run([python, "-c", listed], check=True, capture_output=True, text=True).stdout.splitlines()
    subprocess.run([*pip, "cloudpickle", lerobot, *without(found, PLANNER)], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv/lerobot", help="where to make the environment")
    parser.add_argument("--torch-index", default="", help="where torch is taken from, if not from pip's own index")
    parser.add_argument("--source", type=Path, help="a checkout of LeRobot to test instead of its release")
    options, others = parser.parse_known_args()
    if sys.version_info < OLDEST_PYTHON:
        received = ".".join(map(str, sys.version_info[:2]))
        parser.error(f"LeRobot needs Python 3.12 or later, but this is {received}: `make lerobot PYTHON=python3.12`.")
    python = install(options.venv.resolve(), options.torch_index)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if options.source is not None:
        environment["PYTHONPATH"] = str(options.source.resolve() / "src")
    command = [python, "-m", "pytest", "-W", "default", *(others or TESTS)]
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main()
