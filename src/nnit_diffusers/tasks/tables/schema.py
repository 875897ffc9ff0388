"""How the columns of a table become the inputs of networks, and which outputs they have.

Shape legend: N rows, I inputs of a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ...loading.limits import MAX_WIDTH, check_number, shown
from ...settings import checked
from ..metadata import Features
from .cells import BOOLEAN, DATE, MISSING, NUMBER, Cells, parse_cells
from .reading import check_columns


if TYPE_CHECKING:
    from pandas import DataFrame

MAX_NAME_LENGTH = 500
"""Characters of the name of a column or category."""
MAX_NUMBER = 1e18
"""Size of a number in a table. The variance of larger ones is infinite in float32."""
TargetKind = Literal["classes", "numbers"]

_SHOWN_KINDS = {str: "a text", bool: "true or false", float: "a number", dict: "an object"}


@dataclass(frozen=True)
class Target:
    """What networks predict.

    Parameters:
        name (`str`): Name of the column.
        kind (`str`): `"classes"` or `"numbers"`.
        classes (`tuple[str, ...]`, defaults to `()`): Names of the classes, in the order of the outputs.
    """

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Outputs of a network."""
        return len(self.classes) if self.kind == "classes" else 1


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers: one input, and another that is 1 where the number is missing if it may be.

    Parameters:
        name (`str`): Name of the column.
        offset (`float`): Subtracted from every number, for float32 would lose digits without; 0 for most columns.
        fill (`float`): What a missing number is replaced with: the median of training.
        has_missing (`bool`): Whether numbers were missing in training.
        is_date (`bool`, defaults to `False`): Whether the column has dates, which are days since 1970.
    """

    name: str
    offset: float
    fill: float
    has_missing: bool
    is_date: bool = False

    @property
    def layout(self) -> tuple[Features, ...]:
        """Its inputs."""
        since = f" from {self.offset:.10g}" if self.offset else ""
        unit = f"days{since or ' since 1970'}" if self.is_date else since.strip()
        return (Features(self.name, 1, unit), *_missing_layout(self))

    def encode(self, cells: Cells) -> np.ndarray:
        """Inputs `[N, 1]` or `[N, 2]`, float64.

        Raises:
            `ValueError`: If a cell is no number, or infinite.
        """
        # a column of numbers has no dates, and one of dates no numbers
        accepted = (MISSING, DATE) if self.is_date else (MISSING, NUMBER, BOOLEAN)
        check_cells(self.name, cells, ~np.isin(cells.kinds, accepted), "a date" if self.is_date else "a number")
        check_finite(self.name, cells)
        numbers = np.where(cells.is_missing, self.fill, cells.numbers) - self.offset
        return np.stack([numbers, *_missing_inputs(self, cells)], axis=1)


@dataclass(frozen=True)
class CategoryColumn:
    """A column of texts: an input for each category that is 1 for its rows, and another for missing texts.

    All inputs are 0 for a category that is not listed: a rare one, or one that training did not have.

    Parameters:
        name (`str`): Name of the column.
        categories (`tuple[str, ...]`): The categories with an input. None if only missing cells are counted.
        has_missing (`bool`): Whether texts were missing in training.
    """

    name: str
    categories: tuple[str, ...]
    has_missing: bool

    @property
    def layout(self) -> tuple[Features, ...]:
        """Its inputs: a group of one for each category."""
        group = (Features(self.name, len(self.categories), "one-hot: " + ", ".join(self.categories)),)
        return (*(group if self.categories else ()), *_missing_layout(self))

    def encode(self, cells: Cells) -> np.ndarray:
        """Inputs `[N, …]`, float64."""
        labels = cells.labels()
        one_hot = [(labels == category).astype(np.float64) for category in self.categories]
        return np.stack([*one_hot, *_missing_inputs(self, cells)], axis=1)


Column = NumberColumn | CategoryColumn


@dataclass(frozen=True)
class DroppedColumn:
    """A column that is no input.

    Parameters:
        name (`str`): Name of the column.
        reason (`str`): Why.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class TableSchema:
    """The target and the inputs of a table. It is written beside networks, so that they can take the same table again.

    Parameters:
        target ([`Target`]): What networks predict.
        columns (`tuple[NumberColumn | CategoryColumn, ...]`): Columns with inputs, in the order of the inputs.
        dropped (`tuple[DroppedColumn, ...]`, defaults to `()`): Columns without an input.

    Raises:
        `ValueError`: If names repeat or are too long, numbers are not finite, or there are no inputs or too many.
    """

    target: Target
    columns: tuple[Column, ...]
    dropped: tuple[DroppedColumn, ...] = ()

    def __post_init__(self) -> None:
        _check_names("a table's columns", [self.target.name, *(each.name for each in (*self.columns, *self.dropped))])
        if self.target.kind not in ("classes", "numbers"):
            raise ValueError(f"`target.kind` must be 'classes' or 'numbers', but received {shown(self.target.kind)}.")
        _check_names("`target.classes`", self.target.classes)
        if (self.target.kind == "classes") != (len(self.target.classes) >= 2):
            raise ValueError(
                f"`target.classes` must be two classes or more if `target.kind` is 'classes', and none otherwise, but "
                f"received {len(self.target.classes)} for {self.target.kind!r}."
            )
        for column in self.columns:
            if isinstance(column, CategoryColumn):
                _check_names(f"the categories of {shown(column.name)}", column.categories)
                if not column.categories and not column.has_missing:
                    raise ValueError(f"Column {shown(column.name)} must have a category, but has none.")
            else:
                check_number(f"offset of {column.name}", column.offset, -MAX_NUMBER, MAX_NUMBER)
                check_number(f"fill of {column.name}", column.fill, -MAX_NUMBER, MAX_NUMBER)
        if not 1 <= self.in_features <= MAX_WIDTH:
            raise ValueError(f"A table must have 1 to {MAX_WIDTH:,} inputs, but has {self.in_features:,}.")

    @cached_property
    def in_features(self) -> int:
        """Inputs of a network."""
        return sum(features.size for features in self.layout())

    @property
    def out_features(self) -> int:
        """Outputs of a network."""
        return self.target.size

    def layout(self) -> tuple[Features, ...]:
        """Meaning of the inputs: a number is one, and the categories of a column are a group."""
        return tuple(features for column in self.columns for features in column.layout)

    def encode(self, frame: DataFrame) -> torch.Tensor:
        """Inputs `[N, I]`, float32, of a table with these columns by name; others are ignored.

        Rows are numbered from 1 in messages.

        Raises:
            `ValueError`: If a column is missing or repeated, or a cell of a number's column is none, or infinite.
        """
        check_columns(frame, [column.name for column in self.columns], "The table")
        names = [str(name) for name in frame.columns]
        repeated = [column.name for column in self.columns if names.count(column.name) > 1]
        if repeated:
            raise ValueError(f"The table must have one column {repeated[0]!r}, but has {names.count(repeated[0])}.")
        columns = {column.name: frame.iloc[:, names.index(column.name)] for column in self.columns}
        return self.encode_cells({name: parse_cells(series) for name, series in columns.items()})

    def encode_cells(self, cells: Mapping[str, Cells]) -> torch.Tensor:
        """[`~TableSchema.encode`] of a table that was parsed."""
        parts = [column.encode(cells[column.name]).astype(np.float32) for column in self.columns]
        return torch.from_numpy(np.concatenate(parts, axis=1))

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> TableSchema:
        """The schema of a file, which may come from anyone.

        Raises:
            `ValueError`: If it is no schema.
        """
        fields = _fields("schema", content, target=dict, columns=tuple[object, ...], dropped=tuple[object, ...])
        if len(fields["columns"]) + len(fields["dropped"]) > MAX_WIDTH:
            raise ValueError(f"`schema` must have at most {MAX_WIDTH:,} columns, but has more.")
        target = Target(**_fields("target", fields["target"], name=str, kind=str, classes=tuple[str, ...]))
        dropped = [DroppedColumn(**_fields("dropped", each, name=str, reason=str)) for each in fields["dropped"]]
        return cls(target, tuple(_column(each) for each in fields["columns"]), tuple(dropped))


