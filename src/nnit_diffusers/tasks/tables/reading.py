"""Reads tables: CSV and Parquet files, and data sets of the `datasets` library."""

from __future__ import annotations

import csv
import difflib
import gzip
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...loading.limits import check_total
from ...loading.local import unavailable
from ..base import DATA_SPLITS
from .cells import require_pandas


if TYPE_CHECKING:
    from pandas import DataFrame

MAX_TABLE_BYTES = 2**30
"""Size of a table, as a file and uncompressed."""
MAX_TABLE_CELLS = 10**8
"""Rows times columns of a table."""

_TEXT_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_SUFFIXES = (*_TEXT_SUFFIXES, ".parquet")
_HUB_NAME = re.compile(r"[\w-]+|[\w-][\w.-]*/[\w-][\w.-]*")
# Other names of the splits in data sets of the Hub.
_SPLIT_NAMES = {"valid": "validation", "val": "validation", "dev": "validation", "eval": "validation"}
# Names that pandas gives to the numbers of the rows.
_INDEX_NAME = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
_DECIMAL_COMMA = r"^\s*([+-]?\d+),(\d+)\s*$"
_CHUNK_BYTES = 2**24
# Characters of another library's message, which may quote a complete row.
_MAX_REASON = 300


class Table(NamedTuple):
    """A table, and the splits that it comes with.

    Parameters:
        frame (`DataFrame`): The rows; the names of the columns are different texts.
        split (`np.ndarray`, *optional*): `[N]`: one of `DATA_SPLITS` for every row, if the data set has splits.
    """

    frame: DataFrame
    split: np.ndarray | None = None


def read_table(source: str | os.PathLike[str], data_split: str | None = None) -> Table:
    """Reads a table.

    Columns without a name, where pandas keeps the numbers of the rows, are left out.

    Parameters:
        source (`str` or `Path`):
            A `.csv`, `.tsv`, `.csv.gz`, `.tsv.gz` or `.parquet` file, a folder of `save_to_disk` of `datasets`, or a
            data set of the Hub. The delimiter of a text file is a comma, semicolon, tab or bar, whichever divides its
            first line into most columns.
        data_split (`str`, *optional*): The split of a data set to read; all of them by default.

    Raises:
        `OSError`: If there is no such file, or a data set cannot be downloaded.
        `ValueError`: If the file is empty, truncated, too large, or no table.
        `ImportError`: If pandas or datasets is missing.
    """
    require_pandas()
    name = os.fspath(source)
    path = Path(source)
    if path.is_dir() or (not path.exists() and not name.endswith(_SUFFIXES) and _HUB_NAME.fullmatch(name)):
        return _read_data_set(name, data_split)
    if not path.is_file():
        raise FileNotFoundError(f"There is no table {name!r}.")
    if data_split is not None:
        raise ValueError(f"`data_split` is for data sets with splits, but {name!r} is a file.")
    if not name.endswith(_SUFFIXES):
        raise ValueError(f"A table must be a file of {', '.join(_SUFFIXES)}, or a data set, but received {name!r}.")
    _check_bytes(name, path.stat().st_size)
    if path.stat().st_size == 0:
        raise ValueError(f"{name!r} is empty.")
    return Table(_frame(_read_parquet(path) if name.endswith(".parquet") else _read_text(path), name))


def check_columns(frame: DataFrame, names: Sequence[str], what: str) -> None:
    """Raises `ValueError` if a column is missing; the message has the nearest name, and those that there are."""
    present = [str(name) for name in frame.columns]
    missing = [name for name in names if name not in present]
    if not missing:
        return
    near = difflib.get_close_matches(missing[0], present, n=1)
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    listed = ", ".join(map(repr, present[:20])) + (f" and {len(present) - 20} more" if len(present) > 20 else "")
    raise ValueError(
        f"{what} must have a column {missing[0]!r}{more}, but has {listed or 'none'}."
        + (f" Is {near[0]!r} meant?" if near else "")
    )


