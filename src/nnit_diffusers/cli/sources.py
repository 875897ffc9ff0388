"""Finds and loads what the command line names: pipelines and networks of folders or Hub repositories, and tasks."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..limits import MAX_JSON_BYTES, shown


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
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except HFValidationError:
        raise ValueError(f"{name!r} is neither a folder nor the name of a Hub repository.") from None
    except FileNotFoundError as error:
        raise OSError(f"{name!r} is not a folder, and could not be downloaded from the Hub: {error}") from error


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
    names = [entry["name"] for entry in read_json(folder / NETWORKS_NAME)["networks"]]
    # an untrusted list must not point outside its folder
    for entry in names:
        if Path(entry).name != entry:
            raise ValueError(f"{NETWORKS_NAME} of {name!r} must name folders beside it, but names {entry!r}.")
    return {entry: _load_network(folder / entry) for entry in names}


def _load_network(folder: Path) -> MLP:
    from ..networks import MLP

    with redirect_stdout(io.StringIO()):  # the Hub's client prints a line for every network
        return MLP.from_pretrained(folder)


def read_json(path: Path) -> Any:
    """Reads a JSON file of at most `MAX_JSON_BYTES`; errors name the file."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{str(path)!r} must have at most {MAX_JSON_BYTES:,} bytes, but has {path.stat().st_size:,}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} must hold JSON, but does not: {error}.") from error


def task_name_of(folder: Path) -> str | None:
    """The task recorded in a folder: in the evaluation of a pipeline, or in the list of saved networks."""
    if (folder / "evaluation.json").is_file():
        return read_json(folder / "evaluation.json").get("settings", {}).get("task")
    if (folder / NETWORKS_NAME).is_file():
        return read_json(folder / NETWORKS_NAME).get("task")
    return None


def load_task(name: str | None, data_dir: str | None, suggested: str | None = None) -> Task:
    """Returns the task `name`, or `suggested` if there is no name.

    `module:name` first imports the module that registers the task; the module may be in the working directory. A
    suggestion comes from an untrusted file, so it never imports anything.

    Raises:
        `ValueError`: If there is neither a name nor a suggestion, or no task of that name.
    """
    from ..tasks import get_task, list_tasks

    if name is None and suggested is not None and suggested not in list_tasks():
        raise ValueError(
            f"`--task` must be given: the files name task {shown(suggested)}, which is none of {list_tasks()}. A "
            "module is imported only if you name it."
        )
    name = name or suggested
    if name is None:
        raise ValueError(f"`--task` must name a task, one of {list_tasks()} or `module:name`, but received none.")
    module, _, name = name.rpartition(":")
    if module:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        import_module(module)
    if name not in list_tasks():
        raise ValueError(f"`--task` must be one of {list_tasks()} or `module:name`, but received {name!r}.")
    return get_task(name, **({"data_dir": data_dir} if data_dir else {}))
