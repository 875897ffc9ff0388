"""The index of a weight dataset: a row for every network, and the data card that sums it up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..limits import MAX_ROWS, check_total
from .data_card import data_card
from .shards import list_shards, read_rows, whole_file


INDEX_NAME = "index.parquet"


def import_pyarrow() -> Any:
    """pyarrow with the modules used: only those who read or write datasets need it.

    Raises:
        `ImportError`: If it is not installed, with the command that does.
    """
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Weight datasets need pyarrow: `pip install nnit-diffusers[training]`.") from error
    return pyarrow


def index_schema() -> Any:
    """Columns of the index; see [`~ShardWriter.add`] for what they mean."""
    pa = import_pyarrow()
    return pa.schema(
        [
            ("shard", pa.string()),
            ("key", pa.string()),
            ("in_features", pa.int32()),
            ("hidden_sizes", pa.list_(pa.int32())),
            ("out_features", pa.int32()),
            ("activation", pa.string()),
            ("num_parameters", pa.int64()),
            ("task", pa.string()),
            ("region", pa.string()),
            ("origin", pa.string()),
            ("latent", pa.list_(pa.float32())),
            ("seed", pa.int64()),
            ("step", pa.int64()),
            ("score", pa.float64()),
        ]
    )


def write_index(folder: str | Path) -> None:
    """Writes the index and the data card of all shards of a folder, in place of those that are there.

    Raises:
        `ValueError`: If there are no shards, or one is not whole.
    """
    pa = import_pyarrow()
    rows = [row for _, path in list_shards(folder) for row in read_rows(path)]
    if not rows:
        raise ValueError(f"`folder` must hold shards of networks, but {str(folder)!r} holds none.")
    with whole_file(Path(folder) / "README.md") as temporary:
        temporary.write_text(data_card(rows), encoding="utf-8")
    with whole_file(Path(folder) / INDEX_NAME) as temporary:
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema=index_schema()), temporary)


def read_index(folder: str | Path, region: str | None) -> Any:
    """The index as a `pyarrow.Table`: the rows of one region, or all of them.

    Raises:
        `OSError`: If there is none.
        `ValueError`: If it is damaged, or has no row of the region.
    """
    pa, path = import_pyarrow(), Path(folder) / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: no weight dataset, or one not written to its end.")
    schema = index_schema()
    try:
        check_total("The rows of the index", pa.parquet.read_metadata(path).num_rows, MAX_ROWS)
        index = pa.parquet.read_table(path).select(schema.names).cast(schema)
    except (KeyError, OSError, ValueError, pa.ArrowException) as error:
        # A column that is missing or of another type, or no parquet.
        raise ValueError(f"{str(path)!r} is not the index of a weight dataset: {error}") from error
    selected = index if region is None else index.filter(pa.compute.equal(index["region"], region))
    if not len(selected):
        available = pa.compute.unique(index["region"]).to_pylist()
        raise ValueError(f"`region` must be None or one of {available} in {str(path)!r}, but received {region!r}.")
    return selected
