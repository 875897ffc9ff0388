"""Stage 5: makes the folder that is published: weights in half precision, `pipeline.py`, training records, model card.

    python examples/build_hub_repo.py --pipeline_dir outputs/digits/nnit/pipeline --repo_dir nnit/digits
    python examples/evaluate_nnit.py --pretrained_model_name_or_path nnit/digits
    python examples/figures/plot_evaluation.py --evaluation_path nnit/digits/evaluation.json
    python examples/build_hub_repo.py --repo_dir nnit/digits

The first call saves the weights, so that the published weights are the evaluated ones. The last one writes the card
from `model_card.md`, the evaluation and its pictures. For a robot task, `--film_dir` adds the film made by
`examples/figures/film_rollouts.py`. The card then shows the film, the failures, and how to run a rollout.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from evaluation_report import DATA_SETS, PICTURES, protocol, report_tables
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from robot_card import DEFINITIONS, copy_film, robot_tables

from nnit_diffusers import NNiTPipeline, get_task
from nnit_diffusers.hub import LIBRARY_NAME
from nnit_diffusers.pipelines.budget import MAX_WIDTH_FACTOR
from nnit_diffusers.pipelines.loading import PIPELINE_FILE, PIPELINE_FILE_NAME
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.utils import write_json


CARD_TEMPLATE = Path(__file__).parents[1] / "model_card.md"
# Metric and task as the Hub names them.
METRIC_OF_DATA_SETS = ("accuracy", "image-classification")
METRIC_OF_POLICIES = ("success_rate", "robotics")
# Records of training runs, and their titles in the card.
TRAINING_TITLES = {
    "training_ghn.json": "<code>examples/train_ghn.py</code>",
    "training_nnit.json": "<code>examples/train_nnit.py</code>",
    "training_tuning.json": "<code>examples/train_nnit.py</code>, tuning of these weights",
}


@dataclass
class Arguments:
    """Makes the folder of a Hub repository."""

    repo_dir: str
    """Folder to make, `nnit/<task>`."""
    pipeline_dir: str | None = None
    """Trained pipeline whose weights to publish. Default: keep the weights in the folder."""
    task: str = "digits"
    """Name of a registered task."""
    film_dir: str | None = None
    """Folder of a film made by `film_rollouts.py`, to be copied."""
    example_architecture: tuple[int, ...] | None = None
    """Architecture in the card's example. Default: 48 40, and 128 256 for robots."""
    example_budget: int | None = None
    """Parameter budget in the card's example. Default: 4,000, and 20,000 for robots."""


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
    first = read_training(last["arguments"]["pretrained_model_name_or_path"])
    records = {
        "training_ghn.json": read_training(last["arguments"]["ghn_name_or_path"]),
        "training_nnit.json": first or last,
        "training_tuning.json": first and last,
    }
    return {name: record for name, record in records.items() if record is not None}


def read_training(trained: str | Path | None) -> dict[str, Any] | None:
    """The record beside the output of a training run, or `None` if there is none."""
    if trained is None:
        return None
    path = Path(trained).parent / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_weights(pipeline_dir: Path, repo_dir: Path) -> None:
    """Copies a pipeline in half precision, with the records of its training runs.

    The folder is written elsewhere and then moved, so that `repo_dir` never holds a part of a pipeline.
    """
    pipeline = NNiTPipeline.from_pretrained(pipeline_dir, dtype=torch.float16)
    repo_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=repo_dir.parent) as temporary:
        new = Path(temporary) / "new"
        pipeline.save_pretrained(new)
        (new / PIPELINE_FILE_NAME).write_text(PIPELINE_FILE)
        for name, record in training_records(pipeline_dir).items():
            write_json(new / name, record)
        if repo_dir.exists():
            repo_dir.rename(Path(temporary) / "old")
        new.rename(repo_dir)


