"""Specifications of tasks that are neither built in nor in a module: a table, or a simulator.

A pipeline and its networks carry theirs in `task.json`, so that every command finds the task again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..loading.limits import shown
from ..loading.local import check_name, read_json_object
from .base import Task
from .registry import list_tasks


SPEC_NAME = "task.json"
# Suffixes of files that are tables.
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
# Where the folder of a run keeps the table that it was trained on. It is not published.
DATA_FOLDER = Path("training") / "data"


def is_table(name: str) -> bool:
    """Whether a text names a file with a table, rather than a task."""
    return name.lower().endswith(TABLE_SUFFIXES)


def read_spec(folder: Path) -> dict[str, Any] | None:
    """The specification in the folder of a pipeline or of a network, if it has one."""
    path = folder / SPEC_NAME
    return read_json_object(path) if path.is_file() else None


def published_spec(task: Task) -> dict[str, Any] | None:
    """The specification of a task as it is published; none for a task that is found by its name.

    Of a table's path, it has the name of the file alone.
    """
    spec = None if task.name in list_tasks() else task.spec()
    if spec is not None and "source" in spec:
        spec["source"] = Path(spec["source"]).name
    return spec


def local_spec(folder: Path) -> dict[str, Any] | None:
    """The specification in a folder for files outside of it: a table is named by its place, if the folder has it."""
    spec = read_spec(folder)
    if spec is not None and isinstance(spec.get("source"), str):
        place = folder / DATA_FOLDER / check_name(SPEC_NAME, spec["source"])
        if place.exists():
            spec["source"] = str(place.resolve())
    return spec


def task_from_spec(
    spec: dict[str, Any], *, folder: Path | None = None, source: str | Path | None = None, data_dir: Any = None
) -> Task:
    """The task of a specification, which may come from anyone.

    Parameters:
        spec (`dict`): The specification.
        folder (`Path`, *optional*): Folder that it was read from, which may hold the table as well.
        source (`str` or `Path`, *optional*): The table; by default the one in the folder, or where it was.
        data_dir (`str` or `Path`, *optional*): Folder of demonstrations for a simulator.

    Raises:
        `ValueError`: If it is damaged, or does not fit the table or the simulator.
        `OSError`: If the table cannot be found.
        `ImportError`: If a package is missing.
    """
    if spec.get("kind") == "simulator":
        from .simulators import simulator_task_from_spec

        return simulator_task_from_spec(spec, data_dir=data_dir)
    if spec.get("kind") == "table":
        from .tables import table_task_from_spec

        return table_task_from_spec(spec, source or _table_of(spec, folder))
    raise ValueError(f"`kind` in {SPEC_NAME} must be 'table' or 'simulator', but is {shown(spec.get('kind'))}.")


def _table_of(spec: dict[str, Any], folder: Path | None) -> Path:
    """The table of a specification: in the folder of its run, or the local file that it names."""
    named = Path(str(spec.get("source")))
    places = [] if folder is None else [folder / DATA_FOLDER / check_name(SPEC_NAME, named.name)]
    for place in (*places, named):
        if place.exists():
            return place
    raise FileNotFoundError(
        f"The table {named.name!r} of task {spec.get('name')!r} must be given with `--task TABLE`, because it lies "
        f"neither in the folder nor at {str(named)!r}."
    )
