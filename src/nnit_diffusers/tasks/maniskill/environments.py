"""ManiSkill environments, and checks that they can run here.

`mani_skill` is imported inside functions: the import takes seconds, and only an extra of `setup.py` installs it.

Shape legend: N environments side by side, I/O observation and action features.
"""

from __future__ import annotations

import gc
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from ...workers import deserialised
from ..simulation.contract import ContractError, read_contract, refused_arguments, unknown_environment
from ..simulation.environment import EnvironmentSpec
from .meaning import read_actions, read_environment, read_observations


CONTROL_MODE = "pd_joint_delta_pos"

INSTALL_HINT = "Robot tasks need ManiSkill: `pip install nnit-diffusers[maniskill]`."
VULKAN_HINT = (
    "ManiSkill needs a Vulkan device, even if nothing is rendered, and found none. An NVIDIA driver provides one. "
    "Without a GPU, use Mesa's software device, release 23.1 or later. On Debian 12, as root, add the suite "
    "bookworm-backports to the Debian sources and run `apt-get install -t bookworm-backports mesa-vulkan-drivers "
    "libvulkan1`. On newer Debian or Ubuntu, run `apt-get install mesa-vulkan-drivers libvulkan1`."
)


class NoVulkanDeviceError(RuntimeError, OSError):
    """ManiSkill found no Vulkan device; the message names the packages to install."""

    def __init__(self, message: str = VULKAN_HINT):
        super().__init__(message)


def check_simulator() -> None:
    """Checks that environments can be created on this machine; takes about a second.

    Raises:
        `ImportError`: If ManiSkill is not installed.
        `NoVulkanDeviceError`: If there is no Vulkan device.
    """
    if find_spec("mani_skill") is None:
        raise ImportError(INSTALL_HINT)
    import sapien

    try:
        sapien.render.RenderSystem()
    except RuntimeError as error:
        raise NoVulkanDeviceError from error


def import_simulator() -> None:
    """Imports ManiSkill, and registers its environments and ours.

    Raises:
        `ImportError`, `NoVulkanDeviceError`: As [`check_simulator`].
    """
    check_simulator()
    from . import stack_cube_easy  # noqa: F401  # imports ManiSkill's environments as well


def make_environment(env_id: str, **kwargs: Any) -> Any:
    """Creates an environment with the settings of all evaluations: one robot, state observations, PhysX on the CPU.

    Parameters:
        env_id (`str`): Name in Gymnasium's registry.
        kwargs: Further arguments of `gymnasium.make`; they override these settings.

    Raises:
        `ImportError`, `NoVulkanDeviceError`: As [`check_simulator`].
        [`ContractError`]: If it does not exist, or can't be made with these arguments.
    """
    import_simulator()
    _check_arguments(env_id, kwargs)
    import gymnasium

    settings: dict[str, Any] = {
        "obs_mode": "state",
        "control_mode": CONTROL_MODE,
        "num_envs": 1,
        "sim_backend": "physx_cpu",
        # A machine with a GPU driver may have no other Vulkan device.
        "render_backend": "gpu" if torch.cuda.is_available() else "cpu",
    }
    try:
        return gymnasium.make(env_id, **(settings | kwargs))
    except Exception as error:
        modes = re.search(r"not in supported modes: (\[.*\])", str(error))
        if modes is not None:
            raise ContractError(
                f"`control_mode` of {env_id!r} must be one of {modes[1]}, but received "
                f"{(settings | kwargs)['control_mode']!r}."
            ) from error
        raise refused_arguments(env_id, kwargs, error) from error


