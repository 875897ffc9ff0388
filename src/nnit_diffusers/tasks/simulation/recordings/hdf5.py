"""HDF5 files of others: links to other files are not followed, and sizes are checked before memory is allocated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .base import check_numbers_of


_MAX_NESTING = 8
_MAX_LEAVES = 1000


class Hdf5Reader:
    """Groups and arrays of one open file.

    Parameters:
        path (`Path`): The file, for messages.
        root (`Any`): The open `h5py.File`.
    """

    def __init__(self, path: Path, root: Any):
        self.path = path
        self.root = root
        self._numbers = 0

    def names(self, group: Any, pattern: str) -> list[str]:
        """Names in a group that are `pattern` and a number, in the order of their numbers."""
        found = [(int(match[1]), name) for name in group if (match := re.fullmatch(rf"{pattern}(\d{{1,18}})", name))]
        return [name for _, name in sorted(found)]

    def child(self, group: Any, name: str) -> Any:
        """The group or array of that name, or `None`.

        Raises:
            `ValueError`: If it is a link, or its data is in another file.
        """
        import h5py

        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(
                f"{str(self.path)!r} must hold its data itself, but `{group.name.rstrip('/')}/{name}` is a link, "
                "which is not followed."
            )
        found = group[name]
        if isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
            raise ValueError(
                f"{str(self.path)!r} must hold its data itself, but that of `{found.name}` is in another file, which "
                "is not read."
            )
        return found

    def read(self, dataset: Any) -> np.ndarray:
        """Content of an array of numbers.

        Raises:
            `OSError`: If it is damaged.
            `ValueError`: If it holds no numbers, or too many.
        """
        if not hasattr(dataset, "dtype") or dataset.shape is None or dataset.dtype.kind not in "biuf":
            raise ValueError(f"{str(self.path)!r} must hold numbers, but `{dataset.name}` does not.")
        self._numbers += int(np.prod([int(size) for size in dataset.shape], dtype=object))
        check_numbers_of(self.path, self._numbers)
        try:
            return np.asarray(dataset[()])
        except (OSError, RuntimeError) as error:
            raise _damaged(self.path, error) from error

    def flattened(self, node: Any, is_sorted: bool = False) -> np.ndarray:
        """An array, or the arrays `[T]` or `[T, …]` of a group as one `[T, I]`.

        Parameters:
            node (`Any`): The array or group.
            is_sorted (`bool`, defaults to `False`): Order of names; by default that in which they were written.
        """
        leaves = list(self._leaves(node, is_sorted, 0))
        if len(leaves) == 1 and leaves[0] is node:
            return self.read(node)
        arrays = [array for array in map(self.read, leaves) if array.size]
        if not arrays:
            raise ValueError(f"{str(self.path)!r} must hold numbers, but `{node.name}` is empty.")
        if any(array.ndim == 0 or len(array) != len(arrays[0]) for array in arrays):
            raise ValueError(f"{str(self.path)!r} must have arrays of one length in `{node.name}`, but has others.")
        return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)

    def _leaves(self, node: Any, is_sorted: bool, depth: int) -> Iterator[Any]:
        if hasattr(node, "dtype"):
            yield node
            return
        if depth > _MAX_NESTING or len(node) > _MAX_LEAVES:
            raise ValueError(f"{str(self.path)!r} must have few nested groups, but `{node.name}` has too many.")
        for name in sorted(node, key=_place) if is_sorted else node:
            yield from self._leaves(self.child(node, name), is_sorted, depth + 1)


def _place(name: str) -> tuple[int, str]:
    """Order of a space's parts: of a tuple by number, of a dictionary by name."""
    match = re.fullmatch(r"_index_(\d+)", name)
    return (int(match[1]), "") if match else (-1, name)


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Hdf5Reader]:
    """Opens a file.

    Raises:
        `OSError`: If it is missing or damaged.
        `ImportError`: If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{str(path)!r} needs h5py: `pip install nnit-diffusers[recordings]`.") from error
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    try:
        root = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error
    with root:
        try:
            yield Hdf5Reader(path, root)
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            # a damaged group has members of other types, or names that are no text
            raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> OSError:
    reason = " ".join(str(error).split())
    return OSError(f"{str(path)!r} is truncated, altered or no HDF5: {reason}. Copy or download it again.")