def card_data(task_name: str, report: dict[str, Any]) -> ModelCardData:
    """Metadata of the card, with the results of the evaluation as `model-index`."""
    is_robot = task_name not in DATA_SETS
    metric, task_type = METRIC_OF_POLICIES if is_robot else METRIC_OF_DATA_SETS
    # screened policies run in validation episodes, and only the best of them in test episodes
    data_split = "validation" if is_robot and report.get("settings", {}).get("num_final_episodes") else "test"
    results = [
        EvalResult(
            task_type=task_type,
            dataset_type=task_name,
            dataset_name=f"{task_name}, networks of region {region}",
            dataset_config=region,
            dataset_split=data_split,
            metric_type=metric,
            metric_name=f"mean {metric.replace('_', ' ')} of all generated networks",
            metric_value=round(part["nnit"]["mean"], 4),
            **(source_of(task_name, part["nnit"]) if is_robot else {}),
        )
        for region, part in report.get("regions", {}).items()
    ]
    return ModelCardData(
        license="apache-2.0",
        library_name=LIBRARY_NAME,
        pipeline_tag=task_type if is_robot else None,
        tags=[
            "nnit",
            "weight-generation",
            "hypernetwork",
            "diffusion",
            task_name,
            *(["maniskill3"] if is_robot else []),
        ],
        model_name=f"nnit/{task_name}",
        eval_results=results or None,
    )


def source_of(task_name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a result besides its value: the interval, and the file that holds it."""
    source = {
        "source_name": "evaluation.json",
        "source_url": f"https://huggingface.co/nnit/{task_name}/blob/main/evaluation.json",
    }
    if "interval" in summary:
        source["metric_args"] = {"confidence_interval_95": [round(bound, 4) for bound in summary["interval"]]}
    return source


def write_card(arguments: Arguments) -> None:
    """Writes the card: `model_card.md` filled in with the pipeline and its evaluation."""
    # pipeline, evaluation and pictures
    repo_dir, model_id = Path(arguments.repo_dir), f"nnit/{arguments.task}"
    report = json.loads((repo_dir / "evaluation.json").read_text(encoding="utf-8"))
    pipeline = NNiTPipeline.from_pretrained(repo_dir)
    task = get_task(arguments.task)
    tables = report_tables(report, [name for name in PICTURES if (repo_dir / f"{name}.png").is_file()])
    # robots: other examples, and more sections
    architecture, budget = (48, 40), 4000
    if isinstance(task, ManiSkillTask):
        architecture, budget = (128, 256), 20_000
        tables = robot_tables(task, tables, report, repo_dir, model_id)
    architecture = arguments.example_architecture or architecture
    # records of the training runs
    training_runs = [
        (title, json.dumps(json.loads((repo_dir / name).read_text(encoding="utf-8"))["arguments"], indent=2))
        for name, title in TRAINING_TITLES.items()
        if (repo_dir / name).exists()
    ]
    card = ModelCard.from_template(
        card_data(arguments.task, report),
        template_path=str(CARD_TEMPLATE),
        task=arguments.task,
        model_id=model_id,
        example_architecture=list(architecture),
        example_budget=arguments.example_budget or budget,
        in_features=task.in_features,
        out_features=task.out_features,
        activation=task.activation,
        min_width=task.min_width,
        max_width=task.max_width,
        min_depth=task.min_depth,
        max_depth=task.max_depth,
        widest=MAX_WIDTH_FACTOR * task.max_width,
        num_slots=pipeline.tokenizer.config.max_depth,
        transformer_parameters=f"{pipeline.transformer.num_parameters():,}",
        ghn_parameters=f"{pipeline.ghn.num_parameters():,}",
        protocol="\n\n".join(filter(None, [protocol(report), DEFINITIONS.get(arguments.task)])),
        tables=tables,
        recipe=f"examples/{arguments.task}.sh",
        training_runs=training_runs,
    )
    card.save(repo_dir / "README.md")


def main(arguments: Arguments) -> None:
    repo_dir = Path(arguments.repo_dir)
    if arguments.pipeline_dir is not None:
        write_weights(Path(arguments.pipeline_dir), repo_dir)
    if arguments.film_dir is not None:
        copy_film(Path(arguments.film_dir), repo_dir)
    if (repo_dir / "evaluation.json").exists():
        write_card(arguments)
    else:
        print(f"{repo_dir / 'evaluation.json'} is missing: run examples/evaluate_nnit.py, then this script again.")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