def _check_arguments(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Raises [`ContractError`] for what ManiSkill would ask or explain at length."""
    from gymnasium import registry
    from mani_skill.utils import assets
    from mani_skill.utils.registration import REGISTERED_ENVS

    if env_id not in REGISTERED_ENVS:
        if env_id in registry:
            raise ContractError(f"`env_id` must be an environment of ManiSkill, but {env_id!r} is one of Gymnasium.")
        raise unknown_environment(env_id, [*registry, *REGISTERED_ENVS], "ManiSkill")
    registered = REGISTERED_ENVS[env_id]
    allowed = {
        "obs_mode": ("state",),  # networks take vectors
        "reward_mode": tuple(registered.cls.SUPPORTED_REWARD_MODES),
    }
    for key, values in allowed.items():
        if key in kwargs and kwargs[key] not in values:
            raise ContractError(f"`{key}` of {env_id!r} must be one of {list(values)}, but received {kwargs[key]!r}.")
    # ManiSkill would ask whether to download them
    missing = [
        part
        for asset in registered.asset_download_ids or ()
        for part in (
            assets.expand_data_group_into_individual_data_source_ids(asset) if asset in assets.DATA_GROUPS else [asset]
        )
        if not assets.is_data_source_downloaded(part)
    ]
    if missing:
        raise ContractError(
            f"`env_id` {env_id!r} needs files that are missing, {', '.join(missing):.200}; run `python -m "
            f"mani_skill.utils.download_asset {env_id}`."
        )


class ManiSkillEnvironment:
    """Environments of ManiSkill; see [`Environment`].

    ManiSkill marks a step that succeeds as terminal, but neither stops nor resets by itself. Episodes have their full
    length here, so success at episode end is what its vector environments report with `ignore_terminations=True`.

    Parameters:
        environment: From [`make_environment`], or a wrapper of it; it is closed with this object.
        env_kwargs (`Mapping[str, Any]`, defaults to `{}`): Arguments that it was made with, to be recorded.
    """

    def __init__(self, environment: Any, env_kwargs: Mapping[str, Any] | None = None):
        self.environment = environment
        simulation = environment.unwrapped
        self._reward_mode = simulation.reward_mode
        contract = read_contract(
            environment.spec.id,
            simulation.single_observation_space,
            simulation.single_action_space,
            max_episode_steps=max_episode_steps(environment),
            reports_success="success" in simulation.get_info(),
            control_mode=simulation.control_mode,
        )
        self.contract = replace(
            contract,
            environment=read_environment(simulation, contract.max_episode_steps, env_kwargs or {}),
            observation_terms=read_observations(simulation, contract.in_features),
            action_terms=read_actions(simulation, contract.out_features),
        )

    def reset(self, seeds: Sequence[int], needs_rewards: bool = True) -> torch.Tensor:
        """Begins the episodes of N seeds, and returns the observations `[N, I]`; see [`Environment`]."""
        simulation = self.environment.unwrapped
        # Computing the dense reward takes an eighth of a step. ManiSkill sets the mode when an environment is created,
        # and reads it from this attribute at every step. If a release renames it, screening is only slower.
        simulation._reward_mode = self._reward_mode if needs_rewards else "none"
        # Rebuild the scene: PhysX on the CPU keeps contacts across a reset, so an episode would depend on earlier
        # ones. On a GPU, episodes are not reproducible anyway, and rebuilding would be slow.
        options = {"reconfigure": not simulation.gpu_sim_enabled}
        seed = seeds[0] if len(seeds) == 1 else list(seeds)
        observations, _ = self.environment.reset(seed=seed, options=options)
        assert isinstance(observations, torch.Tensor)
        return observations

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool]:
        """Makes a step; see [`Environment`]."""
        observations, reward_N, _, _, info = self.environment.step(actions)
        success_N = info["success"].cpu() if self.contract.reports_success else None
        return observations, reward_N.cpu(), success_N, False

    def close(self) -> None:
        """Frees the simulator."""
        self.environment.close()


def max_episode_steps(environment: Any) -> int | None:
    """Number of steps in an episode, of the registration or of `make`; `None` if there is no limit."""
    from mani_skill.utils.gym_utils import find_max_episode_steps_value

    limit = find_max_episode_steps_value(environment)
    return None if limit is None else int(limit)


@dataclass(frozen=True)
class Registration:
    """An environment that the user registered with ManiSkill, to be sent to worker processes."""

    environment_class: type
    max_episode_steps: int | None
    asset_download_ids: list[str]
    default_kwargs: dict[str, Any]


def find_registration(env_id: str) -> Registration | None:
    """The user's registration of an environment in this process; `None` for ManiSkill's own and ours."""
    module = sys.modules.get("mani_skill.utils.registration")
    found = None if module is None else module.REGISTERED_ENVS.get(env_id)
    if found is None or found.cls.__module__.partition(".")[0] in ("mani_skill", "nnit_diffusers"):
        return None
    return Registration(found.cls, found.max_episode_steps, found.asset_download_ids, found.default_kwargs)


def make_maniskill(spec: EnvironmentSpec, registration: bytes | None, in_worker: bool) -> ManiSkillEnvironment:
    """Creates an environment of ManiSkill for rollouts.

    Parameters:
        spec ([`EnvironmentSpec`]): Its name and arguments.
        registration (`bytes`, *optional*):
            The [`Registration`] in the calling process, serialised, because ManiSkill has to be imported before it.
        in_worker (`bool`): Whether the process is a worker.

    Raises:
        `ImportError`, `NoVulkanDeviceError`: As [`check_simulator`].
        [`ContractError`]: If it does not exist, or can't be made or used.
    """
    import_simulator()
    if in_worker:
        # ManiSkill runs garbage collection for every scene it builds. Excluding all imported objects makes that fast.
        gc.freeze()
        # it warns of the same in every episode, which begins in a new scene
        from mani_skill import logger

        logger.setLevel(logging.ERROR)
    if registration is not None:
        _register(spec.env_id, deserialised("Environments", registration))
    return ManiSkillEnvironment(make_environment(spec.env_id, **spec.env_kwargs), spec.env_kwargs)


def _register(env_id: str, registration: Registration) -> None:
    from mani_skill.utils.registration import REGISTERED_ENVS, register_env

    if env_id not in REGISTERED_ENVS:  # its module may have registered it
        register_env(
            env_id,
            registration.max_episode_steps,
            asset_download_ids=registration.asset_download_ids,
            **registration.default_kwargs,
        )(registration.environment_class)


if __name__ == "__main__":
    check_simulator()