def _read_text(path: Path) -> Any:
    """An arrow table of texts."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    opened = gzip.open if path.suffix == ".gz" else open
    try:
        # the uncompressed size, and the first line
        with opened(path, "rb") as file:
            first_line = file.readline(_CHUNK_BYTES).decode("utf-8-sig")
            num_bytes = len(first_line)
            while chunk := file.read(_CHUNK_BYTES):
                num_bytes += len(chunk)
                _check_bytes(str(path), num_bytes)
        rows = [next(csv.reader([first_line], delimiter=each), []) for each in ",;\t|"]
        names = max(rows, key=len)
        delimiter = ",;\t|"[rows.index(names)]

        # columns of texts; the same text is kept once
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(use_threads=False),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.dictionary(pa.int32(), pa.string()))
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError, EOFError, OSError, zlib.error, csv.Error) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise ValueError(f"{str(path)!r} must be UTF-8 text, but is not. Save it as UTF-8.") from error
        raise _damaged(str(path), error) from error
    return _with_points(table) if delimiter == ";" else table


def _with_points(table: Any) -> Any:
    """A table of texts with points for decimal commas, which files that are separated by semicolons have."""
    from pyarrow import compute

    columns = [column.cast("string") for column in table.columns]
    texts = [compute.replace_substring_regex(column, _DECIMAL_COMMA, r"\1.\2") for column in columns]
    return table.from_arrays([text.dictionary_encode() for text in texts], names=table.column_names)


def _read_parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
            groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
            _check_bytes(str(path), sum(group.total_byte_size for group in groups))
            _check_cells(str(path), metadata.num_rows, metadata.num_columns)
            texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
        return parquet.read_table(path, read_dictionary=texts, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(str(path), error) from error


def _read_data_set(name: str, data_split: str | None) -> Table:
    """A data set of a folder or the Hub, as one frame."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError("Data sets need datasets: `pip install datasets`.") from error

    # one split or several, which are mapped into memory
    if os.path.isdir(name):
        _check_bytes(name, sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file()))
        try:
            loaded = datasets.load_from_disk(name)
        except Exception as error:  # whatever a damaged or foreign folder leads to
            raise ValueError(
                f"{name!r} must be a folder that `save_to_disk` of datasets wrote, but could not be read: "
                f"{_one_line(error)}"
            ) from error
    else:
        try:
            loaded = datasets.load_dataset(name)
        except Exception as error:
            raise unavailable(name, error) from error
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"all": loaded}
    splits = {_SPLIT_NAMES.get(str(split), str(split)): rows for split, rows in splits.items()}
    if data_split is not None:
        if data_split not in splits:
            raise ValueError(f"`data_split` must be one of {sorted(splits)}, but received {data_split!r}.")
        splits = {data_split: splits[data_split]}
    return _joined(splits, name)


def _joined(splits: dict[str, Any], name: str) -> Table:
    """The rows of several splits in one frame; a single split is taken for the complete table."""
    import pandas as pd

    if len(splits) > 1 and ("train" not in splits or not set(splits) <= set(DATA_SPLITS)):
        raise ValueError(
            f"{name!r} must have the splits {DATA_SPLITS}, or 'train' and one of the others, but has {sorted(splits)}."
        )
    frames = {}
    for split, rows in splits.items():
        _check_cells(name, rows.num_rows, rows.num_columns)
        _check_bytes(name, rows.data.nbytes)
        # the stored values, whatever format the data set has; classes by name
        frame = _frame(rows.data.table, name)
        for column, feature in rows.features.items():
            names = getattr(feature, "names", None)
            if names and column in frame:
                frame[column] = _class_names(frame[column], names)
        frames[split] = frame
    joined = pd.concat(list(frames.values()), ignore_index=True)
    if len(frames) == 1:
        return Table(joined)
    return Table(joined, np.concatenate([np.full(len(frame), split, object) for split, frame in frames.items()]))


def _class_names(labels: Any, names: Sequence[str]) -> Any:
    """Labels of a `ClassLabel` column by name. The label -1 is a missing one."""
    return labels.map(dict(enumerate(names)))


def _frame(table: Any, name: str) -> DataFrame:
    """A frame of an arrow table, with names that were checked."""
    _check_cells(name, table.num_rows, table.num_columns)
    names = [column.strip() for column in table.column_names]
    kept = [index for index, column in enumerate(names) if not _INDEX_NAME.fullmatch(column)]
    names = [names[index] for index in kept]
    duplicates = sorted({column for column in names if names.count(column) > 1})
    if duplicates:
        raise ValueError(f"{name!r} must have columns of different names, but has {duplicates[0]!r} more than once.")
    return table.select(kept).rename_columns(names).to_pandas(ignore_metadata=True)


def _check_bytes(name: str, num_bytes: int) -> None:
    check_total(f"The bytes of {name!r}", num_bytes, MAX_TABLE_BYTES, "Give fewer rows.")


def _check_cells(name: str, num_rows: int, num_columns: int) -> None:
    check_total(f"The cells of {name!r}", num_rows * num_columns, MAX_TABLE_CELLS, "Give fewer rows.")


def _damaged(name: str, error: BaseException) -> ValueError:
    return ValueError(f"{name!r} is truncated or no table: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON]
