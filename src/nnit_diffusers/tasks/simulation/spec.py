"""A task in a simulator as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...loading.limits import shown
from .contract import ContractError
from .environment import plain_json


if TYPE_CHECKING:
    from .task import SimulatorTask


def simulator_spec(task: SimulatorTask) -> dict[str, Any]:
    """JSON-ready form of a task, see [`SimulatorTask.spec`].

    Raises:
        [`ContractError`]: If the arguments of the environment are not plain JSON.
    """
    part = task.required_part
    spec = {
        "kind": "simulator",
        "library": task.environment_spec.library,
        "env_id": task.env_id,
        "env_kwargs": dict(task.environment_spec.env_kwargs),
        "success": "info" if part is None else part,
        "teacher_return": task._measured.get("teacher_return") if part is None else task.teacher_return(),
        "grid": task.grid,
        "name": task.name,
    }
    if plain_json(spec) is None:
        raise ContractError(f"`env_kwargs` must be plain JSON to be saved, but received {shown(spec['env_kwargs'])}.")
    return spec
