"""A task in any environment of ManiSkill3 with state observations.

Shape legend: B networks, N samples, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from ...executors import NumWorkers
from ...network_batch import NetworkBatch
from ...networks import Network
from ...workers import serialised
from ..simulation.contract import ContractError
from ..simulation.environment import EnvironmentSpec, MakeEnvironment
from ..simulation.rollouts import Episode, Teacher, run_episodes
from ..simulation.success import Success
from ..simulation.task import SimulatorTask, task_name
from .environments import CONTROL_MODE, ManiSkillEnvironment, find_registration, make_environment, make_maniskill


# Arguments of an environment that depend on how episodes are run.
_RESERVED = {"num_envs", "sim_backend", "render_backend"}


class ManiSkillTask(SimulatorTask):
    """A task in an environment of ManiSkill3. Episodes have their full length.

    Rollouts run in worker processes with ManiSkill's own `env.step` and PhysX on the CPU. The same seed gives the same
    episodes and results, for any number of processes and any other networks that are scored. On a machine with CUDA,
    rollouts run in one parallel simulation on the GPU, whose episodes are different, unless an executor runs them.

    ```python
    task = ManiSkillTask("PullCube-v1", {"control_mode": "pd_joint_pos"}, teacher=lambda observations: actions)
    ```

    A subclass may have `env_id`, `env_kwargs`, `expert` and sizes as class attributes instead of arguments.

    Parameters:
        env_id (`str`, *optional*): Name of the environment; that of the class by default.
        env_kwargs (`dict`, *optional*):
            Arguments of the environment, such as `control_mode`, `robot_uids`, `reward_mode`, `max_episode_steps`.
            The control mode is `pd_joint_delta_pos` by default.
        sim_backend (`str`, defaults to `"auto"`):
            `"physx_cpu"`, `"physx_cuda"` or `"auto"`. The latter is `"physx_cuda"` on a machine with CUDA.
        min_width, max_width (`int`, default to 16 and 128): Inclusive range of widths in training.
        min_depth, max_depth (`int`, default to 1 and 3): Inclusive range of the number of hidden layers.

    The other parameters are those of [`SimulatorTask`].

    Attributes:
        expert (`Callable`, *optional*): The teacher of a subclass, a static method.

    Raises:
        [`ContractError`]: If an argument is not valid. The environment itself is checked when first needed.
    """

    env_kwargs: ClassVar[Mapping[str, Any]] = {}
    expert: ClassVar[Any] = None

    def __init__(
        self,
        env_id: str | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        *,
        teacher: Teacher | None = None,
        success: Success = None,
        teacher_return: float | None = None,
        data_dir: str | Path | None = None,
        name: str | None = None,
        noise_scale: float | None = None,
        sim_backend: Literal["auto", "physx_cpu", "physx_cuda"] = "auto",
        min_width: int | None = None,
        max_width: int | None = None,
        min_depth: int | None = None,
        max_depth: int | None = None,
    ):
        if sim_backend not in ("auto", "physx_cpu", "physx_cuda"):
            raise ValueError(
                f'`sim_backend` must be "auto", "physx_cpu" or "physx_cuda", but received {sim_backend!r}.'
            )
        self.sim_backend = sim_backend
        # what a subclass declares
        is_declared = env_id is None and "env_id" in {key for kind in type(self).__mro__ for key in vars(kind)}
        env_id = type(self).env_id if is_declared else env_id or ""
        spec = EnvironmentSpec("maniskill", env_id, self.env_kwargs if env_kwargs is None else env_kwargs)
        reserved = _RESERVED & set(spec.env_kwargs)
        if reserved:
            raise ContractError(f"`env_kwargs` must not have {sorted(reserved)}, which the task sets itself.")
        if name is None and not (is_declared and hasattr(type(self), "name")):
            name = task_name(env_id)
        super().__init__(
            spec,
            teacher=type(self).expert if teacher is None else teacher,
            success=success,
            teacher_return=teacher_return,
            data_dir=data_dir,
            name=name,
            noise_scale=noise_scale,
            grid={"min_width": min_width, "max_width": max_width, "min_depth": min_depth, "max_depth": max_depth},
        )

    @property
    def control_mode(self) -> str:
        """Control mode of the robot."""
        return str(self.environment_spec.env_kwargs.get("control_mode", CONTROL_MODE))

    @property
    def _make_environment(self) -> MakeEnvironment:
        registration = find_registration(self.env_id)
        sent = None if registration is None else serialised("Environments", registration)
        return partial(make_maniskill, self.environment_spec, sent)

    def _run_networks(
        self, networks: Sequence[Network], seeds: Sequence[int], stop_at_success: bool, num_workers: NumWorkers
    ) -> list[list[Episode]]:
        is_auto = self.sim_backend == "auto" and not isinstance(num_workers, Executor)
        if self.sim_backend == "physx_cuda" or (is_auto and torch.cuda.is_available()):
            env_kwargs = self.environment_spec.env_kwargs
            return run_in_parallel(self.env_id, networks, seeds, stop_at_success=stop_at_success, **env_kwargs)
        return super()._run_networks(networks, seeds, stop_at_success, num_workers)


@torch.no_grad()
def run_in_parallel(
    env_id: str,
    networks: Sequence[Network],
    seeds: Sequence[int],
    max_environments: int = 1024,
    stop_at_success: bool = False,
    **kwargs: Any,
) -> list[list[Episode]]:
    """Runs every network on every seed, in one GPU simulation of many environments.

    The episodes differ from those of the same seeds on a CPU, because ManiSkill draws them for all environments at
    once.

    Parameters:
        env_id (`str`): Name of the environment.
        networks (`Sequence[Network]`): B networks, which take raw observations.
        seeds (`Sequence[int]`): Seeds of the episodes, the same for every network.
        max_environments (`int`, defaults to 1024): Maximum number of environments at a time.
        stop_at_success (`bool`, defaults to `False`):
            Stop when all environments that run together have succeeded; saves nothing if one never does.
        kwargs: Further arguments of [`make_environment`].

    Returns:
        `list[list[Episode]]`: For every network, its episodes in the order of `seeds`.
    """
    # an environment for each network and seed
    num_networks = len(networks)
    seeds_at_once = min(len(seeds), max(1, max_environments // num_networks))
    settings = {"sim_backend": "physx_cuda", "render_backend": "gpu", **kwargs}
    simulation = make_environment(env_id, num_envs=num_networks * seeds_at_once, **settings)
    environment = ManiSkillEnvironment(simulation)
    batch = NetworkBatch(networks).to(simulation.unwrapped.device)

    def policy(observations: torch.Tensor) -> torch.Tensor:
        return batch(observations.unflatten(0, (num_networks, -1))).flatten(0, 1)

    episodes: list[list[Episode]] = [[] for _ in range(num_networks)]
    try:
        for start in range(0, len(seeds), seeds_at_once):
            # the number of environments is fixed, so the last round is padded with episodes that are discarded
            chunk = list(seeds[start : start + seeds_at_once])
            filled = (chunk * seeds_at_once)[:seeds_at_once]
            done = run_episodes(environment, filled * num_networks, policy, stop_at_success=stop_at_success)
            for network in range(num_networks):
                first = network * seeds_at_once
                episodes[network] += done[first : first + len(chunk)]
    finally:
        environment.close()
    return episodes
