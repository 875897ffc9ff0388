"""Provenance of results: how a process was run, saved with what it measured."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """How this process was run, to be saved with its results.

    Returns:
        `dict[str, Any]`: `command`, `date` (UTC), `git_commit` of the checkout the package runs from (with `-dirty` if
        tracked files differ from it; `None` for an installed package), `versions`, `python`, `platform`.
    """
    return {
        "command": shlex.join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "git_commit": _git_commit(),
        "versions": {
            package: import_module(package).__version__ for package in ("nnit_diffusers", "torch", "diffusers")
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def package_version() -> str:
    """Version of this package."""
    return str(import_module("nnit_diffusers").__version__)


def _git_commit() -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    described = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return described.stdout.strip() or None
