"""Environments of Gymnasium, one at a time, for rollouts.

The library is imported inside functions: only extras of `setup.py` install it.

Shape legend: N environments side by side, always 1 here, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...contract import EnvironmentRecord
from ..simulation.contract import ContractError, read_contract, refused_arguments, unknown_environment
from ..simulation.environment import EnvironmentSpec, plain_json


INSTALL_HINT = "Gymnasium environments need another package: `pip install nnit-diffusers[mujoco]`."
_SUCCESS_KEYS = ("success", "is_success")
# Steps of random actions in which an environment has to report success.
_MAX_PROBED_STEPS = 1000


class GymnasiumEnvironment:
    """One environment of Gymnasium; see [`Environment`].

    Parameters:
        environment: The environment; it is closed with this object.
        env_kwargs (`Mapping[str, Any]`, defaults to `{}`): Arguments that it was made with, to be recorded.
    """

    def __init__(self, environment: Any, env_kwargs: Mapping[str, Any] | None = None):
        from gymnasium import spaces

        self.environment = environment
        self._observation_space, action_space = environment.observation_space, environment.action_space
        env_id = environment.spec.id if environment.spec is not None else type(environment.unwrapped).__name__
        contract = read_contract(
            env_id,
            self._observation_space,
            action_space,
            max_episode_steps=_max_episode_steps(environment),
            reports_success=False,
        )
        reports_success = _reports_success(environment, min(contract.max_episode_steps, _MAX_PROBED_STEPS))
        record = _record(environment, env_id, contract.max_episode_steps, env_kwargs or {})
        self.contract = replace(contract, reports_success=reports_success, environment=record)
        space = self._observation_space
        self._is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1
        self._action_dtype = action_space.dtype

    def _vector(self, observation: Any) -> torch.Tensor:
        """The observation `[1, I]`, a copy, because environments may reuse their memory."""
        if not self._is_vector:
            from gymnasium.spaces.utils import flatten

            observation = flatten(self._observation_space, observation)
        return torch.from_numpy(np.array(observation, dtype=np.float32)[None])

    def reset(self, seeds: Sequence[int], needs_rewards: bool = True) -> torch.Tensor:
        """Begins the episode of one seed, and returns the observation `[1, I]`; see [`Environment`]."""
        (seed,) = seeds
        observation, _ = self.environment.reset(seed=seed)
        return self._vector(observation)

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]:
        """Makes a step; see [`Environment`]."""
        if self.contract.is_discrete:
            action: Any = int(actions[0]) + self.contract.first_choice
        else:
            action = actions[0].numpy().astype(self._action_dtype, copy=False)
        observation, reward, terminated, truncated, info = self.environment.step(action)
        success = None
        if self.contract.reports_success:
            success = torch.tensor([any(bool(np.all(info.get(key, False))) for key in _SUCCESS_KEYS)])
        has_ended = bool(terminated or truncated)
        return self._vector(observation), torch.tensor([float(reward)], dtype=torch.float64), success, has_ended

    def close(self) -> None:
        """Frees the simulator."""
        self.environment.close()


def _record(environment: Any, env_id: str, max_episode_steps: int, env_kwargs: Mapping[str, Any]) -> EnvironmentRecord:
    """The environment as networks record it; the control rate only where it has a `dt`, as those of MuJoCo do."""
    inner = environment.unwrapped
    found, frame_skip = getattr(inner, "dt", None), getattr(inner, "frame_skip", None)
    dt = float(found) if isinstance(found, (float, np.floating)) and 0 < found < np.inf else None
    return EnvironmentRecord(
        library="gymnasium",
        env_id=env_id,
        library_version=import_gymnasium().__version__,
        env_kwargs={name: value for name, value in env_kwargs.items() if plain_json(value) is not None},
        control_freq=None if dt is None else 1 / dt,
        dt=dt,
        decimation=frame_skip if isinstance(frame_skip, int) and frame_skip > 0 else None,
        max_episode_steps=max_episode_steps,
    )


def _reports_success(environment: Any, num_steps: int) -> bool:
    """Whether any of the first steps of an episode of random actions reports success."""
    environment.action_space.seed(0)
    environment.reset(seed=0)
    for _ in range(num_steps):
        _, _, terminated, truncated, info = environment.step(environment.action_space.sample())
        if any(key in info for key in _SUCCESS_KEYS):
            return True
        if terminated or truncated:
            break
    return False


def _max_episode_steps(environment: Any) -> int | None:
    """The time limit: that of the registration or of `make`, or that of a wrapper further inside."""
    if environment.spec is not None and environment.spec.max_episode_steps is not None:
        return int(environment.spec.max_episode_steps)
    for name in ("_max_episode_steps", "max_episode_steps"):
        try:
            limit = environment.get_wrapper_attr(name)
        except AttributeError:
            continue
        if isinstance(limit, (int, np.integer)):
            return int(limit)
    return None


def find_registration(env_id: str) -> Any:
    """The registration of an environment, to be sent to worker processes; `None` if there is none here.

    Raises:
        `ImportError`: If Gymnasium is not installed.
    """
    return import_gymnasium().registry.get(env_id.rpartition(":")[2])


def import_gymnasium() -> Any:
    """The module `gymnasium`.

    Raises:
        `ImportError`: If it is not installed, with the extra that has it.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(INSTALL_HINT) from error
    return gymnasium


def make_gymnasium(spec: EnvironmentSpec, registration: Any, in_worker: bool) -> GymnasiumEnvironment:
    """Creates an environment of Gymnasium for rollouts.

    Parameters:
        spec ([`EnvironmentSpec`]): Its name and arguments.
        registration: Registration in the calling process, or `None`; used where this process has no such name.
        in_worker (`bool`): Whether the process is a worker.

    Raises:
        [`ContractError`]: If it does not exist, or can't be made or used.
        `ImportError`: If it needs a package that is not installed.
    """
    gymnasium = import_gymnasium()
    if registration is not None:
        gymnasium.registry.setdefault(registration.id, registration)
    try:
        # the checker adds a call to every step
        environment = gymnasium.make(spec.env_id, **{"disable_env_checker": True, **spec.env_kwargs})
    except gymnasium.error.DependencyNotInstalled as error:
        reason = " ".join(str(error).split())
        hint = f"{INSTALL_HINT} " if "mujoco" in reason.lower() else ""
        raise ImportError(f"{hint}{spec.env_id!r} reports: {reason:.200}") from error
    except ImportError as error:
        raise ContractError(
            f"`env_id` must name an environment whose module can be imported, but received {spec.env_id!r}: {error}."
        ) from error
    except Exception as error:  # constructors may raise anything here
        if ":" not in spec.env_id and spec.env_id not in gymnasium.registry:
            raise unknown_environment(spec.env_id, list(gymnasium.registry), "Gymnasium") from error
        raise refused_arguments(spec.env_id, spec.env_kwargs, error) from error
    try:
        return GymnasiumEnvironment(environment, spec.env_kwargs)
    except ContractError:
        raise
    except Exception as error:  # arguments that fit only the constructor
        raise refused_arguments(spec.env_id, spec.env_kwargs, error) from error
