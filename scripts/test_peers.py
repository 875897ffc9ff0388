"""Tests networks in RSL-RL, Stable-Baselines3 and LEAPP, in an environment of its own.

    make peers [TORCH_INDEX=...]
    python scripts/test_peers.py [--venv .venv/peers] [--torch-index URL] [arguments of pytest]

RSL-RL is tested in its newest release, and in the last one that stored actor and critic as one module.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/export/test_peers.py", "tests/export/test_export_formats.py", "tests/cli/test_export_command.py")
OLDER_RSL_RL = "rsl-rl-lib==3.3.0"


def pip(venv: Path, *arguments: str) -> None:
    constraints = str(ROOT / "constraints.txt")
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--constraint", constraints, *arguments]
    subprocess.run(command, check=True)


def run_tests(venv: Path, *arguments: str) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([venv / "bin/python", "-m", "pytest", *arguments], cwd=ROOT, env=environment).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv/peers", help="where to make the environment")
    parser.add_argument("--torch-index", default="", help="where torch is taken from, if not from pip's own index")
    options, others = parser.parse_known_args()
    venv = options.venv.resolve()
    # torch first and by itself, as the Makefile does
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    pip(venv, *(["--index-url", options.torch_index] if options.torch_index else []), "torch")
    pip(venv, "--editable", f"{ROOT}[onnx,test]", "rsl-rl-lib", "stable-baselines3", "leapp")
    failed = run_tests(venv, *TESTS, *others)
    # the older release
    pip(venv, OLDER_RSL_RL)
    sys.exit(run_tests(venv, TESTS[0], "-k", "rsl_rl", *others) or failed)


if __name__ == "__main__":
    main()
