"""Trains nested slices, the baseline of the hypernetwork: one network for each depth, cut to every width.

    accelerate launch examples/train_nested.py --task digits --output_dir outputs/digits/nested

In Python: `nnit_diffusers.training.train_nested`, which this script calls.
"""

import logging
from dataclasses import dataclass

import tyro
from accelerate import PartialState

from nnit_diffusers.tasks import load_task
from nnit_diffusers.training import NestedTrainingConfig, train_nested


@dataclass(kw_only=True)
class Arguments(NestedTrainingConfig):
    """Trains nested slices."""

    output_dir: str
    """Folder for checkpoints, logs and the result (`nested/`)."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data, or where to download it, if the task needs any."""


def main(arguments: Arguments) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    task = load_task(arguments.task, arguments.data_dir)
    train_nested(task, arguments, arguments.output_dir)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
