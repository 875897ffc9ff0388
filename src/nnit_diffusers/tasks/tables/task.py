"""Tasks of a table: classes or numbers to predict from its other columns.

Shape legend: B networks, N samples, I inputs of a network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...executors import NumWorkers
from ...loading.limits import MAX_DEPTH, MAX_WIDTH, check_size, shown
from ...networks import Network
from ...regions import GRID
from ...writing import replacing_file, replacing_folder
from ..base import DATA_SPLITS, Score, Task
from ..classification import ClassificationTask
from ..metadata import Features
from ..regression import RegressionTask
from .cells import BOOLEAN, MISSING, NUMBER, Cells, parse_frame
from .inference import infer_schema
from .reading import check_columns, read_table
from .report import describe_columns, describe_rows, describe_target
from .schema import TableSchema, TargetKind, check_cells, check_finite
from .splits import split_of_cells


MIN_ROWS = 50
"""Rows with a target that a table needs."""

_SPEC = ("kind", "name", "source", "target", "schema", "grid")


@dataclass(frozen=True)
class TableRows:
    """The rows of a table with a target, as networks take them.

    Parameters:
        inputs (`torch.Tensor`): `[N, I]`, float32.
        targets (`torch.Tensor`): Labels `[N]`, int64, or numbers `[N, 1]`, float32.
        split (`np.ndarray`): `[N]`: one of `DATA_SPLITS`.
        num_without_target (`int`): Rows that were left out, for their target is missing.
        num_missing (`Mapping[str, int]`): Missing cells of every column that has some, in the rows for training.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    split: np.ndarray
    num_without_target: int
    num_missing: Mapping[str, int]

    def targets_of(self, split: str) -> torch.Tensor:
        """The targets of one split."""
        return self.targets[torch.from_numpy(self.split == split)]


