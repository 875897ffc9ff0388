"""Finds and loads what the command line names: pipelines and networks of folders or Hub repositories, and tasks."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..loading.limits import shown
from ..loading.local import check_name, find_folder, read_json_object


if TYPE_CHECKING:
    from ..networks import MLP
    from ..pipelines import NNiTPipeline
    from ..tasks import Task


PIPELINE_NAME = "model_index.json"
NETWORKS_NAME = "networks.json"
NETWORK_NAME = "config.json"
KINDS = {"pipeline": PIPELINE_NAME, "networks": NETWORKS_NAME, "network": NETWORK_NAME}


def fetch(name: str, revision: str | None = None, patterns: tuple[str, ...] = ("*.json",)) -> Path:
    """Returns the local folder `name`, or downloads the matching files of the Hub repository `name`.

    Raises:
        `ValueError`: If `name` is neither a folder nor a valid name of a repository.
        `OSError`: If the Hub has no such repository, or cannot be reached.
    """
    return find_folder(name, patterns, revision=revision)


def kind_of(folder: Path, name: str) -> str:
    """Which of `KINDS` a folder holds; errors call it `name`.

    Raises:
        `ValueError`: If it holds none of them.
    """
    for kind, marker in KINDS.items():
        if (folder / marker).is_file():
            return kind
    known = ", ".join(f"{marker} ({kind})" for kind, marker in KINDS.items())
    raise ValueError(f"{name!r} must hold one of {known}, but has none of them.")


def load_pipeline(name: str, revision: str | None = None, device: str = "cpu") -> NNiTPipeline:
    """Loads the pipeline of a folder or a Hub repository."""
    from ..pipelines import NNiTPipeline

    fetch(name, revision, (PIPELINE_NAME, "evaluation.json"))
    return NNiTPipeline.from_pretrained(name, revision=revision).to(device)


def load_networks(name: str, revision: str | None = None) -> dict[str, MLP]:
    """Loads one saved network, or a folder of networks that `nnit generate` wrote, by their names.

    Raises:
        `ValueError`: If `name` holds no networks, or its list names a folder elsewhere.
    """
    folder = fetch(name, revision, ("*.json", "*.safetensors"))
    kind = kind_of(folder, name)
    if kind == "network":
        return {name: _load_network(folder)}
    if kind == "pipeline":
        raise ValueError(f"{name!r} must be a saved network or a folder of them, but is a pipeline.")
    return {entry: _load_network(folder / entry) for entry in _listed_names(folder, name)}


def _listed_names(folder: Path, name: str) -> list[str]:
    """The networks that a folder lists. An untrusted list must not point outside its folder."""
    networks = read_json_object(folder / NETWORKS_NAME).get("networks")
    if not isinstance(networks, list) or not all(isinstance(entry, dict) for entry in networks):
        raise ValueError(f"{NETWORKS_NAME} of {name!r} must list networks, but has {shown(networks)}.")
    return [check_name(f"{NETWORKS_NAME} of {name!r}", entry.get("name")) for entry in networks]


def _load_network(folder: Path) -> MLP:
    from ..networks import MLP

    with redirect_stdout(io.StringIO()):  # the Hub's client prints a line for every network
        return MLP.from_pretrained(folder)


def task_name_of(folder: Path) -> str | None:
    """The task recorded in a folder: in the evaluation of a pipeline, or in the list of saved networks."""
    recorded: Any = {}
    if (folder / "evaluation.json").is_file():
        recorded = read_json_object(folder / "evaluation.json").get("settings")
    elif (folder / NETWORKS_NAME).is_file():
        recorded = read_json_object(folder / NETWORKS_NAME)
    task = recorded.get("task") if isinstance(recorded, dict) else None
    if task is not None and not isinstance(task, str):
        raise ValueError(f"The files in {str(folder)!r} must record a task by its name, but have {shown(task)}.")
    return task


def load_task(name: str | None, data_dir: str | None, suggested: str | None = None) -> Task:
    """Returns the task `name`, or `suggested` if there is no name.

    `module:name` first imports the module that registers the task; the module may be in the working directory. A
    suggestion comes from an untrusted file, so it never imports anything.

    Raises:
        `ValueError`: If there is neither a name nor a suggestion, or no task of that name.
    """
    from ..tasks import list_tasks
    from ..tasks import load_task as load_named_task

    if name is None and suggested is not None and suggested not in list_tasks():
        raise ValueError(
            f"`--task` must be given: the files name task {shown(suggested)}, which is none of {list_tasks()}. A "
            "module is imported only if you name it."
        )
    name = name or suggested
    if name is None:
        raise ValueError(f"`--task` must name a task, one of {list_tasks()} or `module:name`, but received none.")
    return load_named_task(name, data_dir)
