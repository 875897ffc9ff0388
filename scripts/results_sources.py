"""What all parts of docs/results.md share: the JSON files, and links to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from nnit_diffusers.evaluation.report import Report
from nnit_diffusers.evaluation.tables import PICTURES


ROOT = Path(__file__).parents[1]
ROBOTS = {"PickCube": "pickcube", "PushCube": "pushcube", "StackCubeEasy": "stackcube-easy"}


def read(path: str) -> dict[str, Any]:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def evaluation(task: str) -> Report:
    return cast(Report, read(f"nnit/{task}/evaluation.json"))


def source(*paths: str) -> str:
    """Links to the JSON files behind a table."""
    links = [f"[{path}](../{path})" for path in paths]
    return f"Source: {', '.join(links)}."


def picture(task: str, section: str) -> str:
    return f"![{PICTURES[section]}: {task}](../nnit/{task}/{section}.png)"


def grid(settings: dict[str, Any]) -> str:
    """The architectures that a pipeline was trained on, in words."""
    sizes = settings["training_grid"]
    return (
        f"Trained on {sizes['min_depth']} to {sizes['max_depth']} hidden layers of {sizes['min_width']} to "
        f"{sizes['max_width']} units."
    )
