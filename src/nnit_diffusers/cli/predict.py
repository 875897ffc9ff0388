"""`nnit predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from .command import Command, OptionalStr, Report, check_new_file
from .contracts import saved_spec
from .sources import FileOptions, fetch, is_file, load_networks


# Rows that are shown without `--output`.
_NUM_SHOWN = 20


@dataclass(kw_only=True)
class Predict(FileOptions, Command):
    """Predict the target of a table with networks that were generated for such a table.

    For example:

        nnit predict networks/network-0 new.csv
        nnit predict networks new.csv --output predictions.csv
        nnit predict policy.onnx new.csv --columns my-table

    The networks are what nnit generate or nnit search wrote for a pipeline of such a table. The new table needs the
    same columns, by name and in any order. Of several networks, the mean of their probabilities or numbers is taken.
    """

    source: Annotated[Positional[str], arg(metavar="NETWORK")]
    """Saved network, or a folder of them: a local folder or a Hub repository; or a file that nnit evaluate reads."""
    table: Annotated[Positional[str], arg(metavar="TABLE")]
    """CSV or Parquet file with the same columns; the target may be missing."""
    columns: OptionalStr = None
    """Pipeline or networks of the same table, for a network in a file, which does not record its columns."""
    output: OptionalStr = None
    """CSV file that gets the predictions, a row for each row of the table. Default: the first ones are printed."""
    force: bool = False
    """Replace the output file if it exists."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub repository. Default: its main branch."""

    def run(self) -> Report:
        from ..markdown import markdown_table
        from ..tasks.tables import TableSchema, predict_table, read_table
        from ..writing import write_bytes

        if self.output is not None:
            check_new_file(Path(self.output), self.force)
        if self.columns is None and is_file(self.source):
            raise ValueError(
                f"`--columns` must name a pipeline or networks of the table, because {self.source!r} does not record "
                "its columns."
            )
        source = self.columns or self.source
        spec = saved_spec(fetch(source, self.revision))
        if spec is None or spec.get("kind") != "table":
            raise ValueError(f"`NETWORK` must be made for a table, but {source!r} records none.")
        schema = TableSchema.from_dict(spec.get("schema"))

        # predict every row
        networks = list(load_networks(self.source, self.revision, self).values())
        predictions = predict_table(networks, schema, read_table(self.table).frame)
        payload: dict[str, Any] = {"table": self.table, "num_rows": len(predictions), "num_networks": len(networks)}
        if self.output is not None:
            write_bytes(Path(self.output), predictions.to_csv(index=False).encode())
            return Report(
                {**payload, "output": self.output}, f"{len(predictions):,} predictions are in {self.output}."
            )

        # the first rows as a table, or all of them as JSON
        columns = [str(name) for name in predictions.columns]
        rows = [[_shown(value) for value in row] for row in predictions.head(_NUM_SHOWN).itertuples(index=False)]
        text = markdown_table(columns, rows)
        if len(predictions) > _NUM_SHOWN:
            text += f"\n\nThe first {_NUM_SHOWN} of {len(predictions):,} rows; --output writes all of them."
        return Report({**payload, "predictions": predictions.to_dict(orient="records")}, text)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
