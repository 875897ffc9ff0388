"""Environments of Meta-World, one at a time, for rollouts.

The library is imported inside functions: only an extra of `setup.py` installs it.

Shape legend: N environments side by side, always 1 here, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from ...contract import EnvironmentRecord, IOTerm
from ...loading.limits import check_size
from ..metadata import Features
from ..simulation.contract import Contract, ContractError
from ..simulation.environment import EnvironmentSpec
from .descriptions import official_name


INSTALL_HINT = "Environments of Meta-World need another package: `pip install nnit-diffusers[metaworld]`."
OFFICIAL_STEPS = 500
"""Time limit of Meta-World's own benchmarks."""

_OBJECTS = ("object 1", "object 2")
_QUATERNION = "quaternion; zeros where there is none; the order of its numbers differs between tasks"
_OPENING = "0 closed, 1 open"


class MetaWorldEnvironment:
    """One environment of Meta-World with the goal in its observations; see [`Environment`].

    Parameters:
        env_id (`str`): Official name, such as `drawer-open-v3`.
        max_episode_steps (`int`, defaults to 500): Steps of an episode, which success does not end.

    Raises:
        [`ContractError`]: If there is no such environment.
        `ImportError`: If Meta-World is not installed.
    """

    def __init__(self, env_id: str, max_episode_steps: int = OFFICIAL_STEPS):
        self.environment = _create(official_name(env_id), max_episode_steps)
        self.contract = _contract(self.environment, official_name(env_id), max_episode_steps)

    def reset(self, seeds: Sequence[int], needs_rewards: bool = True) -> torch.Tensor:
        """Begins the episode of one seed, and returns the observation `[1, I]`; see [`Environment`]."""
        (seed,) = seeds
        # `reset` ignores a seed that it is given
        self.environment.seed(int(seed))
        observation, _ = self.environment.reset()
        return _vector(observation)

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]:
        """Makes a step; see [`Environment`]."""
        observation, reward, terminated, truncated, info = self.environment.step(actions[0].numpy())
        success = torch.tensor([bool(info["success"])])
        rewards = torch.tensor([float(reward)], dtype=torch.float64)
        return _vector(observation), rewards, success, bool(terminated or truncated)

    def close(self) -> None:
        """Frees the simulator."""
        self.environment.close()


def _create(env_id: str, max_episode_steps: int) -> Any:
    """The environment of Meta-World, which draws a new scene from every seed, and shows the goal."""
    environment = import_metaworld().ALL_V3_ENVIRONMENTS[env_id]()
    environment._freeze_rand_vec, environment.seeded_rand_vec = False, True
    environment._set_task_called = True
    environment._partially_observable = False
    # cached while the goal was hidden: every step clips the goal to its bounds, which would be 0
    environment.__dict__.pop("sawyer_observation_space", None)
    environment.max_path_length = max_episode_steps
    return environment


def _vector(observation: Any) -> torch.Tensor:
    """The observation `[1, I]`, a copy, because environments may reuse their memory."""
    return torch.from_numpy(np.array(observation, dtype=np.float32)[None])


def _contract(environment: Any, env_id: str, max_episode_steps: int) -> Contract:
    """What an environment expects and gives; the same for all but its name and its time limit."""
    space = environment.action_space
    dt = float(environment.dt)
    observations = observation_terms()
    return Contract(
        env_id,
        tuple(Features(term.name, term.size, term.units or "") for term in observations),
        int(space.shape[0]),
        tuple(map(float, space.low)),
        tuple(map(float, space.high)),
        is_discrete=False,
        max_episode_steps=max_episode_steps,
        reports_success=True,
        environment=EnvironmentRecord(
            library="metaworld",
            env_id=env_id,
            library_version=metadata.version("metaworld"),
            robot="sawyer",
            control_freq=1 / dt,
            dt=dt,
            decimation=int(environment.frame_skip),
            max_episode_steps=max_episode_steps,
        ),
        observation_terms=observations,
        action_terms=action_terms(float(environment.action_scale)),
    )


def observation_terms() -> tuple[IOTerm, ...]:
    """The 39 numbers of an observation: now, one step before, and the goal."""
    state = []
    for when in ("", "previous "):
        state += [
            IOTerm(f"{when}gripper position", (3,), units="m", element_names=("x", "y", "z")),
            IOTerm(f"{when}gripper opening", (1,), description=_OPENING),
        ]
        for name in _OBJECTS:
            state += [
                IOTerm(f"{when}{name} position", (3,), units="m", element_names=("x", "y", "z")),
                IOTerm(f"{when}{name} orientation", (4,), description=_QUATERNION),
            ]
    return (*state, IOTerm("goal position", (3,), units="m", element_names=("x", "y", "z")))


def action_terms(metres: float) -> tuple[IOTerm, ...]:
    """The 4 numbers of an action, where an output of 1 moves the target of the hand by so many metres."""
    return (
        IOTerm(
            "hand displacement",
            (3,),
            units="m",
            element_names=("x", "y", "z"),
            scale=(metres,) * 3,
            offset=(0.0,) * 3,
        ),
        IOTerm("gripper effort", (1,), description="-1 opens, 1 closes"),
    )


def steps_of(env_id: str, env_kwargs: Mapping[str, Any]) -> int:
    """The time limit that the arguments of an environment set.

    Raises:
        [`ContractError`]: If there are other arguments, or it is not an integer of at least 1.
    """
    if not set(env_kwargs) <= {"max_episode_steps"}:
        raise ContractError(
            f"`env_kwargs` must have no argument but `max_episode_steps` for {env_id!r}, but received "
            f"{sorted(env_kwargs)}."
        )
    try:
        return check_size("max_episode_steps", env_kwargs.get("max_episode_steps", OFFICIAL_STEPS))
    except ValueError as error:
        raise ContractError(str(error)) from None


def import_metaworld() -> Any:
    """The module `metaworld`.

    Raises:
        `ImportError`: If it is not installed, with the extra that has it.
    """
    try:
        import metaworld
    except ImportError as error:
        raise ImportError(INSTALL_HINT) from error
    return metaworld


def make_metaworld(spec: EnvironmentSpec, in_worker: bool) -> MetaWorldEnvironment:
    """Creates an environment of Meta-World for rollouts.

    Parameters:
        spec ([`EnvironmentSpec`]): Its name, with or without its version, and its arguments.
        in_worker (`bool`): Whether the process is a worker.

    Raises:
        [`ContractError`]: If it does not exist, or does not take the arguments.
        `ImportError`: If Meta-World is not installed.
    """
    return MetaWorldEnvironment(spec.env_id, steps_of(spec.env_id, spec.env_kwargs))