class TableTask(Task):
    """A table; made by [`load_table_task`].

    Attributes:
        source (`str`): Where the table was read.
        schema ([`TableSchema`]): How its columns become inputs.
        rows ([`TableRows`]): Its rows.
    """

    source: str
    schema: TableSchema
    rows: TableRows
    # Columns may have any unit, and constant ones are no inputs. The square is above the smallest float32.
    min_observation_std = 1e-18

    def __init__(self, name: str, source: str, schema: TableSchema, rows: TableRows, grid: Mapping[str, int]):
        self.name, self.source, self.schema, self.rows = name, source, schema, rows
        self.in_features, self.out_features = schema.in_features, schema.out_features
        self.min_width, self.max_width = grid["min_width"], grid["max_width"]
        self.min_depth, self.max_depth = grid["min_depth"], grid["max_depth"]

    @property
    def description(self) -> str:
        target, columns = self.schema.target, self.schema.columns
        kind = f"one of {target.size} classes" if target.kind == "classes" else "a number"
        return (
            f"Predict {target.name!r}, {kind}, from {len(columns)} {'column' if len(columns) == 1 else 'columns'} of "
            f"{Path(self.source).name!r}, a table of {len(self.rows.split):,} rows."
        )

    @property
    def observation_layout(self) -> tuple[Features, ...]:
        return self.schema.layout()

    def load(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one of `DATA_SPLITS`."""
        chosen = torch.from_numpy(self.rows.split == split)
        return self.rows.inputs[chosen], self.rows.targets[chosen]

    def describe(self) -> str:
        """What was found in the table, line by line: rows, splits, columns, and what to know of the target."""
        lines = [
            *describe_rows(self.name, self.rows.split, self.rows.num_without_target, self.schema.target.name),
            *describe_columns(self.schema, self.rows.num_missing),
            *describe_target(self.schema.target, {split: self.rows.targets_of(split) for split in DATA_SPLITS}),
        ]
        return "\n".join(lines)

    def copy_source(self, folder: Path) -> None:
        """Copies the table into a folder under its own name, so that it is found there later.

        A data set of the Hub stays where it is.

        Raises:
            `OSError`: If it cannot be read or written.
        """
        source = Path(self.source)
        target = folder / source.name
        if target.exists() or not source.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            with replacing_folder(target) as new:
                shutil.copytree(source, new, dirs_exist_ok=True)
        else:
            with replacing_file(target) as temporary:
                shutil.copyfile(source, temporary)

    def spec(self) -> dict[str, Any]:
        """What [`table_task_from_spec`] makes the task from again, as JSON has it."""
        return {
            "kind": "table",
            "name": self.name,
            "source": self.source,
            "target": self.schema.target.name,
            "schema": self.schema.to_dict(),
            "grid": self.grid,
        }


class TableClassificationTask(TableTask, ClassificationTask):
    """Classes of a table; a score has the balanced accuracy as well, for accuracy misleads where a class is rare."""

    label_smoothing = 0.1

    @property
    def action_layout(self) -> tuple[Features, ...]:
        return tuple(Features(name, 1, "logit") for name in self.schema.target.classes)

    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: NumWorkers = None,
    ) -> list[Score]:
        """Scores networks; see [`ClassificationTask.score`].

        The metric `balanced_accuracy` is the mean over classes of the share of correct predictions. It is over all
        samples of the split, whatever `num_episodes`.
        """
        scores = super().score(networks, split=split, num_episodes=num_episodes, seed=seed)
        inputs, labels = self.data(split)
        is_correct_BN = (self.predict(networks, inputs) == labels).double()
        shares_BO = torch.stack([is_correct_BN[:, labels == each].mean(dim=1) for each in labels.unique()], dim=1)
        return [
            Score(score.num_successes, score.num_episodes, {**score.metrics, "balanced_accuracy": balanced})
            for score, balanced in zip(scores, shares_BO.mean(dim=1).tolist())
        ]


class TableRegressionTask(TableTask, RegressionTask):
    """Numbers of a table."""

    @property
    def action_layout(self) -> tuple[Features, ...]:
        return (Features(self.schema.target.name, 1),)


def load_table_task(
    source: str | os.PathLike[str],
    target: str,
    *,
    name: str | None = None,
    kind: TargetKind | None = None,
    schema: TableSchema | None = None,
    min_width: int = 8,
    max_width: int = 48,
    min_depth: int = 1,
    max_depth: int = 3,
) -> TableClassificationTask | TableRegressionTask:
    """A task of predicting one column of a table from the others.

    Parameters:
        source (`str` or `Path`): A file, or a data set; see [`~tables.reading.read_table`].
        target (`str`): Name of the column to predict. Rows without it are left out.
        name (`str`, *optional*): Name of the task; that of the file by default.
        kind (`str`, *optional*):
            `"classes"` or `"numbers"`. By default, texts and booleans are classes, and so are up to 20 different
            integers.
        schema ([`TableSchema`], *optional*): Columns and classes to take. They are inferred by default.
        min_width, max_width (`int`, default to 8 and 48): Inclusive range of widths in training.
        min_depth, max_depth (`int`, default to 1 and 3): Inclusive range of the number of hidden layers.

    Raises:
        `OSError`, `ImportError`: See [`~tables.reading.read_table`].
        `ValueError`: If the table cannot be read, has no such column or fewer than 50 rows, or does not fit `schema`.
    """
    source = os.fspath(source)
    table = read_table(source)
    check_columns(table.frame, [target], f"The table {source!r}")
    cells = parse_frame(table.frame)

    # rows with a target, and their splits
    has_target = ~cells[target].is_missing
    if has_target.sum() < MIN_ROWS:
        raise ValueError(
            f"A table must have {MIN_ROWS} rows with a target or more, but {source!r} has {has_target.sum()} with a "
            f"{target!r}."
        )
    split = split_of_cells(cells, table.split)
    is_train = has_target & (split == "train")
    for each in DATA_SPLITS:
        if not (has_target & (split == each)).any():
            raise ValueError(f"Every split of {source!r} must have rows with a target, but {each!r} has none.")

    # inputs and targets; messages have the rows of the file
    if schema is None:
        schema = infer_schema(cells, is_train, target, kind)
    elif (target, kind or schema.target.kind) != (schema.target.name, schema.target.kind):
        raise ValueError(
            f"`target` and `kind` must be {schema.target.name!r} and {schema.target.kind!r} by `schema`, but received "
            f"{target!r} and {kind!r}."
        )
    check_columns(table.frame, [column.name for column in schema.columns], f"The table {source!r}")
    rows = TableRows(
        schema.encode_cells(cells)[torch.from_numpy(has_target)],
        _encode_target(schema, cells[target])[torch.from_numpy(has_target)],
        split[has_target],
        int((~has_target).sum()),
        {each: count for each in cells if (count := int(cells[each].rows(is_train).is_missing.sum()))},
    )
    grid = {"min_width": min_width, "max_width": max_width, "min_depth": min_depth, "max_depth": max_depth}
    task_class = TableClassificationTask if schema.target.kind == "classes" else TableRegressionTask
    task = task_class(name or _stem(source), source, schema, rows, grid)
    # the grid, and what the targets must be for a score
    _ = task.regions
    for each in DATA_SPLITS:
        task.data(each)
    return task


def table_task_from_spec(
    spec: Any, source: str | os.PathLike[str] | None = None
) -> TableClassificationTask | TableRegressionTask:
    """The task of a specification, which may come from anyone's folder, with the schema that is recorded there.

    Parameters:
        spec: What [`~TableTask.spec`] returned, as read from JSON.
        source (`str` or `Path`, *optional*): Where the table is, if it is no longer where it was.

    Raises:
        `OSError`, `ImportError`: See [`load_table_task`].
        `ValueError`: If it is no specification of a table, or the table does not fit it.
    """
    if not isinstance(spec, dict) or spec.keys() != set(_SPEC) or spec["kind"] != "table":
        received = sorted(map(str, spec)) if isinstance(spec, dict) else spec
        raise ValueError(f"A table's task must be specified by {_SPEC}, but received {shown(received)}.")
    for field in ("name", "source", "target"):
        if not isinstance(spec[field], str):
            raise ValueError(f"`{field}` of a table's task must be a text, but received {shown(spec[field])}.")
    grid = spec["grid"]
    if not isinstance(grid, dict) or grid.keys() != set(GRID):
        raise ValueError(f"`grid` of a table's task must have {GRID}, but received {shown(grid)}.")
    for field in GRID:
        check_size(field, grid[field], MAX_DEPTH if field.endswith("depth") else MAX_WIDTH)
    schema = TableSchema.from_dict(spec["schema"])
    try:
        return load_table_task(source or spec["source"], spec["target"], name=spec["name"], schema=schema, **grid)
    except OSError as error:
        if source is not None:
            raise
        raise FileNotFoundError(
            f"The table of {spec['name']!r} is no longer at {spec['source']!r}; give its place with `source`. {error}"
        ) from error


def _encode_target(schema: TableSchema, cells: Cells) -> torch.Tensor:
    """Labels `[N]` or numbers `[N, 1]`; of rows without a target, any."""
    target = schema.target
    if target.kind == "numbers":
        check_cells(target.name, cells, ~np.isin(cells.kinds, (MISSING, NUMBER, BOOLEAN)), "a number")
        check_finite(target.name, cells)
        return torch.from_numpy(np.nan_to_num(cells.numbers)).float()[:, None]
    index_of = {name: index for index, name in enumerate(target.classes)}
    labels = np.array([index_of.get(label, -1) for label in cells.labels()])
    classes = f"a class of training ({', '.join(map(repr, target.classes[:10]))}{', …' * (target.size > 10)})"
    check_cells(target.name, cells, (labels < 0) & ~cells.is_missing, classes)
    return torch.from_numpy(labels)


def _stem(source: str) -> str:
    """Name of a file or a data set without folders and suffixes."""
    name = Path(source).resolve().name if os.path.exists(source) else source.rpartition("/")[2]
    return name.removesuffix(".gz").rsplit(".", 1)[0]
