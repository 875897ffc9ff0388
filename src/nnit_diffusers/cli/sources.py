"""What a name on the command line stands for: a folder, or a repository of the Hub; a pipeline, or networks."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..networks import MLP
    from ..pipelines import NNiTPipeline
    from ..tasks import Task


PIPELINE_NAME = "model_index.json"
NETWORKS_NAME = "networks.json"
NETWORK_NAME = "config.json"
KINDS = {"pipeline": PIPELINE_NAME, "networks": NETWORKS_NAME, "network": NETWORK_NAME}


def fetch(name: str, revision: str | None = None, patterns: tuple[str, ...] = ("*.json",)) -> Path:
    """The folder called `name`, or a local copy of those files of the Hub's repository of that name.

    Raises:
        `ValueError`: If it is neither a folder nor the name of a repository.
        `OSError`: If the Hub has no such repository, or cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except HFValidationError:
        raise ValueError(f"{name!r} is neither a folder nor the name of a repository of the Hub.") from None
    except FileNotFoundError as error:
        raise OSError(f"{name!r} is no folder here, and could not be had from the Hub: {error}") from error


def kind_of(folder: Path, name: str) -> str:
    """One of `KINDS`.

    Raises:
        `ValueError`: If it is none of them.
    """
    for kind, marker in KINDS.items():
        if (folder / marker).is_file():
            return kind
    known = ", ".join(f"{marker} ({kind})" for kind, marker in KINDS.items())
    raise ValueError(f"{name!r} must hold one of {known}, but has none of them.")


def load_pipeline(name: str, revision: str | None = None, device: str = "cpu") -> NNiTPipeline:
    """The pipeline of a folder or of a repository of the Hub."""
    from ..pipelines import NNiTPipeline

    fetch(name, revision, (PIPELINE_NAME, "evaluation.json"))
    return NNiTPipeline.from_pretrained(name, revision=revision).to(device)


def load_networks(name: str, revision: str | None = None) -> dict[str, MLP]:
    """Networks that were saved, by their names: one, or those that `nnit generate` wrote.

    Raises:
        `ValueError`: If there are none.
    """
    folder = fetch(name, revision, ("*.json", "*.safetensors"))
    kind = kind_of(folder, name)
    if kind == "network":
        return {name: _load_network(folder)}
    if kind == "pipeline":
        raise ValueError(f"{name!r} must be a saved network or a folder of them, but is a pipeline.")
    names = [entry["name"] for entry in read_json(folder / NETWORKS_NAME)["networks"]]
    for entry in names:
        if Path(entry).name != entry:
            raise ValueError(f"{NETWORKS_NAME} of {name!r} must name folders beside it, but names {entry!r}.")
    return {entry: _load_network(folder / entry) for entry in names}


def _load_network(folder: Path) -> MLP:
    from ..networks import MLP

    with redirect_stdout(io.StringIO()):  # the Hub's client prints a line for each
        return MLP.from_pretrained(folder)


def read_json(path: Path) -> Any:
    """The content of a JSON file; errors name the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} must hold JSON, but does not: {error}.") from error


def task_name_of(folder: Path) -> str | None:
    """The task that a folder says it is for: a pipeline in its evaluation, networks in their list."""
    if (folder / "evaluation.json").is_file():
        return read_json(folder / "evaluation.json").get("settings", {}).get("task")
    if (folder / NETWORKS_NAME).is_file():
        return read_json(folder / NETWORKS_NAME).get("task")
    return None


def load_task(name: str | None, data_dir: str | None, suggested: str | None = None) -> Task:
    """The task of that name; `module:name` imports a module, of the working directory too, that registers it.

    Raises:
        `ValueError`: If no name is given and none is suggested, or no task has it.
    """
    from ..tasks import get_task, list_tasks

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
