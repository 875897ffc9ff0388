"""What the card of a robot task has beside that of a data set: a film, what fails, how to run a rollout."""

import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
from evaluation_report import REGION_NAMES, architecture_name, percent

from nnit_diffusers.tasks.maniskill import ManiSkillTask


TEMPLATE = Path(__file__).with_suffix(".jinja")
# What `figures/film_rollouts.py` writes.
FILM_FILES = ("rollout.mp4", "rollout.png", "rollout.json")
# Mean success under which a width counts as one that fails.
FAILS_BELOW = 0.5
DEFINITIONS = {
    "stackcube-easy": (
        "StackCubeEasy is our definition, since the paper's task of this name is not described: StackCube-v1 and its "
        "success test with robot `panda`, both cubes within 0.1 m of the centre in x and y, at least 0.08 m apart, "
        "not turned. Figures of it are not comparable with the paper's."
    )
}


def copy_film(film_dir: Path, repo_dir: Path) -> None:
    """Copies a film and what it says of itself.

    Raises:
        `ValueError`: If it is not there.
    """
    missing = [name for name in FILM_FILES if not (film_dir / name).is_file()]
    if missing:
        raise ValueError(
            f"`film_dir` must be a folder that `examples/figures/film_rollouts.py` wrote, but received "
            f"{str(film_dir)!r}, which lacks {missing}."
        )
    for name in FILM_FILES:
        shutil.copyfile(film_dir / name, repo_dir / name)


def read_film(repo_dir: Path) -> dict[str, Any] | None:
    """What was filmed, if all of the film is there."""
    if not all((repo_dir / name).is_file() for name in FILM_FILES):
        return None
    return json.loads((repo_dir / "rollout.json").read_text(encoding="utf-8"))


def what_fails(report: dict[str, Any]) -> list[str]:
    """Where generated policies are worst, as far as the report has it."""
    lines = []
    for region, part in report.get("regions", {}).items():
        if part["nnit"]["min"] == 1:
            lines.append(f"{REGION_NAMES[region]}: no policy failed in any episode.")
            continue
        row = min(part["architectures"], key=lambda row: row["nnit"]["mean"])
        name, num_architectures = architecture_name(row["hidden_sizes"]), len(part["architectures"])
        of_all = f"of {num_architectures} architectures, `{name}` is worst" if num_architectures > 1 else f"`{name}`"
        lines.append(
            f"{REGION_NAMES[region]}: {of_all}, {percent(row['nnit']['mean'])} on average; the worst single policy of "
            f"the region is at {percent(part['nnit']['min'])}."
        )
    failing = [
        f"`{architecture_name(part['hidden_sizes'])}` {percent(part['nnit']['mean'])}"
        for part in report.get("widths", {}).values()
        if part["nnit"]["mean"] < FAILS_BELOW
    ]
    if failing:
        lines.append(f"Widths that fail more often than not: {', '.join(failing)}.")
    return lines


def robot_tables(task: ManiSkillTask, tables: str, report: dict[str, Any], repo_dir: Path, model_id: str) -> str:
    """Film, what fails, how to run a rollout, and then the tables, in Markdown."""
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
