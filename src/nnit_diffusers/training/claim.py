"""The folder of a run belongs to one recipe: it is new, or that of the run that is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cards.folder import RECIPE_NAME, WORK_FOLDER
from ..evaluation.config import CHOICES
from ..loading.local import read_json_object
from ..tasks.specs import SPEC_NAME
from ..writing import replacing_folder, write_json
from .config import OPERATIONAL_FIELDS
from .recipe import Recipe


# What a run writes into its folder, which `overwrite` removes.
_WRITTEN = ("model_index.json", RECIPE_NAME, SPEC_NAME, "evaluation.json", "README.md", "pipeline.py")


def claim(output_dir: Path, recipe: Recipe, overwrite: bool) -> None:
    """Records the recipe of a run in its folder.

    Raises:
        `ValueError`: If the folder holds another run, or a pipeline that was not trained there.
    """
    work, path = output_dir / WORK_FOLDER, output_dir / WORK_FOLDER / RECIPE_NAME
    if overwrite and path.exists():
        # the pipeline first, so that a kill leaves a run to resume or none
        for name in _WRITTEN:
            (output_dir / name).unlink(missing_ok=True)
        with replacing_folder(work) as new:
            write_json(new / RECIPE_NAME, recipe.to_dict())
        return
    if not path.exists():
        held = sorted(entry.name for entry in _visible(output_dir) if entry != work or any(_visible(work)))
        if held:
            raise ValueError(
                f"`output_dir` must be a new or empty folder, or that of a run to resume, but received "
                f"{str(output_dir)!r}, which holds {held[:5]}."
            )
    else:
        is_evaluated = (output_dir / "evaluation.json").exists()
        changed = _differences(read_json_object(path), recipe.to_dict(), is_evaluated)
        if changed:
            raise ValueError(
                f"A resumed run must have the settings it began with, but in {str(path)!r} {'; '.join(changed)}. "
                "Choose another folder, or begin again with `overwrite=True` (`--force`)."
            )
    write_json(path, recipe.to_dict())


def _visible(folder: Path) -> list[Path]:
    """Entries of a folder, if there is one, without what a killed write may leave."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return [entry for entry in entries if not (entry.name.startswith(".") and entry.name.endswith(".tmp"))]


def _differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any], is_evaluated: bool) -> list[str]:
    """Settings of a recipe that shape its result and differ, in words; those of the evaluation only if it began."""
    differences = []
    wanted = json.loads(json.dumps(wanted))
    for stage in wanted:
        if stage == "evaluation" and not is_evaluated:
            continue
        before, now = recorded.get(stage), wanted[stage]
        if not isinstance(before, dict) or not isinstance(now, dict):
            if before != now:
                differences.append(f"`{stage}` is {before!r} there and {now!r} here")
            continue
        # a record of an earlier version may lack some
        for name in (now.keys() & before.keys()) - OPERATIONAL_FIELDS - CHOICES:
            if before[name] != now[name]:
                differences.append(f"`{stage}.{name}` is {before[name]!r} there and {now[name]!r} here")
    return sorted(differences)
