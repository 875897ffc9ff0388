"""Atomic writes of files and folders, Markdown tables, and the provenance of results."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any


def write_json(path: str | Path, payload: Any) -> None:
    """Writes `payload` as indented JSON, atomically: readers see the old file or the new one, never a part.

    Parent folders are created.

    Raises:
        `ValueError`: If a number is not finite, because JSON has no such numbers.
    """
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file atomically and creates its parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to write into, which replaces `path` when the block ends, or is deleted if it fails.

    Readers of `path` never see a part of the old or the new folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        yield new
        # move the old folder away, and back if the new one can't be moved
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            old.rename(path)
            raise


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


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


def _git_commit() -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    described = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return described.stdout.strip() or None
