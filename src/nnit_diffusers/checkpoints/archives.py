"""Reading files that other programs wrote: sizes are checked before memory is allocated."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..loading.limits import check_total


MAX_CHECKPOINT_BYTES = 2**30
"""Size of a file, unpacked."""
_REMEDY = "Copy or download it again."


def read_file(path: Path) -> bytes:
    """Content of a file.

    Raises:
        `OSError`: If it is missing or empty.
        `ValueError`: If it is too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    size = path.stat().st_size
    check_total(f"The bytes of {str(path)!r}", size, MAX_CHECKPOINT_BYTES)
    if not size:
        raise OSError(f"{str(path)!r} is empty. {_REMEDY}")
    return path.read_bytes()


def damaged(path: Path | str, error: BaseException) -> OSError:
    """The error for a file that is not what its name promises; it includes the reason, in one line."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return OSError(f"{str(path)!r} is truncated, altered or of another format: {reason}. {_REMEDY}")


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose entries are small enough together.

    Raises:
        `OSError`: If it is missing or truncated.
        `ValueError`: If its entries are too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            check_total(f"The unpacked bytes of {str(path)!r}", total, MAX_CHECKPOINT_BYTES)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise damaged(path, error) from error
