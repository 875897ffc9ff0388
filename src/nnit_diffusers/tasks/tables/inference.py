"""Infers the schema of a table from its rows for training; the rows of the other splits have no part in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from .cells import BOOLEAN, DATE, MISSING, NUMBER, TEXT, Cells
from .schema import (
    MAX_NAME_LENGTH,
    CategoryColumn,
    Column,
    DroppedColumn,
    NumberColumn,
    TableSchema,
    Target,
    TargetKind,
    check_cells,
    check_finite,
)


MAX_CATEGORIES = 32
"""Categories of a column that have an input, the most frequent ones of training."""
MAX_INTEGER_CLASSES = 20
"""A target of integers has classes up to this number of different ones, and numbers above."""
MIN_CLASS_ROWS = 3
"""Rows for training that every class needs."""

# A number whose mean is more of its standard deviations away from 0 has an offset.
_MAX_MEAN_IN_STDS = 100
_ID_NAME = re.compile(r"(.*[\W_])?(id|index|uuid|guid)", re.IGNORECASE)


def infer_schema(
    cells: Mapping[str, Cells], is_train: np.ndarray, target: str, kind: TargetKind | None = None
) -> TableSchema:
    """The schema of a table, by its rows for training. The other rows are only searched for infinite numbers.

    - Numbers, booleans (0 and 1), and texts that are numbers are numbers; dates are days. A missing one is replaced by
      the median.
    - Other texts are categories if less than half of them differ. The 32 most frequent have an input each. Texts
      whose categories would leave out more than half of the rows are dropped.
    - Columns that are constant, empty, or ids (every row has another text or integer) are dropped.

    Parameters:
        cells (`Mapping[str, Cells]`): The columns of N rows.
        is_train (`np.ndarray`): `[N]`: which rows are for training; none of their targets is missing.
        target (`str`): Name of the target.
        kind (`str`, *optional*): `"classes"` or `"numbers"`; see [`infer_target`].

    Raises:
        `ValueError`: If a number is infinite, the target does not fit its kind, or no input is left.
    """
    inferred_target = infer_target(target, cells[target], is_train, kind)
    inferred = [_infer_column(name, column, is_train) for name, column in cells.items() if name != target]
    columns = tuple(each for each in inferred if not isinstance(each, DroppedColumn))
    dropped = tuple(each for each in inferred if isinstance(each, DroppedColumn))
    if not columns:
        reasons = "; ".join(f"{each.name!r}: {each.reason}" for each in dropped[:5])
        raise ValueError(
            f"The table must have a column beside the target {target!r} that can be an input, but has none"
            f"{f' ({reasons})' if reasons else ''}."
        )
    return TableSchema(inferred_target, columns, dropped)


def infer_target(name: str, cells: Cells, is_train: np.ndarray, kind: TargetKind | None = None) -> Target:
    """The kind and the classes of the target, by its rows for training, none of them missing.

    Texts and booleans are classes; integers are as well if there are 20 different ones at most. Other numbers are
    numbers. Classes of integers are sorted by size, and those of texts by name.

    Raises:
        `ValueError`: If there are texts but `kind` is `"numbers"`, fewer than two classes, or a class of fewer than
            three rows for training.
    """
    if kind not in (None, "classes", "numbers"):
        raise ValueError(f"`kind` must be 'classes' or 'numbers', but received {kind!r}.")
    check_finite(name, cells)
    train = cells.rows(is_train)
    is_number = train.has_only(NUMBER)
    if kind is None:
        is_few_integers = is_number and _are_integers(train) and len(np.unique(train.numbers)) <= MAX_INTEGER_CLASSES
        kind = "classes" if is_few_integers or not is_number else "numbers"
    if kind == "numbers":
        check_cells(name, cells, ~np.isin(cells.kinds, (MISSING, NUMBER, BOOLEAN)), "a number")
        if len(np.unique(train.numbers)) < 2:
            raise ValueError(f"The target {name!r} must vary, but is the same in all rows for training.")
        return Target(name, "numbers")

    # classes and the rows of each
    if train.has_only(DATE):
        raise ValueError(f"The target {name!r} must hold classes or numbers, but holds dates.")
    counts = Counter(train.labels().tolist())
    if len(counts) < 2:
        raise ValueError(f"The target {name!r} must have two classes or more, but has {len(counts)} in training.")
    rarest = min(counts, key=lambda each: (counts[each], each))
    if counts[rarest] < MIN_CLASS_ROWS:
        advice = " Predict numbers, `kind='numbers'`, or" if is_number else " Give more rows of it, or"
        raise ValueError(
            f"Every class of {name!r} must have {MIN_CLASS_ROWS} rows for training or more, but {rarest!r} has "
            f"{counts[rarest]}.{advice} leave out its rows."
        )
    return Target(name, "classes", tuple(sorted(counts, key=float if is_number else None)))


def _infer_column(name: str, cells: Cells, is_train: np.ndarray) -> Column | DroppedColumn:
    train = cells.rows(is_train)
    present = train.rows(~train.is_missing)
    has_missing = len(present) < len(train)
    if len(present) == 0:
        return DroppedColumn(name, "empty in training")
    if train.has_only(NUMBER, BOOLEAN) or train.has_only(DATE):
        check_finite(name, cells)
        return _infer_numbers(name, present, has_missing)
    return _infer_texts(name, present, has_missing)


def _infer_numbers(name: str, present: Cells, has_missing: bool) -> Column | DroppedColumn:
    numbers = present.numbers
    distinct = np.unique(numbers)
    if len(distinct) == 1:
        return _of_constant(name, present, has_missing)
    is_date = present.has_only(DATE)
    # the numbers of rows fill at least half of their range, for the other splits have the rest
    is_numbering = bool(_ID_NAME.fullmatch(name)) or distinct[-1] - distinct[0] < 2 * len(distinct)
    is_distinct = len(distinct) == len(numbers) and _are_integers(present)
    if is_numbering and is_distinct and not has_missing and not is_date:
        return DroppedColumn(name, "an id: every row has another integer")
    median = float(np.median(numbers))
    is_far = abs(numbers.mean()) > _MAX_MEAN_IN_STDS * numbers.std()
    return NumberColumn(name, median if is_far or is_date else 0.0, median, has_missing, is_date)


def _infer_texts(name: str, present: Cells, has_missing: bool) -> Column | DroppedColumn:
    counts = Counter(present.labels().tolist())
    if len(counts) == 1:
        return _of_constant(name, present, has_missing)
    if len(counts) == len(present):
        return DroppedColumn(name, "an id: every row has another text")
    short = [each for each in counts if len(each) <= MAX_NAME_LENGTH]
    frequent = sorted(short, key=lambda each: (-counts[each], each))[:MAX_CATEGORIES]
    if 2 * len(counts) >= len(present) or 2 * sum(counts[each] for each in frequent) < len(present):
        if 2 * (present.kinds != TEXT).sum() > len(present):
            text = present.texts[present.kinds == TEXT][0]
            return DroppedColumn(name, f"numbers or dates, but some rows hold text, such as {text[:40]!r}")
        return DroppedColumn(name, f"text: {len(counts)} different ones in {len(present)} rows")
    return CategoryColumn(name, tuple(sorted(frequent)), has_missing)


def _of_constant(name: str, present: Cells, has_missing: bool) -> Column | DroppedColumn:
    """A constant is no input, but whether it is missing may be one."""
    value = present.labels()[0][:40]
    return CategoryColumn(name, (), True) if has_missing else DroppedColumn(name, f"constant: always {value!r}")


def _are_integers(cells: Cells) -> bool:
    return bool((cells.numbers == np.round(cells.numbers)).all())
