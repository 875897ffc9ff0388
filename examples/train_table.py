"""Trains a generator of networks for a table, and predicts with networks of shapes that it never saw.

    python examples/train_table.py --output_dir outputs/wine

Without arguments the table is scikit-learn's wine: three classes of 178 wines by 13 measurements. Your own is a CSV or
Parquet file. The same from the command line:

    nnit train wine.csv --target class --output outputs/wine
    nnit generate outputs/wine --arch 25 --num-networks 8 --output networks
    nnit predict networks wine.csv
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from nnit_diffusers import evaluate
from nnit_diffusers.tasks.tables import load_table_task, predict_table, read_table
from nnit_diffusers.training import Recipe, train


@dataclass
class Arguments:
    """Trains a generator of networks for a table."""

    table: str = "outputs/wine.csv"
    """CSV or Parquet file; the default one is written first."""
    target: str = "class"
    """Column to predict."""
    output_dir: str = "outputs/wine"
    """Folder of the pipeline; the same command resumes an interrupted run."""
    recipe: str | None = None
    """Settings of all stages: a `recipe.json`, in place of those of the preset `small`."""


def write_wine(path: Path) -> None:
    from sklearn.datasets import load_wine

    path.parent.mkdir(parents=True, exist_ok=True)
    load_wine(as_frame=True).frame.rename(columns={"target": "class"}).to_csv(path, index=False)


def main(arguments: Arguments) -> None:
    if arguments.table == Arguments.table:
        write_wine(Path(arguments.table))
    task = load_table_task(arguments.table, arguments.target)
    print(task.describe())
    recipe = None if arguments.recipe is None else Recipe.from_pretrained(arguments.recipe)
    pipe = train(task, arguments.output_dir, recipe=recipe)
    networks = pipe([25], num_networks=8, generator=torch.Generator().manual_seed(0)).networks
    for result in evaluate(networks, task):
        low, high = result.confidence_interval
        print(f"{task.metric.title} {result.score:.1%}, 95% interval {low:.1%} to {high:.1%}")
    print(predict_table(networks, task.schema, read_table(arguments.table).frame).head())


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
