"""What all simulators are for a task: environments that reset and step, and the names that make them.

Shape legend: N environments side by side, I/O observation and action features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ...loading.limits import shown
from .contract import Contract, ContractError


class Environment(Protocol):
    """N environments side by side, which begin and end their episodes together."""

    contract: Contract

    def reset(self, seeds: Sequence[int], needs_rewards: bool = True) -> torch.Tensor:
        """Begins the episodes of these N seeds, and returns the observations `[N, I]`, float32.

        Parameters:
            seeds (`Sequence[int]`): Each alone determines its episode, whatever ran before.
            needs_rewards (`bool`, defaults to `True`): Whether the rewards of these episodes are used.
        """

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]:
        """Makes a step.

        Parameters:
            actions (`torch.Tensor`): `[N, O]` within the bounds, or `[N]` choices from 0 of discrete actions.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]`: Observations `[N, I]`, rewards `[N]`,
            success `[N]` or `None` if the environment does not report it, and whether the episodes have ended.
        """

    def close(self) -> None:
        """Frees the simulator."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """What makes an environment in any process.

    Parameters:
        library (`str`): `"gymnasium"`, `"maniskill"` or `"metaworld"`.
        env_id (`str`): Name in the registry of the library.
        env_kwargs (`Mapping[str, Any]`, defaults to `{}`): Arguments of the environment.

    Raises:
        [`ContractError`]: If they are no name and no dictionary.
    """

    library: str
    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.env_id, str) or not self.env_id:
            raise ContractError(f"`env_id` must be the name of an environment, but received {shown(self.env_id)}.")
        if not isinstance(self.env_kwargs, Mapping) or not all(isinstance(key, str) for key in self.env_kwargs):
            raise ContractError(
                f"`env_kwargs` must be a dictionary of arguments by name, but received {shown(self.env_kwargs)}."
            )


MakeEnvironment = Callable[[bool], Environment]
"""Makes an environment; the argument is whether the process is a worker, which does nothing else."""


def plain_json(value: Any) -> str | None:
    """A value as JSON that is read back as the same value, or `None` if there is none."""
    try:
        text = json.dumps(value, allow_nan=False)
        return text if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None
