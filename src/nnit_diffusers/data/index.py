"""The index of a weight dataset, with a row for every network, and the data card made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..loading.limits import MAX_ROWS, check_total
from ..writing import replacing_file, write_bytes
from .data_card import data_card
from .shards import list_shards, read_rows


INDEX_NAME = "index.parquet"


def import_pyarrow() -> Any:
    """Imports pyarrow, which only reading and writing datasets needs.

    Raises:
        `ImportError`: If pyarrow is not installed; the message gives the command that installs it.
    """
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Weight datasets need pyarrow: `pip install nnit-diffusers[training]`.") from error
    return pyarrow


def index_schema() -> Any:
    """Columns of the index; [`~ShardWriter.add`] describes them."""
    pa = import_pyarrow()
    return pa.schema(
        [
            # location of the weights
            ("shard", pa.string()),
            ("key", pa.string()),
            # architecture
            ("in_features", pa.int32()),
            ("hidden_sizes", pa.list_(pa.int32())),
            ("out_features", pa.int32()),
            ("activation", pa.string()),
            ("num_parameters", pa.int64()),
            # provenance
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
    """Writes the index and the data card of all shards of a folder, and replaces existing ones.

    Raises:
        `ValueError`: If there are no shards, or one is damaged.
    """
    pa = import_pyarrow()
    rows = [row for _, path in list_shards(folder) for row in read_rows(path)]
    if not rows:
        raise ValueError(f"`folder` must hold shards of networks, but {str(folder)!r} holds none.")
    write_bytes(Path(folder) / "README.md", data_card(rows).encode())
    with replacing_file(Path(folder) / INDEX_NAME) as temporary:
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema=index_schema()), temporary)


def read_index(folder: str | Path, region: str | None) -> Any:
    """The index as a `pyarrow.Table`: the rows of one region, or all of them.

    Raises:
        `OSError`: If there is no index.
        `ValueError`: If the index is damaged, or has no row of the region.
    """
    pa, path = import_pyarrow(), Path(folder) / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: not a weight dataset, or an unfinished one.")
    # read the columns of the schema, after a check of their size
    schema = index_schema()
    try:
        check_total("The rows of the index", pa.parquet.read_metadata(path).num_rows, MAX_ROWS)
        index = pa.parquet.read_table(path).select(schema.names).cast(schema)
    except (KeyError, OSError, ValueError, pa.ArrowException) as error:
        # a missing column, a column of another type, or not a Parquet file
        raise ValueError(f"{str(path)!r} is not the index of a weight dataset: {error}") from error
    rows = index if region is None else index.filter(pa.compute.equal(index["region"], region))
    if not len(rows):
        available = pa.compute.unique(index["region"]).to_pylist()
        raise ValueError(f"`region` must be None or one of {available} in {str(path)!r}, but received {region!r}.")
    return rows
