"""Files and folders written atomically: readers see the old one or the new one, never a part.

If writing fails, on a full disk for example, the old one is kept and nothing else is left. A killed process may leave
a hidden folder beside it, whose name ends in `.tmp`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: str | Path, payload: Any) -> None:
    """Writes `payload` as indented JSON and creates parent folders.

    Raises:
        `ValueError`: If a number is not finite, because JSON has no such numbers.
    """
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file and creates its parent folders."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(content)


def write_first_free(paths: Iterable[Path], content: bytes) -> Path:
    """Writes a file at the first of `paths` where there is none, and returns that path.

    Of several processes that write at once, each gets a path of its own. All paths are in one folder.

    Raises:
        `ValueError`: If there is a file at each of them.
    """
    paths = iter(paths)
    path = next(paths, None)
    if path is None:
        raise ValueError("`paths` must have at least one path, but has none.")
    with _folder_beside(path) as folder:
        temporary = folder / path.name
        temporary.write_bytes(content)
        while path is not None:
            try:
                # unlike a renamed file, a link never replaces another
                os.link(temporary, path)
            except FileExistsError:
                path = next(paths, None)
            else:
                return path
    raise ValueError("`paths` must have one without a file, but there is a file at each.")


@contextmanager
def replacing_file(path: str | Path) -> Iterator[Path]:
    """Gives a path to write to; the file there replaces `path` when the block ends, or is deleted if it fails.

    The path has the same name and suffix, in a new hidden folder beside `path`. Parent folders are created.
    """
    path = Path(path)
    with _folder_beside(path) as folder:
        temporary = folder / path.name
        yield temporary
        os.replace(temporary, path)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to write into, which replaces `path` when the block ends, or is deleted if it fails."""
    path = Path(path)
    with _folder_beside(path) as folder:
        new = folder / "new"
        new.mkdir()
        yield new
        replace_folder(new, path)


def replace_folder(new: Path, path: Path) -> None:
    """Moves the folder `new` to `path`, where it replaces the folder that is there.

    Raises:
        `OSError`: If it cannot be moved; the old folder is then in its place.
    """
    with _folder_beside(path) as folder:
        old = folder / "old"
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, on the same disk, which is deleted when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as folder:
        yield Path(folder)
