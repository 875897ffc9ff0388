"""Parts of a model card that only robot tasks have: a film, failures, and how to run a rollout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..evaluation.formats import architecture_name, percent
from ..evaluation.protocol import REGION_NAMES
from ..evaluation.report import Report
from ..loading.local import read_json_object
from ..tasks.maniskill import ManiSkillTask


TEMPLATE = Path(__file__).with_suffix(".jinja")
# Files of a film, as `examples/figures/film_rollouts.py` of the repository writes them.
FILM_FILES = ("rollout.mp4", "rollout.png", "rollout.json")
# Widths with a lower mean success are listed as failing.
FAILS_BELOW = 0.5


def copy_film(film_dir: Path, repo_dir: Path) -> None:
    """Copies the files of a film.

    Raises:
        `ValueError`: If any of them is missing.
    """
    missing = [name for name in FILM_FILES if not (film_dir / name).is_file()]
    if missing:
        raise ValueError(
            f"`film_dir` must be a folder with {list(FILM_FILES)}, but received {str(film_dir)!r}, which lacks "
            f"{missing}."
        )
    for name in FILM_FILES:
        shutil.copyfile(film_dir / name, repo_dir / name)


def read_film(repo_dir: Path) -> dict[str, Any] | None:
    """The description of the film, or `None` if any of its files is missing."""
    if not all((repo_dir / name).is_file() for name in FILM_FILES):
        return None
    return read_json_object(repo_dir / "rollout.json")


def what_fails(report: Report) -> list[str]:
    """The weakest architectures and policies of every region, and widths and depths that fail, as far as measured."""
    lines = []
    # weakest architecture and policy of every region
    for region, part in report.get("regions", {}).items():
        if part["nnit"]["min"] == 1:
            lines.append(f"{REGION_NAMES[region]}: no policy failed in any episode.")
            continue
        row = min(part["architectures"], key=lambda row: row["nnit"]["mean"])
        name, num_architectures = architecture_name(row["hidden_sizes"]), len(part["architectures"])
        of_all = f" is the weakest of {num_architectures} architectures" if num_architectures > 1 else ""
        lines.append(
            f"{REGION_NAMES[region]}: `{name}`{of_all}, with a mean success of {percent(row['nnit']['mean'])}. The "
            f"minimum of a single policy is {percent(part['nnit']['min'])}."
        )
    # widths and depths that fail
    widths = {f"`{architecture_name(part['hidden_sizes'])}`": part for part in report.get("widths", {}).values()}
    depths = {f"{depth} layers": part for depth, part in report.get("depths", {}).items()}
    for what, parts in (("Widths", widths), ("Depths", depths)):
        means = {name: part["nnit"]["mean"] for name, part in parts.items()}
        failing = [f"{name} {percent(mean)}" for name, mean in means.items() if mean < FAILS_BELOW]
        if failing:
            lines.append(f"{what} with a mean success below {percent(FAILS_BELOW, 0)}: {', '.join(failing)}.")
    return lines


def robot_tables(task: ManiSkillTask, tables: str, report: Report, repo_dir: Path, model_id: str) -> str:
    """Film, how to run a rollout, failures, and the tables, in Markdown."""
    import jinja2

    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return template.render(
        film=read_film(repo_dir),
        tables=tables,
        failures=what_fails(report),
        env_id=task.env_id,
        in_features=task.in_features,
        model_id=model_id,
        task=task.name,
    ).strip()
