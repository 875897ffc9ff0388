"""Files that are whole or absent, and where a figure came from."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any


def write_json(path: str | Path, payload: Any) -> None:
    """Writes `payload` as indented JSON, atomically: readers see the old file or the new one, never a part.

    Parent folders are made.

    Raises:
        `ValueError`: If a number is not finite, which JSON does not have.
    """
    path = Path(path)
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def provenance() -> dict[str, Any]:
    """Where and how this process runs, to be kept beside what it produces.

    Returns:
        `dict[str, Any]`: `command`, `date` (UTC), `git_commit` of the checkout the package runs from (with `-dirty` if
        tracked files differ from it; `None` for an installed package), `versions`, `python`, `platform`.
    """
    return {
        "command": shlex.join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "versions": {
            package: import_module(package).__version__ for package in ("nnit_diffusers", "torch", "diffusers")
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _git_commit() -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    described = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return described.stdout.strip() or None
