"""What a simulator expects and gives: sizes, bounds, time limit, success. Read once, from the real environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from ...contract import EnvironmentRecord, IOTerm
from ..metadata import Features


class ContractError(ValueError):
    """An environment, its arguments or a teacher does not fit a task; the message is one line."""


@dataclass(frozen=True)
class Contract:
    """What an environment expects and gives.

    Parameters:
        env_id (`str`): Name of the environment.
        observation_layout (`tuple[Features, ...]`): Parts of an observation, in the order of the network's inputs.
        out_features (`int`): Size of an action; for discrete actions their number, since a network gives logits.
        action_low, action_high (`tuple[float, ...]`):
            Bounds of each number of an action, infinite where there are none; empty for discrete actions.
        is_discrete (`bool`): Whether an action is a choice of one of `out_features`.
        max_episode_steps (`int`): Steps of the longest episode.
        reports_success (`bool`): Whether the environment reports success.
        control_mode (`str`, *optional*): Control mode of a robot of ManiSkill.
        first_choice (`int`, defaults to 0): The discrete action of the first logit; the others follow it.
        environment ([`EnvironmentRecord`], *optional*): The environment as networks record it.
        observation_terms, action_terms (`tuple[IOTerm, ...]`, default to `()`):
            Parts of an observation and of an action, if the environment names them; actions without their bounds.
    """

    env_id: str
    observation_layout: tuple[Features, ...]
    out_features: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    is_discrete: bool
    max_episode_steps: int
    reports_success: bool
    control_mode: str | None = None
    first_choice: int = 0
    environment: EnvironmentRecord | None = None
    observation_terms: tuple[IOTerm, ...] = ()
    action_terms: tuple[IOTerm, ...] = ()

    @property
    def in_features(self) -> int:
        """Size of an observation."""
        return sum(features.size for features in self.observation_layout)

    @property
    def has_unit_actions(self) -> bool:
        """Whether actions are numbers of exactly -1 to 1."""
        return not self.is_discrete and set(self.action_low) == {-1.0} and set(self.action_high) == {1.0}

    @property
    def action_layout(self) -> tuple[Features, ...]:
        """Parts of an action: logits, or consecutive numbers of the same bounds."""
        if self.is_discrete:
            return (Features("action logits", self.out_features, "the largest acts"),)
        groups: list[tuple[str, int]] = []
        for low, high in zip(self.action_low, self.action_high):
            unit = f"{low:g} to {high:g}" if np.isfinite([low, high]).any() else ""
            if groups and groups[-1][0] == unit:
                groups[-1] = (unit, groups[-1][1] + 1)
            else:
                groups.append((unit, 1))
        return tuple(Features("actions", size, unit) for unit, size in groups)

    def check_sizes(self, name: str, in_features: int | None, out_features: int | None) -> None:
        """Raises [`ContractError`] unless the sizes that a task declares are those of the environment."""
        for argument, declared, real in (
            ("in_features", in_features, self.in_features),
            ("out_features", out_features, self.out_features),
        ):
            if declared is not None and declared != real:
                raise ContractError(
                    f"`{argument}` of task {name!r} must be {real}, as {self.env_id!r} has, but received {declared}."
                )


def read_contract(
    env_id: str,
    observation_space: Any,
    action_space: Any,
    *,
    max_episode_steps: int | None,
    reports_success: bool,
    control_mode: str | None = None,
) -> Contract:
    """The contract of an environment with these spaces of Gymnasium.

    Raises:
        [`ContractError`]: If a network can't act in it: images, other spaces, or no time limit.
    """
    layout = observation_layout(env_id, observation_space)
    out_features, low, high = _action_sizes(env_id, action_space)
    if max_episode_steps is None or max_episode_steps < 1:
        raise ContractError(
            f"`env_kwargs` must have `max_episode_steps` for {env_id!r}, which has no time limit of its own, but "
            f"received {max_episode_steps}."
        )
    return Contract(
        env_id,
        layout,
        out_features,
        low,
        high,
        is_discrete=not low,
        first_choice=0 if low else int(action_space.start),
        max_episode_steps=max_episode_steps,
        reports_success=reports_success,
        control_mode=control_mode,
    )


def observation_layout(env_id: str, space: Any) -> tuple[Features, ...]:
    """The parts of a flattened observation, in the order of `gymnasium.spaces.utils.flatten`.

    Raises:
        [`ContractError`]: If the space is no vector, and no dictionary of vectors.
    """
    from gymnasium import spaces
    from gymnasium.spaces.utils import flatdim

    parts: list[Features] = []

    def add(name: str, part: Any) -> None:
        if isinstance(part, spaces.Dict):
            for key, inner in part.spaces.items():
                add(f"{name}.{key}" if name else str(key), inner)
            return
        is_image = isinstance(part, spaces.Box) and (
            len(part.shape) > 2 or (len(part.shape) == 2 and part.dtype == np.uint8)
        )
        known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
        if is_image or not isinstance(part, known):
            kind = f"an image {list(part.shape)}" if is_image else f"a space {part}"
            where = f" as {name!r}" if name else ""
            raise ContractError(
                f"Observations of {env_id!r} must be vectors or dictionaries of vectors, but received {kind}{where}."
            )
        unit = "" if isinstance(part, spaces.Box) else "0 or 1"
        if flatdim(part):
            parts.append(Features(name or "observation", flatdim(part), unit))

    add("", space)
    if not parts:
        raise ContractError(f"Observations of {env_id!r} must have numbers, but received {space}.")
    return tuple(parts)


def _action_sizes(env_id: str, space: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Number of outputs, and bounds; no bounds for discrete actions."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return int(space.n), (), ()
    is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0
    if not is_vector or not np.issubdtype(space.dtype, np.floating):
        raise ContractError(
            f"Actions of {env_id!r} must be a vector of numbers (Box) or one choice (Discrete), but received {space}."
        )
    return space.shape[0], tuple(map(float, space.low)), tuple(map(float, space.high))


def unknown_environment(env_id: str, names: Sequence[str], where: str) -> ContractError:
    """The error for a name that no registry has, with the nearest names."""
    folded = {name.lower(): name for name in names}
    nearest = [folded[name] for name in get_close_matches(env_id.lower(), folded, n=3)]
    hint = f"; nearest: {', '.join(map(repr, nearest))}" if nearest else ""
    return ContractError(f"`env_id` must be an environment of {where}, but received {env_id!r}{hint}.")


def refused_arguments(env_id: str, env_kwargs: Mapping[str, Any], error: BaseException) -> ContractError:
    """The error for arguments with which an environment can't be made."""
    reason = " ".join(str(error).split()).partition(" was raised from the environment creator")[0]
    return ContractError(
        f"`env_kwargs` must be arguments that {env_id!r} takes, but received {dict(env_kwargs)}: "
        f"{type(error).__name__}: {reason:.300}"
    )
