"""The report of an evaluation: its schema, and its file, to which every part is added as soon as it is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ..loading.local import read_json_object
from ..pipelines import NNiTPipeline
from ..pipelines.fingerprint import fingerprints, sources_sha256
from ..tasks.base import Task, metric_title
from ..writing import write_json
from .config import CHOICES, DERIVED, EvaluationConfig


# What an evaluation is of: a file without them is not resumed.
IDENTITY = ("task", "weights_sha256", "sampler_sha256", "training_grid")


class Summary(TypedDict):
    """Scores of several networks; see [`~summary.summary`] and [`~summary.add_interval`]."""

    mean: float
    min: float
    max: float
    num_episodes: int
    std: NotRequired[float]
    is_share: NotRequired[bool]
    success_at_end: NotRequired[float]
    mean_return: NotRequired[float]
    mean_return_interval: NotRequired[list[float]]
    return_of_teacher: NotRequired[float]
    return_of_teacher_interval: NotRequired[list[float]]
    interval: NotRequired[list[float]]
    interval_method: NotRequired[str]
    num_architectures: NotRequired[int]
    num_networks: NotRequired[int]
    selected: NotRequired[Summary]


class ArchitectureRow(TypedDict):
    """One architecture of a region."""

    hidden_sizes: list[int]
    num_parameters: int
    nnit: Summary
    ghn: Summary
    num_networks: int
    seconds: float


class Difference(TypedDict):
    """Mean difference over architectures; see [`~summary.difference_summary`]."""

    mean: float
    num_architectures: int
    interval_method: str
    interval: NotRequired[list[float]]


class Region(TypedDict):
    """One region of architectures."""

    nnit: Summary
    ghn: Summary
    nnit_minus_ghn: Difference
    num_networks: int
    architectures: list[ArchitectureRow]


class Report(TypedDict):
    """An evaluation. Other sections than `regions` map the names of their parts to what `sections/` returns."""

    settings: dict[str, Any]
    runs: list[dict[str, Any]]
    regions: NotRequired[dict[str, Region]]
    direct: NotRequired[dict[str, Any]]
    widths: NotRequired[dict[str, Any]]
    depths: NotRequired[dict[str, Any]]
    unconditional: NotRequired[dict[str, Any]]
    novelty: NotRequired[dict[str, Any]]
    steps: NotRequired[dict[str, Any]]


def settings_of(pipe: NNiTPipeline, task: Task, config: EvaluationConfig) -> dict[str, Any]:
    """Settings that identify an evaluation: its configuration, pipeline and task, as read back from JSON."""
    settings = {
        "task": task.name,
        **{name: value for name, value in asdict(config).items() if name not in CHOICES},
        **fingerprints(pipe),
        "sources_sha256": sources_sha256(pipe),
        "training_grid": task.grid,
        "num_test_episodes": config.num_episodes or task.num_evaluation_samples("test"),
        "sample_name": task.sample_name,
        "metric": metric_title(task),
        "is_share": task.metric.is_share,
    }
    return json.loads(json.dumps(settings))


def with_stored_sizes(config: EvaluationConfig, path: Path) -> EvaluationConfig:
    """The same settings, with the sizes that are not given as the evaluation at `path` has them, if there is one."""
    if not path.exists():
        return config
    settings = read_json_object(path).get("settings", {})
    missing = [name for name in DERIVED if getattr(config, name) is None and settings.get(name) is not None]
    sizes: dict[str, Any] = {
        name: tuple(settings[name]) if isinstance(settings[name], list) else settings[name] for name in missing
    }
    return replace(config, **sizes)


def open_report(path: Path, settings: dict[str, Any]) -> Report:
    """The evaluation at `path`, or a new one if there is none.

    Raises:
        `ValueError`: If the file is of another pipeline or was made with other settings.
    """
    if not path.exists():
        return {"settings": settings, "runs": []}
    report: Report = read_json_object(path)  # type: ignore[assignment]
    # settings that the version which began the file did not have: no part of it depends on them
    recorded = {*report["settings"], *IDENTITY}
    report["settings"] |= {name: value for name, value in settings.items() if name not in recorded}
    others = [name for name in settings if report["settings"].get(name) != settings[name]]
    if others:
        raise ValueError(
            f"The evaluation must be a new file, or one with the same settings, but received {str(path)!r}, which "
            f"differs in {others}."
        )
    return report


def add_part(
    path: Path, settings: dict[str, Any], run: dict[str, Any], section: str, store: Callable[[dict[str, Any]], None]
) -> Report:
    """Adds a part, and the run that computed it, to the evaluation at `path`, and returns the evaluation.

    The file is read again each time, so that two processes can add to it. If both write at the same instant, one part
    is lost. The same command, run again, computes it again.
    """
    report = open_report(path, settings)
    store(report.setdefault(section, {}))  # type: ignore[misc]
    if run not in report["runs"]:
        report["runs"].append(run)
    write_json(path, report)
    return report
