"""Makes the folder that is published from the output of the training scripts: weights, records, model card.

    python examples/build_hub_repo.py --pipeline_dir outputs/digits/nnit/pipeline --repo_dir nnit/digits
    python examples/evaluate_nnit.py --pretrained_model_name_or_path nnit/digits
    python examples/figures/plot_evaluation.py --evaluation_path nnit/digits/evaluation.json
    python examples/build_hub_repo.py --repo_dir nnit/digits

`nnit train` does all of this in one command. The first call saves the weights, so that the published weights are the
evaluated ones, and `contract.json`: what the networks take and return. The last one writes the card from the
evaluation and its pictures. For a robot task, `--film_dir` adds the film made by `examples/figures/film_rollouts.py`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from nnit_diffusers import NNiTPipeline, contract_of
from nnit_diffusers.cards import write_card, write_pipeline
from nnit_diffusers.cards.robot import copy_film
from nnit_diffusers.contract import CONTRACT_NAME
from nnit_diffusers.loading.local import read_json_object
from nnit_diffusers.tasks import load_task
from nnit_diffusers.writing import write_json


@dataclass
class Arguments:
    """Makes the folder of a Hub repository."""

    repo_dir: str
    """Folder to make, `nnit/<task>`."""
    pipeline_dir: str | None = None
    """Trained pipeline whose weights to publish. Default: keep the weights in the folder."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    model_id: str | None = None
    """Repository that the card's example loads. Default: the last two parts of `repo_dir`."""
    leave_out: tuple[Literal["ghn", "nested"], ...] = ()
    """Optional components that are not published, where the folder would be too large."""
    film_dir: str | None = None
    """Folder of a film made by `film_rollouts.py`, to be copied."""
    example_architecture: tuple[int, ...] | None = None
    """Architecture in the card's example. Default: that of the evaluation."""
    example_budget: int | None = None
    """Parameter budget in the card's example. Default: that of the evaluation."""


def training_records(pipeline_dir: Path) -> dict[str, Any]:
    """Records of the training runs of the transformer and of its GHN, without those that are missing.

    If the transformer started from the weights of an earlier run, the later run is its tuning.

    Raises:
        `ValueError`: If there is no record beside the pipeline.
    """
    # the last training run, and the one that it started from
    last = read_training(pipeline_dir)
    if last is None:
        raise ValueError(
            "`pipeline_dir` must be the `pipeline` folder of a training run, with `training.json` beside it, but "
            f"received {str(pipeline_dir)!r}."
        )
    first = read_training(last["arguments"].get("pretrained_model_name_or_path"))
    records = {
        "training_ghn.json": read_training(last["arguments"].get("ghn_name_or_path")),
        "training_nnit.json": first or last,
        "training_tuning.json": first and last,
    }
    return {name: record for name, record in records.items() if record is not None}


def read_training(trained: str | Path | None) -> dict[str, Any] | None:
    """The record beside the output of a training run, or `None` if there is none."""
    if trained is None:
        return None
    path = Path(trained).parent / "training.json"
    return read_json_object(path) if path.exists() else None


def leave_out(repo_dir: Path, names: Sequence[str]) -> None:
    """Removes optional components from a pipeline's folder, and from its index first."""
    if names:
        path = repo_dir / NNiTPipeline.config_name
        write_json(path, read_json_object(path) | {name: [None, None] for name in names})
    for name in names:
        shutil.rmtree(repo_dir / name, ignore_errors=True)


def main(arguments: Arguments) -> None:
    repo_dir, task = Path(arguments.repo_dir), load_task(arguments.task)
    if arguments.pipeline_dir is not None:
        pipeline_dir = Path(arguments.pipeline_dir)
        write_pipeline(pipeline_dir, repo_dir, training_records(pipeline_dir))
    if not (repo_dir / CONTRACT_NAME).exists():
        # what the networks take and return, from the task itself: for a robot, from its environment
        write_json(repo_dir / CONTRACT_NAME, contract_of(task).to_dict())
    leave_out(repo_dir, arguments.leave_out)
    if arguments.film_dir is not None:
        copy_film(Path(arguments.film_dir), repo_dir)
    if not (repo_dir / "evaluation.json").exists():
        print(f"{repo_dir / 'evaluation.json'} is missing: run examples/evaluate_nnit.py, then this script again.")
        return
    write_card(
        repo_dir,
        task,
        model_id=arguments.model_id,
        example_architecture=arguments.example_architecture,
        example_budget=arguments.example_budget,
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