def check_cells(name: str, cells: Cells, wrong: np.ndarray, wanted: str) -> None:
    """Raises `ValueError` with the first row where `wrong` `[N]` is true."""
    if wrong.any():
        row = int(wrong.argmax())
        value = cells.rows(np.array([row])).labels()[0]
        raise ValueError(f"Column {name!r} must hold {wanted} in every row, but row {row + 1} holds {shown(value)}.")


def check_finite(name: str, cells: Cells) -> None:
    """Raises `ValueError` with the first row whose number is infinite or above `MAX_NUMBER`."""
    check_cells(name, cells, np.abs(cells.numbers) > MAX_NUMBER, f"a finite number, {MAX_NUMBER:g} at most,")


def _missing_layout(column: Column) -> tuple[Features, ...]:
    return (Features(f"{column.name} is missing", 1, "0 or 1"),) if column.has_missing else ()


def _missing_inputs(column: Column, cells: Cells) -> list[np.ndarray]:
    return [cells.is_missing.astype(np.float64)] if column.has_missing else []


def _check_names(what: str, names: Any) -> None:
    if len(names) > MAX_WIDTH:
        raise ValueError(f"The names of {what} must be at most {MAX_WIDTH:,}, but there are {len(names):,}.")
    for name in names:
        if len(name) > MAX_NAME_LENGTH:
            raise ValueError(
                f"The names of {what} must have at most {MAX_NAME_LENGTH} characters, but received {shown(name)}."
            )
    if len(set(names)) != len(names):
        repeated = Counter(names).most_common(1)[0][0]
        raise ValueError(f"The names of {what} must differ, but {shown(repeated)} is there more than once.")


def _column(content: Any) -> Column:
    """A column of JSON; the one of categories has their names."""
    if isinstance(content, dict) and "categories" in content:
        fields = _fields("columns", content, name=str, categories=tuple[str, ...], has_missing=bool)
        return CategoryColumn(**fields)
    kinds = {"name": str, "offset": float, "fill": float, "has_missing": bool, "is_date": bool}
    return NumberColumn(**_fields("columns", content, **kinds))


def _fields(where: str, content: Any, **kinds: Any) -> dict[str, Any]:
    """The fields of a JSON object, which must be exactly these, each of its type."""
    if not isinstance(content, dict) or content.keys() != kinds.keys():
        received = sorted(map(str, content)) if isinstance(content, dict) else content
        raise ValueError(f"`{where}` must be an object of {sorted(kinds)}, but received {shown(received)}.")
    fields = {}
    for name, kind in kinds.items():
        try:
            fields[name] = checked(content[name], kind, name)
        except (ValueError, OverflowError):  # of another type, or an integer too large for a float
            wanted = _SHOWN_KINDS.get(kind, "a list")
            raise ValueError(f"`{where}.{name}` must be {wanted}, but received {shown(content[name])}.") from None
    return fields
