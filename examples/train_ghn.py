"""Stage 1: trains a Graph HyperNetwork (GHN) to generate working, distinct and aligned networks for a task.

    accelerate launch examples/train_ghn.py --task digits --output_dir outputs/digits/ghn

In Python: `nnit_diffusers.training.train_ghn`, which this script calls.
"""

import logging
from dataclasses import dataclass

import tyro
from accelerate import PartialState

from nnit_diffusers.tasks import load_task
from nnit_diffusers.training import GHNTrainingConfig, train_ghn


@dataclass(kw_only=True)
class Arguments(GHNTrainingConfig):
    """Trains a Graph HyperNetwork."""

    output_dir: str
    """Folder for checkpoints, logs and the final GHN (`ghn/`)."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data, or where to download it, if the task needs any."""


def main(arguments: Arguments) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    task = load_task(arguments.task, arguments.data_dir)
    train_ghn(task, arguments, arguments.output_dir)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
