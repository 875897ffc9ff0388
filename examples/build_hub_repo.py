"""Stage 5: makes the folder that is published: weights in half precision, `pipeline.py`, provenance, model card.

    python examples/build_hub_repo.py --pipeline_dir outputs/digits/nnit/pipeline --repo_dir nnit/digits
    python examples/evaluate_nnit.py --pretrained_model_name_or_path nnit/digits
    python examples/figures/plot_evaluation.py --evaluation_path nnit/digits/evaluation.json
    python examples/build_hub_repo.py --repo_dir nnit/digits

The first call writes the weights, so that what is evaluated is what is published; the last one writes the card from
`model_card.md`, the evaluation and its pictures. Neither repeats the other's work. For a robot task, `--film_dir` adds
what `examples/figures/film_rollouts.py` filmed, and the card has it, with what fails and how to run a rollout.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from evaluation_report import PICTURES, REGION_NAMES, report_tables
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from robot_card import DEFINITIONS, copy_film, robot_tables

from nnit_diffusers import NNiTPipeline, get_task
from nnit_diffusers.hub import LIBRARY_NAME
from nnit_diffusers.pipelines.budget import MAX_WIDTH_FACTOR
from nnit_diffusers.pipelines.loading import PIPELINE_FILE, PIPELINE_FILE_NAME
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.utils import write_json


CARD_TEMPLATE = Path(__file__).parents[1] / "model_card.md"
# Metric and task as the Hub names them; what is not listed is the success of policies.
METRICS = {"digits": ("accuracy", "image-classification"), "mnist": ("accuracy", "image-classification")}
METRIC_OF_POLICIES = ("success_rate", "robotics")
# Records of trainings, and what the card says that they are of.
TRAINING_TITLES = {
    "training_ghn.json": "<code>examples/train_ghn.py</code>",
    "training_nnit.json": "<code>examples/train_nnit.py</code>",
    "training_tuning.json": "<code>examples/train_nnit.py</code>, going on from these weights",
}


@dataclass
class Arguments:
    """Makes the folder of a Hub repository."""

    repo_dir: str
    """The folder to make, `nnit/<task>`."""
    pipeline_dir: str | None = None
    """Trained pipeline whose weights go there; without it the weights there stay."""
    task: str = "digits"
    """Name of a registered task."""
    film_dir: str | None = None
    """Where `film_rollouts.py` put its film, to be copied."""
    example_architecture: tuple[int, ...] | None = None
    """Architecture in the card's example; 48, 40 and, for robots, 128, 256 by default."""
    example_budget: int | None = None
    """Budget in the card's example; 4,000 and, for robots, 20,000 parameters by default."""


def training_records(pipeline_dir: Path) -> dict[str, Any]:
    """What the training scripts wrote about the trainings of the transformer and of its GHN, as far as it is there.

    Of a transformer that was trained twice, from fresh weights and then from these, the second is its tuning.

    Raises:
        `ValueError`: If there is no record beside the pipeline.
    """
    last = read_training(pipeline_dir)
    if last is None:
        raise ValueError(
            "`pipeline_dir` must be the `pipeline` of a training, with `training.json` beside it, but received "
            f"{str(pipeline_dir)!r}."
        )
    first = read_training(last["arguments"]["pretrained_model_name_or_path"])
    records = {
        "training_ghn.json": read_training(last["arguments"]["ghn_name_or_path"]),
        "training_nnit.json": first or last,
        "training_tuning.json": first and last,
    }
    return {name: record for name, record in records.items() if record is not None}


def read_training(trained: str | Path | None) -> dict[str, Any] | None:
    """The record beside what a training wrote, if there is one."""
    if trained is None:
        return None
    path = Path(trained).parent / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_weights(pipeline_dir: Path, repo_dir: Path) -> None:
    """Copies a pipeline in half precision, with the arguments of the trainings that made it.

    The folder is put together elsewhere and then moved: `repo_dir` holds the old pipeline or the new one.
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
    """Metadata of the card; the evaluation becomes its `model-index`."""
    metric, task_type = METRICS.get(task_name, METRIC_OF_POLICIES)
    is_robot = task_name not in METRICS
    # Where policies are screened on validation episodes, only the selected ones are run in test episodes.
    data_region = "validation" if is_robot and report.get("settings", {}).get("num_final_episodes") else "test"
    results = [
        EvalResult(
            task_type=task_type,
            dataset_type=task_name,
            dataset_name=f"{task_name}, networks of region {region}",
            dataset_config=region,
            dataset_split=data_region,
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
    """What metadata says of a result beside its value: the interval, and the file that has it."""
    source = {
        "source_name": "evaluation.json",
        "source_url": f"https://huggingface.co/nnit/{task_name}/blob/main/evaluation.json",
    }
    if "interval" in summary:
        source["metric_args"] = {"confidence_interval_95": [round(bound, 4) for bound in summary["interval"]]}
    return source


def protocol(report: dict[str, Any]) -> str:
    """How the networks of the tables were scored, on what, and how much of that is still to be done."""
    settings = report["settings"]
    samples = "samples" if settings["task"] in METRICS else "episodes"
    intervals = f"Intervals are of 95%, over architectures, and no narrower than those of all {samples} together."
    generated = f"Mean over all networks generated with {settings['num_inference_steps']} steps, none left out"
    counts = (
        f"{settings['num_architectures']} architectures a region, {settings['num_networks']} networks each, "
        f"seed {settings['seed']}"
    )
    unfinished = {
        REGION_NAMES[region]: len(part["architectures"])
        for region, part in report.get("regions", {}).items()
        if len(part["architectures"]) < settings["num_architectures"]
    }
    if unfinished:
        counts += "; so far measured: " + ", ".join(f"{number} of {name}" for name, number in unfinished.items())
    if settings["num_final_episodes"] is None:
        return (
            f"{generated}, on {settings['num_test_episodes']} test {samples} that neither training nor selection has "
            f"seen. {intervals} {counts}."
        )
    return (
        f"{generated}, on {settings['num_episodes']} validation {samples} each; the selected ones on "
        f"{settings['num_final_episodes']} test {samples} each. Nothing was trained on either. A success is an "
        f"episode with any successful step; 'at the end' is the share whose last step is one. {intervals} "
        f"{counts}."
    )


def write_card(arguments: Arguments) -> None:
    """Fills `model_card.md` in with what the pipeline is and what its evaluation says."""
    repo_dir, model_id = Path(arguments.repo_dir), f"nnit/{arguments.task}"
    report = json.loads((repo_dir / "evaluation.json").read_text(encoding="utf-8"))
    pipeline = NNiTPipeline.from_pretrained(repo_dir)
    task = get_task(arguments.task)
    settings = report["settings"]
    tables = report_tables(report, [name for name in PICTURES if (repo_dir / f"{name}.png").is_file()])
    architecture, budget = (48, 40), 4000
    if isinstance(task, ManiSkillTask):
        architecture, budget = (128, 256), 20_000
        tables = robot_tables(task, tables, report, repo_dir, model_id)
    architecture = arguments.example_architecture or architecture
    trainings = [
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
        num_selected=settings["num_selected"],
        num_networks=settings["num_networks"],
        num_references=settings["num_references"] if "comparison" in report else None,
        recipe=f"examples/{arguments.task}.sh",
        trainings=trainings,
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
        print(f"{repo_dir / 'evaluation.json'} is not there yet: run examples/evaluate_nnit.py, then this again.")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
