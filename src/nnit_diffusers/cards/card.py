"""The model card of a pipeline: `model_card.md` filled in with the pipeline and its evaluation."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..evaluation.protocol import protocol
from ..evaluation.report import Report
from ..evaluation.tables import PICTURES, report_tables
from ..loading.hub import LIBRARY_NAME
from ..loading.limits import MAX_GENERATED_DEPTH
from ..loading.local import read_json_object
from ..pipelines import NNiTPipeline
from ..pipelines.budget import MAX_WIDTH_FACTOR
from ..tasks.base import Task, metric_title
from ..tasks.maniskill import ManiSkillTask
from ..tasks.registry import list_tasks, spelled
from ..tasks.simulation.task import SimulatorTask
from ..tasks.tables import TableTask
from ..writing import write_bytes
from .folder import RECIPE_NAME, TRAINING_TITLES
from .meaning import meaning
from .robot import robot_tables
from .simulator import simulator_tables


CARD_TEMPLATE = Path(__file__).with_name("model_card.md")


def write_card(
    repo_dir: str | Path,
    task: Task,
    *,
    model_id: str | None = None,
    example_architecture: tuple[int, ...] | None = None,
    example_budget: int | None = None,
) -> None:
    """Writes `README.md` into the folder of a pipeline, from its `evaluation.json` and the pictures that are there.

    Parameters:
        repo_dir (`str` or `Path`): Folder of the pipeline, with its evaluation.
        task (`Task`): Task of the pipeline.
        model_id (`str`, *optional*): Repository that the example loads; the last two parts of the path by default.
        example_architecture (`tuple[int, ...]`, *optional*): Hidden sizes in the example; those of the evaluation.
        example_budget (`int`, *optional*): Parameter budget in the example; that of the evaluation.

    Raises:
        `ImportError`: If jinja2 is not installed.
        `OSError`, `ValueError`: If the pipeline or its evaluation is missing or damaged.
    """
    # pipeline and evaluation
    repo_dir = Path(repo_dir)
    model_id = model_id or "/".join(repo_dir.resolve().parts[-2:])
    report: Report = read_json_object(repo_dir / "evaluation.json")  # type: ignore[assignment]
    settings, pipeline = report["settings"], NNiTPipeline.from_pretrained(repo_dir)
    task = task.with_grid(**pipeline.grid)
    # tables and pictures; for robots, film, failures and how to run a rollout
    tables = report_tables(report, [name for name in PICTURES if (repo_dir / f"{name}.png").is_file()])
    is_built_in = task.name in list_tasks()
    if isinstance(task, ManiSkillTask) and is_built_in:
        tables = robot_tables(task, tables, report, repo_dir, model_id)
    elif isinstance(task, SimulatorTask):
        tables = simulator_tables(task, tables, report, repo_dir, model_id, pipeline.contract)
    elif isinstance(task, TableTask):
        tables = f"{_table_section(task, model_id)}\n\n{tables}"
    card = ModelCard.from_template(
        card_data(task, report, model_id),
        template_path=str(CARD_TEMPLATE),
        description=task.description,
        model_id=model_id,
        example_architecture=list(example_architecture or settings["documented_architecture"]),
        example_budget=example_budget or settings["max_parameters"],
        protocol=protocol(report),
        tables=tables,
        meaning=meaning(pipeline.contract),
        **_sizes(task, pipeline),
        **_training(repo_dir, task),
    )
    write_bytes(repo_dir / "README.md", str(card).encode())


def _sizes(task: Task, pipeline: NNiTPipeline) -> dict[str, Any]:
    """Sizes of networks and models, for the table at the top of the card."""
    return {
        "task": task.name,
        "in_features": task.in_features,
        "out_features": task.out_features,
        "activation": task.activation,
        "min_width": task.min_width,
        "max_width": task.max_width,
        "min_depth": task.min_depth,
        "max_depth": task.max_depth,
        "widest": MAX_WIDTH_FACTOR * task.max_width,
        "deepest": max(pipeline.tokenizer.config.max_depth, MAX_GENERATED_DEPTH),
        "transformer_parameters": f"{pipeline.transformer.num_parameters():,}",
        "ghn_parameters": f"{pipeline.ghn.num_parameters():,}" if pipeline.ghn else "none",
    }


def _training(repo_dir: Path, task: Task) -> dict[str, Any]:
    """How the pipeline was made: the command that repeats it, and the settings of every training run."""
    records = {
        title: read_json_object(repo_dir / name)
        for name, title in TRAINING_TITLES.items()
        if (repo_dir / name).exists()
    }
    runs = [(title, json.dumps(record.get("arguments", record), indent=2)) for title, record in records.items()]
    recipe = "The settings of every training run are below."
    if (repo_dir / RECIPE_NAME).exists():
        recipe = (
            f"`nnit train {_named(task)}{_grid_of(task)} --recipe {RECIPE_NAME} --output DIR` repeats it: "
            f"`{RECIPE_NAME}` beside this card has the settings and seeds of all stages."
        )
    return {"recipe": recipe, "training_runs": runs}


def _table_section(task: TableTask, model_id: str) -> str:
    """What the table was, and how its networks predict, in Markdown."""
    return (
        f"### The table\n\n```text\n{task.describe()}\n```\n\n"
        f"Networks take these columns as numbers. `nnit predict` encodes a table of the same columns for them:\n\n"
        f"```bash\nnnit generate {model_id} --arch {task.max_width} --output networks\n"
        f"nnit predict networks new.csv\n```"
    )


def _named(task: Task) -> str:
    """What names the task on the command line."""
    if isinstance(task, TableTask):
        return f"{Path(task.source).name} --target {shlex.quote(task.schema.target.name)}"
    if not isinstance(task, SimulatorTask) or task.name in list_tasks():
        return spelled(task)
    kwargs = dict(task.environment_spec.env_kwargs)
    arguments = f" --env-kwargs {shlex.quote(json.dumps(kwargs))}" if kwargs else ""
    return f"--env {task.env_id}{arguments} {'--teacher TEACHER' if task.can_label else '--demonstrations RECORDING'}"


def _grid_of(task: Task) -> str:
    """The options of the command line for widths and depths that are not those of every task of the kind."""
    kind = type(task)
    if task.grid == {name: getattr(kind, name) for name in task.grid}:
        return ""
    return f" --widths {task.min_width} {task.max_width} --depths {task.min_depth} {task.max_depth}"


def card_data(task: Task, report: Report, model_id: str) -> ModelCardData:
    """Metadata of the card, with the results of the evaluation as `model-index`."""
    # screened networks run in validation episodes, and only the best of them in test episodes
    data_split = "validation" if report["settings"].get("num_final_episodes") else "test"
    results = [
        EvalResult(
            task_type=task.hub_task or "other",
            dataset_type=task.name,
            dataset_name=f"{task.name}, networks of region {region}",
            dataset_config=region,
            dataset_split=data_split,
            metric_type=task.metric.name,
            metric_name=f"mean {metric_title(task)} of all generated networks",
            metric_value=round(part["nnit"]["mean"], 4),
            source_name="evaluation.json",
            source_url=f"https://huggingface.co/{model_id}/blob/main/evaluation.json",
            **_interval(part["nnit"]),
        )
        for region, part in report.get("regions", {}).items()
    ]
    is_robot, is_maniskill = isinstance(task, SimulatorTask), isinstance(task, ManiSkillTask)
    return ModelCardData(
        license="apache-2.0",
        library_name=LIBRARY_NAME,
        # the Hub would offer a pipeline of classifiers as a classifier
        pipeline_tag=task.hub_task if is_robot else None,
        tags=[
            "nnit",
            "weight-generation",
            "hypernetwork",
            "diffusion",
            task.name,
            *(["maniskill3"] if is_maniskill else []),
        ],
        model_name=model_id,
        eval_results=results or None,
    )


def _interval(summary: Any) -> dict[str, Any]:
    """The interval of a result as metadata, if it has one."""
    if "interval" not in summary:
        return {}
    return {"metric_args": {"confidence_interval_95": [round(bound, 4) for bound in summary["interval"]]}}
