"""Finds and loads what the command line names: pipelines and networks of folders or Hub repositories, and tasks."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..loading.limits import shown
from ..loading.local import check_name, find_folder, read_json_object
from .command import OptionalStr
from .contracts import saved_spec


if TYPE_CHECKING:
    from ..networks import MLP
    from ..pipelines import NNiTPipeline
    from ..tasks import Task


PIPELINE_NAME = "model_index.json"
NETWORKS_NAME = "networks.json"
NETWORK_NAME = "config.json"
KINDS = {"pipeline": PIPELINE_NAME, "networks": NETWORKS_NAME, "network": NETWORK_NAME}


@dataclass(kw_only=True)
class FileOptions:
    """Options of commands that read networks from the files of other programs."""

    activation: OptionalStr = None
    """Activation between the layers of a network in a file, if the file does not record it: relu, tanh, gelu, silu,
    elu or leaky_relu."""
    ignore_clip: bool = False
    """Read a network in a file without the clip of its observations or outputs, which an MLP cannot hold."""

    def check_unused(self, sources: list[str]) -> None:
        """Raises `ValueError` if one of the options is given although no source is a file."""
        if self.activation is not None or self.ignore_clip:
            raise ValueError(f"--activation and --ignore-clip are for files of networks, but received {sources}.")


def is_file(name: str) -> bool:
    """Whether `name` is a file of a network, rather than a folder or a Hub repository; it need not exist."""
    from ..checkpoints import SUFFIXES

    path = Path(name)
    return path.is_file() or (path.suffix.lower() in SUFFIXES and not path.exists())


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


def load_networks(name: str, revision: str | None = None, options: FileOptions | None = None) -> dict[str, MLP]:
    """Loads a network from a file, one saved network, or a folder of networks that `nnit generate` wrote, by names.

    Raises:
        `OSError`: If a file is missing or damaged.
        `ValueError`: If `name` holds no networks, or its list names a folder elsewhere.
    """
    if is_file(name):
        from ..networks import MLP

        options = options or FileOptions()
        return {name: MLP.from_checkpoint(name, activation=options.activation, ignore_clip=options.ignore_clip)}
    if options is not None:
        options.check_unused([name])
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

    if read_json_object(folder / NETWORK_NAME).get("type") is not None:  # a policy of LeRobot
        return MLP.from_checkpoint(folder)
    with redirect_stdout(io.StringIO()):  # the Hub's client prints a line for every network
        return MLP.from_pretrained(folder)


def task_name_of(folder: Path) -> str | None:
    """The task recorded in a folder: in a specification, an evaluation, a list of saved networks, or a contract."""
    from ..contract import read_contract

    recorded: Any = {}
    spec = saved_spec(folder)
    if spec is not None:
        recorded = {"task": spec.get("name")}
    elif (folder / "evaluation.json").is_file():
        recorded = read_json_object(folder / "evaluation.json").get("settings")
    elif (folder / NETWORKS_NAME).is_file():
        recorded = read_json_object(folder / NETWORKS_NAME)
    else:
        contract = read_contract(folder)
        recorded = {} if contract is None else {"task": contract.task}
    task = recorded.get("task") if isinstance(recorded, dict) else None
    if task is not None and not isinstance(task, str):
        raise ValueError(f"The files in {str(folder)!r} must record a task by its name, but have {shown(task)}.")
    return task


def load_task(name: str | None, data_dir: str | None, folder: Path | None = None) -> Task:
    """Returns the task `name`; without a name, the one that the files in `folder` were made for.

    `module:name` first imports the module that registers the task; the module may be in the working directory. The
    files in a folder are untrusted, so they never import anything. If they are of a table, any other name is that of a
    table, with the columns and classes that the folder records.

    Raises:
        `ValueError`: If there is neither a name nor a task in the folder, or no task of that name.
        `OSError`: If the table of a task cannot be found.
    """
    from ..tasks import list_tasks
    from ..tasks import load_task as load_named_task
    from ..tasks.specs import is_table, task_from_spec

    # a table or a simulator
    spec = None if folder is None else saved_spec(folder)
    is_of_table = spec is not None and spec.get("kind") == "table"
    names_table = name is not None and name not in list_tasks() and ":" not in name
    if spec is not None and (name is None or (is_of_table and names_table)):
        return task_from_spec(spec, folder=folder, source=name, data_dir=data_dir)
    if name is not None:
        if is_table(name):
            raise ValueError(f"`--task` must name a task, but received the table {name!r} of networks without one.")
        return load_named_task(name, data_dir)

    # a task by its name
    suggested = None if folder is None else task_name_of(folder)
    if suggested is None:
        raise ValueError(f"`--task` must name a task, one of {list_tasks()} or `module:name`, but received none.")
    if suggested not in list_tasks():
        raise ValueError(
            f"`--task` must be given: the files name task {shown(suggested)}, which is none of {list_tasks()}. A "
            "module is imported only if you name it."
        )
    return load_named_task(suggested, data_dir)


def write_spec(folder: Path, model: Path) -> None:
    """Writes the specification of a model's task into a folder of its networks, if the model has one.

    A table is then named by its place, if it lies in the model's folder.
    """
    from ..tasks.specs import SPEC_NAME, local_spec
    from ..writing import write_json

    spec = local_spec(model)
    if spec is not None:
        write_json(folder / SPEC_NAME, spec)
