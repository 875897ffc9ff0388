"""What goes into networks and what comes out, for a model card: from their contract."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import IOTerm, NetworkContract
from ..markdown import markdown_table


# Rows of a card; a table may have thousands of columns.
_MAX_ROWS = 40


def meaning(contract: NetworkContract | None) -> str:
    """Inputs and outputs with their places, units and bounds, and how to clip, in Markdown; empty if not described."""
    if contract is None or not (contract.observations or contract.actions):
        return ""
    rows = [*_rows("input", contract.observations), *_rows("output", contract.actions)]
    table = markdown_table(["", "Numbers", "Name", "Unit", "Clip to"], rows[:_MAX_ROWS])
    if len(rows) > _MAX_ROWS:
        table += f"\n\nThe first {_MAX_ROWS} of {len(rows)} rows; `contract.json` has all of them."
    lines = [table, *_environment(contract)]
    if contract.is_discrete:
        lines.append("The index of the largest output is the choice: `network(inputs).argmax(dim=-1)`.")
    lines.append(clip_line(contract))
    lines.append("Every network has this in its `contract`, which is saved with it; `nnit info NETWORK` prints it.")
    return "\n\n".join(line for line in lines if line)


def clip_line(contract: NetworkContract | None) -> str:
    """That outputs have to be clipped, and the line of code for it; empty if the actions have no bounds."""
    if contract is None or contract.action_bounds is None:
        return ""
    return (
        "Outputs can lie outside the bounds of the action space. Clip them before `env.step`: "
        "`action = network.contract.clip(network(observation))`."
    )


def _environment(contract: NetworkContract) -> list[str]:
    """The environment in one sentence, if there is one."""
    environment = contract.environment
    if environment is None:
        return []
    parts = [f"`{environment.env_id}` of {environment.library}"]
    parts += [f"robot `{environment.robot}`"] if environment.robot else []
    parts += [f"control mode `{environment.control_mode}`"] if environment.control_mode else []
    parts += [f"{environment.control_freq:g} actions a second"] if environment.control_freq else []
    return [f"Environment: {', '.join(parts)}."]


def _rows(kind: str, terms: Sequence[IOTerm]) -> list[list[str]]:
    """A row for every group of consecutive numbers."""
    rows, start = [], 0
    for term in terms:
        stop = start + term.size
        place = f"{start}:{stop}" if term.size > 1 else f"{start}"
        rows.append([kind, place, _cell(_name(term)), _cell(term.unit_words), _clip(term)])
        start = stop
    return rows


def _name(term: IOTerm) -> str:
    """Name of a group, with what is known of its numbers."""
    name = f"{term.name}: {term.description}" if term.description else term.name
    if 1 < len(term.element_names) <= 12:
        name += f" ({', '.join(term.element_names)})"
    return f"{name}, {' × '.join(map(str, term.shape))}" if len(term.shape) > 1 else name


def _clip(term: IOTerm) -> str:
    """Bounds of a group, in one cell: its own for every number if they differ."""
    texts = [f"{_bound(low, '-∞')} to {_bound(high, '∞')}" for low, high in term.clip]
    return texts[0] if len(set(texts)) == 1 else "; ".join(texts)


def _bound(number: float | None, otherwise: str) -> str:
    return otherwise if number is None else f"{number:g}"


def _cell(text: str) -> str:
    """A text of a table or an environment as one cell."""
    return " ".join(text.split()).replace("|", "\\|")
