"""`nnit info`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ..loading.local import check_weights, read_json_object, tensor_headers
from .command import Command, OptionalStr, Report
from .contracts import contract_lines, saved_spec
from .sources import NETWORKS_NAME, PIPELINE_NAME, FileOptions, fetch, is_file, kind_of, load_networks, task_name_of


if TYPE_CHECKING:
    from ..contract import NetworkContract


@dataclass(kw_only=True)
class Info(FileOptions, Command):
    """Show what a folder or a Hub repository contains: task, sizes, parameter counts and measured results.

    For example:

        nnit info nnit/digits
        nnit info networks
        nnit info networks/network-0
        nnit info policy.onnx

    The contract of a pipeline or of a network adds what goes in and comes out: environment, control mode and rate,
    observations and actions in their order, what actions have to be clipped to, and where the network comes from.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """Pipeline, network or folder of networks: a local folder, a Hub repository, or a file as for nnit evaluate."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub repository. Default: its main branch."""

    def run(self) -> Report:
        from ..contract import read_contract

        if is_file(self.model):
            ((_, network),) = load_networks(self.model, self.revision, self).items()
            architecture = network.architecture
            sizes = {"num_parameters": architecture.num_parameters, "num_bytes": Path(self.model).stat().st_size}
            contract = network.contract
            described = {
                "name": self.model,
                "kind": "network",
                "task": None if contract is None else contract.task,
                **architecture.to_dict(),
                **sizes,
                "contract": None if contract is None else contract.to_dict(),
            }
            return Report(described, "\n".join(_lines(described, contract)))
        self.check_unused([self.model])
        folder = fetch(self.model, self.revision, ("*.json", "*.safetensors"))
        kind = kind_of(folder, self.model)
        payload: dict[str, Any] = {"name": self.model, "kind": kind, "task": task_name_of(folder)}
        describe = {"pipeline": describe_pipeline, "networks": describe_networks, "network": describe_network}[kind]
        try:
            payload |= describe(folder)
            payload |= describe_robot(payload["task"])
            payload |= describe_own_task(folder)
            contract = read_contract(folder)
            payload["contract"] = None if contract is None else contract.to_dict()
            return Report(payload, "\n".join(_lines(payload, contract)))
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{self.model!r} must hold a {kind} as this package writes it: {reason}.") from error


def describe_pipeline(folder: Path) -> dict[str, Any]:
    """The sizes of a pipeline's networks and components, and its evaluation results if it has any."""
    index = read_json_object(folder / PIPELINE_NAME)
    tokenizer = read_json_object(folder / "tokenizer" / "tokenizer_config.json")
    transformer = read_json_object(folder / "transformer" / "config.json")

    # size of every component
    components = {}
    for name, component in index.items():
        if isinstance(component, list) and component[1] is not None:
            files = sorted((folder / name).glob("*.safetensors"))
            components[name] = {"class": component[1], **(_weights(files) if files else {})}

    # which networks it generates
    payload = {
        "in_features": tokenizer["in_features"],
        "out_features": tokenizer["out_features"],
        "activation": tokenizer["activation"],
        "min_width": index.get("min_width"),
        "max_width": transformer["max_width"],
        "min_depth": index.get("min_depth", 1),
        "max_depth": index.get("max_depth"),
        "components": components,
    }

    # results for every region of architectures
    if (folder / "evaluation.json").is_file():
        report = read_json_object(folder / "evaluation.json")
        payload["num_inference_steps"] = report["settings"].get("num_inference_steps")
        payload["num_test_episodes"] = report["settings"].get("num_test_episodes")
        # screened policies run in validation episodes, and only the best of them in test episodes
        payload["data_split"] = "validation" if report["settings"].get("num_final_episodes") else "test"
        payload["measured"] = {
            region: {
                "mean": part["nnit"]["mean"],
                "interval": part["nnit"].get("interval"),
                "interval_method": part["nnit"].get("interval_method"),
                "num_architectures": part["nnit"].get("num_architectures"),
                "min": part["nnit"]["min"],
                "success_at_end": part["nnit"].get("success_at_end"),
                "num_networks": part["num_networks"],
            }
            for region, part in report.get("regions", {}).items()
        }
    return payload


def describe_robot(task_name: str | None) -> dict[str, Any]:
    """Environment, control mode and layouts of a robot task; empty for other tasks and for unregistered ones."""
    from ..tasks import get_task, list_tasks
    from ..tasks.maniskill import ManiSkillTask
    from ..tasks.maniskill.environments import CONTROL_MODE
    from ..tasks.metadata import describe_layout

    task = get_task(task_name) if task_name in list_tasks() else None
    if not isinstance(task, ManiSkillTask):
        return {}
    return {
        "environment": task.env_id,
        "control_mode": CONTROL_MODE,
        "observation_layout": describe_layout(task.observation_layout),
        "action_layout": describe_layout(task.action_layout),
    }


def describe_own_task(folder: Path) -> dict[str, Any]:
    """Table or environment of a task that comes with the folder; empty for other tasks."""
    from ..tasks.metadata import describe_layout
    from ..tasks.tables import TableSchema

    spec = saved_spec(folder)
    if spec is None:
        return {}
    if spec.get("kind") == "table":
        schema = TableSchema.from_dict(spec["schema"])
        classes = list(schema.target.classes) if schema.target.kind == "classes" else None
        inputs = describe_layout(schema.layout())
        return {"target": schema.target.name, "classes": classes, "observation_layout": inputs}
    return {name: spec[name] for name in ("library", "env_id", "env_kwargs", "success", "teacher_return")}


