"""Cells of a table as numbers, dates and texts: the same ones, whichever file the table comes from.

Shape legend: N rows.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    from pandas import DataFrame, Series

MISSING, NUMBER, BOOLEAN, DATE, TEXT = range(5)
"""Kinds of cells."""

# What pandas takes for missing in a CSV file, and the question mark of the UCI repository.
_MISSING_TEXTS = frozenset(
    ["", "?", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "nan", "null"]
)
_BOOLEANS = {"true": 1.0, "false": 0.0}
_ISO_DATE = re.compile(r"\d{4}[-/]\d{2}[-/]\d{2}(?![\d-])")
_MICROSECONDS_PER_DAY = 86_400_000_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Cells:
    """The cells of one column. Each is read by itself, so that no row changes how another one is read.

    Parameters:
        kinds (`np.ndarray`): `[N]`, uint8: `MISSING`, `NUMBER`, `BOOLEAN`, `DATE` or `TEXT`.
        numbers (`np.ndarray`): `[N]`, float64: a number, 0 or 1, or days since 1970; NaN for other kinds.
        texts (`np.ndarray`): `[N]`, objects: a text, or `None` for other kinds.
    """

    kinds: np.ndarray
    numbers: np.ndarray
    texts: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)

    def rows(self, chosen: np.ndarray) -> Cells:
        """The cells at these indices, or where this mask is true."""
        return Cells(self.kinds[chosen], self.numbers[chosen], self.texts[chosen])

    @property
    def is_missing(self) -> np.ndarray:
        """`[N]`: which cells are empty."""
        return self.kinds == MISSING

    def has_only(self, *kinds: int) -> bool:
        """Whether every cell is missing or of one of these kinds."""
        return bool(np.isin(self.kinds, (MISSING, *kinds)).all())

    def labels(self) -> np.ndarray:
        """`[N]`, objects: every cell as a text, such as `7` for the number 7.0; `None` where it is missing."""
        labels = self.texts.copy()
        for kind, shown in ((NUMBER, _shown_number), (BOOLEAN, _shown_boolean), (DATE, _shown_date)):
            chosen = self.kinds == kind
            distinct, indices = np.unique(self.numbers[chosen], return_inverse=True)
            labels[chosen] = np.array([shown(number) for number in distinct], dtype=object)[indices]
        return labels


def parse_frame(frame: DataFrame) -> dict[str, Cells]:
    """The cells of every column, by the name of the column."""
    return {str(name): parse_cells(frame[name]) for name in frame.columns}


def parse_cells(column: Series) -> Cells:
    """The cells of a column of any type. Texts that are numbers, dates (ISO 8601) or booleans are read as such."""
    import pandas as pd
    import pyarrow as pa

    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _taken(column.cat.categories, column.cat.codes.to_numpy())
    if types.is_float_dtype(column.dtype) and column.dtype.itemsize < 8:
        # a float32 of 0.1 is the 0.1 of a CSV file, and not 0.10000000149
        texts = pa.array(column.to_numpy(dtype=np.float32, na_value=np.nan), from_pandas=True).cast(pa.string())
        return _of_numbers(texts.cast(pa.float64()).to_numpy(zero_copy_only=False), NUMBER)
    if types.is_bool_dtype(column.dtype):
        return _of_numbers(column.to_numpy(dtype=np.float64, na_value=np.nan), BOOLEAN)
    if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
        return _of_numbers(column.to_numpy(dtype=np.float64, na_value=np.nan), NUMBER)
    if types.is_datetime64_any_dtype(column.dtype):
        times = column.dt.tz_convert(None) if column.dt.tz is not None else column
        microseconds = times.to_numpy().astype("datetime64[us]")
        days = np.where(np.isnat(microseconds), np.nan, microseconds.astype(np.int64) / _MICROSECONDS_PER_DAY)
        return _of_numbers(days, DATE)
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:  # lists and dictionaries, which have no hash
        codes, distinct = pd.factorize(column.map(str, na_action="ignore"))
    return _taken(distinct, codes)


def _taken(distinct: Any, codes: np.ndarray) -> Cells:
    """The cells of a column of N codes into its distinct values; the code -1 is a missing value."""
    quick = _as_numbers(distinct)
    if quick is not None:
        return _of_numbers(np.append(quick, np.nan)[codes], NUMBER)
    parsed = [_parse(value) for value in distinct] + [(MISSING, math.nan, None)]
    kinds, numbers, texts = zip(*parsed)
    cells = Cells(np.array(kinds, np.uint8), np.array(numbers, np.float64), np.array(texts, object))
    return cells.rows(codes)


def _as_numbers(distinct: Any) -> np.ndarray | None:
    """Numbers of texts, NaN for missing ones, as [`_parse`] reads them but quicker; `None` if a text is no number."""
    import pyarrow as pa
    from pyarrow import compute

    try:
        texts = compute.utf8_trim_whitespace(pa.array(distinct, pa.string()))
        is_missing = compute.is_in(texts, pa.array(sorted(_MISSING_TEXTS)))
        texts = compute.if_else(is_missing, None, texts)
        return texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError, ValueError):
        return None


def _of_numbers(numbers: np.ndarray, kind: int) -> Cells:
    kinds = np.where(np.isnan(numbers), MISSING, kind).astype(np.uint8)
    return Cells(kinds, numbers, np.full(len(numbers), None, dtype=object))


def _parse(value: Any) -> tuple[int, float, str | None]:
    """Kind, number and text of one value."""
    if isinstance(value, (bool, np.bool_)):
        return BOOLEAN, float(value), None
    if isinstance(value, datetime.datetime):
        return DATE, _days(value), None
    text = str(value).strip()
    if text in _MISSING_TEXTS:
        return MISSING, math.nan, None
    if text.lower() in _BOOLEANS:
        return BOOLEAN, _BOOLEANS[text.lower()], None
    try:
        # Python reads 1_000 as a number, and people do not
        number = float("x" if "_" in text else text)
    except ValueError:
        pass
    else:
        return (MISSING, math.nan, None) if math.isnan(number) else (NUMBER, number, None)
    if _ISO_DATE.match(text):
        try:
            return DATE, _days(datetime.datetime.fromisoformat(text.replace("/", "-"))), None
        except ValueError:  # there is no 31st of June
            pass
    return TEXT, math.nan, text


def _days(time: datetime.datetime) -> float:
    """Days since 1970; a time without a zone is in UTC."""
    time = time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)
    return ((time - _EPOCH) // datetime.timedelta(microseconds=1)) / _MICROSECONDS_PER_DAY


def _shown_number(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(float(number))


def _shown_boolean(number: float) -> str:
    return str(bool(number))


def _shown_date(days: float) -> str:
    time = np.datetime64(round(days * _MICROSECONDS_PER_DAY), "us").item()
    return str(time.date()) if time.time() == datetime.time() else time.isoformat(" ")


def require_pandas() -> None:
    """Raises `ImportError`, with what to install, if pandas or pyarrow is missing."""
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError("Tables need pandas: `pip install nnit-diffusers[tables]`.") from error


def rows_of(cells: Mapping[str, Cells], chosen: np.ndarray) -> dict[str, Cells]:
    """The same rows of every column."""
    return {name: column.rows(chosen) for name, column in cells.items()}
