"""Evaluation of a pipeline: every section, resumed part by part, into one JSON file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers.utils.logging import tqdm

from ..pipelines import NNiTPipeline
from ..provenance import provenance
from ..tasks.base import Task
from .config import EvaluationConfig, check_choices
from .report import Report, add_part, open_report, settings_of, with_stored_sizes
from .sections import SECTIONS, Evaluator, Part


# Called with the parts done now, those that were missing, and the name of the part that comes next.
PartCallback = Callable[[int, int, str], None]


def evaluate_pipeline(
    pipe: NNiTPipeline,
    task: Task,
    path: str | Path,
    config: EvaluationConfig | None = None,
    on_part: PartCallback | None = None,
) -> Report:
    """Scores what a pipeline generates, beside its GHN and networks trained directly.

    Regions of architectures are around the widths and depths that the pipeline was trained on.

    Every part is saved as soon as it is computed, and the same call resumes an interrupted evaluation. Networks are
    scored on test data, and the best ones are chosen on validation data. With `config.num_final_episodes`, which suits
    slow episodes, all networks are screened on validation episodes, and only the best ones run in test episodes.

    Parameters:
        pipe (`NNiTPipeline`): The pipeline, with its GHN.
        task (`Task`): What its networks are for.
        path (`str` or `Path`): JSON file to write, or to add to.
        config (`EvaluationConfig`, *optional*): Settings; sizes that are not given are those of the file, or derived
            from the task.
        on_part (`PartCallback`, *optional*): Called before every part; without it, a progress bar is shown.

    Returns:
        `Report`: What the file holds.

    Raises:
        `ValueError`: If the pipeline has no GHN, a setting is out of range, or the file is of another evaluation.
    """
    if pipe.ghn is None:
        raise ValueError("`pipe` must have a GHN to compare with, but its `ghn` is None.")
    path, task = Path(path), task.with_grid(**pipe.grid)
    config = with_stored_sizes(config or EvaluationConfig(), path).for_task(task)
    if config.num_inference_steps is None:
        config = replace(config, num_inference_steps=pipe.config.default_num_inference_steps)
    check_choices(config, list(SECTIONS))
    pipe.set_progress_bar_config(disable=True)
    settings, run = settings_of(pipe, task, config), provenance()
    report = open_report(path, settings)

    with tqdm(desc="Evaluation", unit="network", disable=on_part is not None) as bar:
        # parts that are missing
        evaluator = Evaluator(pipe, task, config, bar.update)
        parts = missing_parts(evaluator, report)
        bar.reset(total=sum(part.num_networks for part in parts.values()))
        # compute and save part by part
        for number, ((section, name), part) in enumerate(parts.items()):
            bar.set_postfix_str(f"{section} {name}")
            if on_part is not None:
                on_part(number, len(parts), f"{section} {name}")
            start = time.perf_counter()
            result = {**part.compute(), "num_networks": part.num_networks}
            result["seconds"] = time.perf_counter() - start
            report = add_part(path, settings, run, section, _storing(section, name, result))
    return report


def missing_parts(evaluator: Evaluator, report: Report) -> dict[tuple[str, str], Part]:
    """Parts of the wanted sections that a report lacks, by the names of section and part."""
    stored: dict[str, Any] = dict(report)
    return {
        (section, name): part
        for section in evaluator.config.sections
        for name, part in SECTIONS[section].parts(evaluator).items()
        if not SECTIONS[section].is_stored(stored.get(section, {}), name)
    }


def _storing(section: str, name: str, result: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Stores a result in its section, unless another process has done so meanwhile."""

    def store(stored: dict[str, Any]) -> None:
        if not SECTIONS[section].is_stored(stored, name):
            SECTIONS[section].store(stored, name, result)

    return store


def num_parts(task: Task, config: EvaluationConfig) -> int:
    """Parts of all sections that an evaluation of a task has."""
    # sections ask for the task and the settings alone, until their parts are computed
    evaluator = Evaluator(None, task, config.for_task(task), lambda count: None)  # type: ignore[arg-type]
    return sum(len(SECTIONS[section].parts(evaluator)) for section in config.sections)