def describe_networks(folder: Path) -> dict[str, Any]:
    """A folder written by `nnit generate`: the model, the options and every network."""
    listed = read_json_object(folder / NETWORKS_NAME)
    return {name: listed[name] for name in ("model", "generation", "networks")}


def describe_network(folder: Path) -> dict[str, Any]:
    """Architecture and size of one network."""
    from ..architecture import MLPArchitecture

    config = read_json_object(folder / "config.json")
    names = ("in_features", "hidden_sizes", "out_features")
    if not set(names) <= set(config):
        raise ValueError(f"{str(folder)!r} must hold a network of this package, with {names} in its config.json.")
    architecture = MLPArchitecture(
        config["in_features"],
        config["hidden_sizes"],
        config["out_features"],
        config.get("activation", "relu"),
        config.get("output_activation"),
    )
    return {**architecture.to_dict(), **_weights(sorted(folder.glob("*.safetensors")))}


def _weights(files: list[Path]) -> dict[str, Any]:
    """Parameter count, dtypes and bytes of safetensors files, which are checked."""
    for path in files:
        check_weights(path)
    headers = [header for path in files for header in tensor_headers(path).values()]
    return {
        "num_parameters": sum(math.prod(shape) for shape, _ in headers),
        "dtypes": sorted({dtype for _, dtype in headers}),
        "num_bytes": sum(path.stat().st_size for path in files),
    }


def _task_lines(payload: dict[str, Any], is_described: bool) -> list[str]:
    """The task of the payload; what goes in and comes out only if no contract describes it."""
    lines = []
    if payload["task"] is not None:
        lines.append(f"Task        {payload['task']}")
    if "environment" in payload and not is_described:
        lines.append(f"Robot       {payload['environment']} of ManiSkill, control mode {payload['control_mode']}")
        lines.append(f"Observation {payload['observation_layout']}")
        lines.append(f"Action      {payload['action_layout']}")
    if "target" in payload:
        kind = "a number" if payload["classes"] is None else f"{len(payload['classes'])} classes"
        lines.append(f"Target      {payload['target']}, {kind}")
        lines += [] if is_described else [f"Inputs      {payload['observation_layout']}"]
    if "env_id" in payload and not is_described:
        arguments = f" with {payload['env_kwargs']}" if payload["env_kwargs"] else ""
        lines.append(f"Environment {payload['env_id']} of {payload['library']}{arguments}")
    return lines


def _lines(payload: dict[str, Any], contract: NetworkContract | None) -> list[str]:
    """The payload as lines of text."""
    lines = [f"{payload['name']}: {payload['kind']}"]
    lines += _task_lines(payload, is_described=contract is not None and bool(contract.actions))
    if contract is not None:
        lines += contract_lines(contract)

    # saved networks
    if payload["kind"] == "networks":
        lines.append(f"Model       {payload['model']}, seed {payload['generation']['seed']}")
        for entry in payload["networks"]:
            sizes = entry["architecture"]["hidden_sizes"]
            lines.append(f"{entry['name']:<11} {sizes}, {entry['num_parameters']:,} parameters")
        return lines
    lines.append(
        f"Networks    {payload['in_features']} inputs, {payload['out_features']} outputs, {payload['activation']}"
    )
    if payload["kind"] == "network":
        if payload.get("output_activation"):
            lines[-1] += f", {payload['output_activation']} at the output"
        lines.append(f"Hidden      {payload['hidden_sizes']}, {payload['num_parameters']:,} parameters")
        return lines

    # architectures and components of a pipeline
    widths = f"{payload['min_width']} to {payload['max_width']}"
    depths = f"{payload['min_depth']} to {payload['max_depth']}"
    lines.append(f"Chooses     widths {widths}, {depths} hidden layers; any other width can be requested")
    for name, component in payload["components"].items():
        if "num_parameters" in component:
            size = f"{component['num_parameters']:,} parameters, {component['num_bytes'] / 2**20:.1f} MiB"
            lines.append(f"{name:<11} {size} ({', '.join(component['dtypes'])})")

    # measured results, a line per region
    from ..evaluation.formats import num_steps

    if payload.get("measured"):
        data = f"{payload['data_split']} episodes"
        episodes = " ".join(str(word) for word in (payload["num_test_episodes"], data) if word is not None)
        score = "success in any step, " if "environment" in payload else ""
        steps = num_steps(payload["num_inference_steps"])
        lines.append(f"Measured    {score}mean of all networks, {steps}, {episodes}")
        for region, part in payload["measured"].items():
            interval = "" if part["interval"] is None else " ({:.1%} to {:.1%})".format(*part["interval"])
            at_end = "" if part["success_at_end"] is None else f"success at episode end {part['success_at_end']:.1%}, "
            architectures = f" of {part['num_architectures']} architectures" if part["num_architectures"] else ""
            rest = f"{at_end}minimum {part['min']:.1%}, {part['num_networks']:,} networks{architectures}"
            lines.append(f"  {region:<22} {part['mean']:.1%}{interval}, {rest}")
    return lines
