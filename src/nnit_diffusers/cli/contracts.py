"""Contracts on the command line: what saved networks are for, attached, read back, compared and shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..contract import NetworkContract
    from ..networks import MLP
    from ..pipelines import NNiTPipeline
    from ..tasks import Task


def saved_spec(folder: Path) -> dict[str, Any] | None:
    """The specification of a task in a folder: its `task.json`, or the one in a contract."""
    from ..contract import read_contract
    from ..tasks.specs import read_spec

    spec = read_spec(folder)
    if spec is None:
        contract = read_contract(folder)
        spec = dict(contract.task_spec) if contract is not None and contract.task_spec else None
    return spec


def attach_contracts(
    networks: Sequence[MLP],
    pipe: NNiTPipeline,
    model: Path,
    task_name: str | None,
    provenance: Mapping[str, Any],
    numbers: Sequence[int],
) -> None:
    """Gives every generated network its contract, with its index.

    A pipeline of an older version has none: its networks then have the task and the provenance alone.

    Parameters:
        networks (`Sequence[MLP]`): Networks of one request.
        pipe (`NNiTPipeline`): The pipeline.
        model (`Path`): Its folder, or the folder in the Hub's cache.
        task_name (`str`, *optional*): The task that the folder records.
        provenance (`Mapping[str, Any]`): Fields of [`ProvenanceRecord`], such as `seed`.
        numbers (`Sequence[int]`): Index of every network in the request.
    """
    from ..contract import NetworkContract
    from ..pipelines.contracts import public_name
    from ..tasks.specs import read_spec

    if pipe.contract is None and task_name is None:
        return
    # the commit, where the pipeline is in the Hub's cache
    revision = model.name if model.parent.name == "snapshots" else None
    known = {"revision": revision, "source": "nnit", **provenance}
    if isinstance(known.get("pipeline"), str):
        known["pipeline"] = public_name(known["pipeline"])
    contract = pipe.contract
    if contract is None:
        spec = read_spec(model) or {}
        if isinstance(spec.get("source"), str):
            spec["source"] = Path(spec["source"]).name
        contract = NetworkContract(task=task_name, task_spec=spec)
    for index, network in zip(numbers, networks, strict=True):
        network.contract = pipe.network_contract(contract, **known, index=index)


def check_contracts(
    names: Sequence[str], networks: Sequence[MLP], task: Task, is_named: bool, num_workers: int | None = None
) -> None:
    """Compares the contracts of networks with that of the task that they are scored on.

    Parameters:
        names (`Sequence[str]`): Names of the networks, for messages.
        networks (`Sequence[MLP]`): The networks; those without a contract are left out.
        task ([`Task`]): The task.
        is_named (`bool`): Whether the user named the task. A difference is then reported, and allowed.
        num_workers (`int`, *optional*): With 0, an environment is made in this process.

    Raises:
        `ValueError`: If a network was made for something else, and the user did not name the task.
    """
    from ..tasks.contracts import described

    contracts = {name: getattr(network, "contract", None) for name, network in zip(names, networks)}
    known = {name: each for name, each in contracts.items() if each is not None and each.actions}
    if not known:
        return
    wanted = described(task, num_workers)
    reported = set()
    for name, contract in known.items():
        differences = contract.differences(wanted)
        if not differences:
            continue
        line = f"was made for {contract.task!r}, which differs from task {task.name!r}: {'; '.join(differences)}."
        if not is_named:
            raise ValueError(f"{name!r} {line} `--task` scores it all the same.")
        if line not in reported:
            reported.add(line)
            print(f"nnit evaluate: {name!r} {line}", file=sys.stderr)


def contract_lines(contract: NetworkContract) -> list[str]:
    """A contract as lines of text, without its task."""
    from ..tasks.metadata import Features, describe_layout

    lines = []
    environment = contract.environment
    if environment is not None:
        parts = [f"{environment.env_id} of {environment.library} {environment.library_version or ''}".strip()]
        parts += [f"robot {environment.robot}"] if environment.robot else []
        parts += [f"control mode {environment.control_mode}"] if environment.control_mode else []
        parts += [f"{environment.control_freq:g} Hz"] if environment.control_freq else []
        lines.append(f"Environment {', '.join(parts)}")
        if environment.env_kwargs:
            lines.append(f"Arguments   {dict(environment.env_kwargs)}")
    for title, terms in (("Observation" if environment else "Inputs", contract.observations), ("", contract.actions)):
        title = title or ("Action" if environment else "Outputs")
        if terms:
            layout = [Features(term.name, term.size, term.unit_words or term.description or "") for term in terms]
            lines.append(f"{title:<11} {describe_layout(layout)}")
    if contract.is_discrete:
        first = f", counted from {contract.first_choice}" if contract.first_choice else ""
        lines.append(f"Choice      the index of the largest output{first}")
    if contract.action_bounds is not None:
        lines.append(f"Clip        {clip_words(contract)}, before the environment's step")
    if contract.folded is not None:
        ends = [("observation statistics", contract.folded.observation_mean, "first")]
        ends += [("output statistics", contract.folded.output_mean, "last")]
        folded = [f"{what} in the {layer} layer" for what, numbers, layer in ends if numbers]
        lines.append(f"Folded in   {', '.join(folded) or 'nothing'}")
    lines += _measured_lines(contract)
    return [line if line.isprintable() else ascii(line)[1:-1] for line in lines]


def clip_words(contract: NetworkContract) -> str:
    """What outputs have to be clipped to, in words."""
    low, high = contract.action_bounds or ((), ())
    if len(set(low)) == len(set(high)) == 1:
        return f"every output to {low[0]:g} to {high[0]:g}"
    return f"outputs to [{', '.join(f'{each:g}' for each in low)}] to [{', '.join(f'{each:g}' for each in high)}]"


def _measured_lines(contract: NetworkContract) -> list[str]:
    """The score and the provenance, if they are known."""
    lines, score, made = [], contract.score, contract.provenance
    if score is not None:
        low, high = score.interval
        lines.append(
            f"Score       {score.metric} {score.value:.1%} ({low:.1%} to {high:.1%}), {score.num_episodes:,} of "
            f"{score.split}"
        )
    if made is not None and made.pipeline is not None:
        parts = [made.pipeline]
        parts += [f"revision {made.revision[:12]}"] if made.revision else []
        parts += [f"weights {made.weights_sha256[:12]}"] if made.weights_sha256 else []
        parts += [f"seed {made.seed}"] if made.seed is not None else []
        parts += [f"network {made.index}"] if made.index is not None else []
        lines.append(f"Made by     {', '.join(parts)}")
    return lines
