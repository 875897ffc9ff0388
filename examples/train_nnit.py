"""Stage 3: trains the NNiT transformer on an endless stream of GHN networks, or on a weight dataset.

    accelerate launch examples/train_nnit.py --task digits --ghn_name_or_path outputs/digits/ghn/ghn \
        --output_dir outputs/digits/nnit

In Python: `nnit_diffusers.training.train_nnit`, which this script calls.
"""

import logging
from dataclasses import dataclass

import tyro
from accelerate import PartialState

from nnit_diffusers import GraphHyperNetwork, NNiTTransformer
from nnit_diffusers.tasks import load_task
from nnit_diffusers.training import NNiTTrainingConfig, train_nnit


@dataclass(kw_only=True)
class Arguments(NNiTTrainingConfig):
    """Trains the NNiT transformer."""

    output_dir: str
    """Folder for checkpoints, logs and the final pipeline (`pipeline/`)."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data, or where to download it, if the task needs any."""
    ghn_name_or_path: str | None = None
    """GHN to draw training networks from: a folder or a Hub repository."""
    dataset_name: str | None = None
    """Weight dataset to train on instead: a folder or a Hub repository."""
    include_ghn: bool = True
    """Save the GHN as the pipeline's optional component."""
    pretrained_model_name_or_path: str | None = None
    """Pipeline, or checkpoint of this script, whose transformer to begin with; freshly initialised by default."""


def main(arguments: Arguments) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    ghn, dataset = arguments.ghn_name_or_path, arguments.dataset_name
    if (ghn is None) == (dataset is None):
        raise ValueError(
            f"One of `ghn_name_or_path` and `dataset_name` must be given, but received {ghn!r} and {dataset!r}."
        )
    task = load_task(arguments.task, arguments.data_dir)
    pretrained = arguments.pretrained_model_name_or_path
    train_nnit(
        task,
        GraphHyperNetwork.from_pretrained(ghn) if dataset is None else dataset,
        arguments,
        arguments.output_dir,
        pretrained=NNiTTransformer.from_pretrained(pretrained, subfolder="transformer") if pretrained else None,
        include_ghn=arguments.include_ghn,
    )
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
