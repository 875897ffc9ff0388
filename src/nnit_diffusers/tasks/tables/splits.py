"""Which rows of a table are for training, validation and test: a fixed hash of their content decides.

Shape legend: N rows, C columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..base import DATA_SPLITS
from .cells import MISSING, TEXT, Cells, parse_frame


if TYPE_CHECKING:
    from pandas import DataFrame

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
"""Expected share of the rows in each split."""

# Changing it would move the rows of every table, and invalidate results on them.
_SALT = b"nnit-table-split"


def split_of_rows(frame: DataFrame, fixed: np.ndarray | None = None) -> np.ndarray:
    """Split of every row, by a hash of its cells: 60% are for training, 20% for validation and 20% for test.

    Neither the order of rows and columns nor the type of the file matters. Equal rows are in the same split, and a new
    row moves none of the others.

    Parameters:
        frame (`DataFrame`): The table, with its target.
        fixed (`np.ndarray`, *optional*):
            `[N]`: splits that the data set comes with. Its rows for training then also fill the splits that it lacks.

    Returns:
        `np.ndarray`: `[N]`, one of `DATA_SPLITS` each.
    """
    return split_of_cells(parse_frame(frame), fixed)


def split_of_cells(cells: Mapping[str, Cells], fixed: np.ndarray | None = None) -> np.ndarray:
    """[`split_of_rows`] of a table that was parsed."""
    present = set() if fixed is None else set(fixed.tolist()) - {"train"}
    shares = {split: SHARES[split] for split in DATA_SPLITS if split not in present}
    limits = np.cumsum(list(shares.values())) / sum(shares.values())
    hashed = np.array(list(shares), dtype=object)[np.searchsorted(limits[:-1], _hashes(cells), side="right")]
    return hashed if fixed is None else np.where(fixed == "train", hashed, fixed)


def _hashes(cells: Mapping[str, Cells]) -> np.ndarray:
    """`[N]`: a number of 0 to 1 for every row, which is uniform over different rows."""
    columns = [_bits(cells[name]) for name in sorted(cells)]
    rows = np.concatenate(columns, axis=1).astype("<u8")
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8, person=_SALT).digest() for row in rows]
    return np.frombuffer(b"".join(digests), dtype="<u8") / 2.0**64


def _bits(column: Cells) -> np.ndarray:
    """`[N, 2]`, uint64: the kind of every cell, and its number as the bits of a float64 or a hash of its text."""
    import pandas as pd

    # adding 0 makes 0 of -0
    contents = (np.where(column.kinds == MISSING, 0.0, column.numbers) + 0.0).view(np.uint64)
    is_text = column.kinds == TEXT
    codes, texts = pd.factorize(column.texts[is_text])
    hashes = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts]
    contents[is_text] = np.array(hashes, dtype=np.uint64)[codes]
    return np.stack([column.kinds.astype(np.uint64), contents], axis=1)
