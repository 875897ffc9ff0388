"""The environment `maniskill_state` for LeRobot: ManiSkill with the settings of this package's evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import gymnasium
import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.envs.utils import freeze_after_episode_end
from lerobot.utils.constants import ACTION, OBS_STATE

from ...tasks import get_task
from ...tasks.maniskill import ManiSkillTask
from ...tasks.maniskill.environments import make_environment, max_episode_steps


# LeRobot's `preprocess_observation` renames this key to `observation.state`.
_STATE = "agent_pos"
_STEPS_PER_SECOND = 20


def _task(name: str | None) -> ManiSkillTask:
    task = get_task(name or "")
    if not isinstance(task, ManiSkillTask):
        raise ValueError(f"`env.task` must name a robot task, but received {name!r}.")
    return task


class ManiSkillStateEnv(gymnasium.Env):
    """One robot of a task of this package, with state observations; an episode ends at its first success.

    Every episode begins in a new scene, so only its seed determines it. With the same seed, `nnit evaluate` finds the
    same success.

    Parameters:
        task (`str`): Name of the task.
        image_size (`int`): Height and width of rendered images in pixels.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _STEPS_PER_SECOND}
    render_mode = "rgb_array"

    def __init__(self, task: str, image_size: int):
        robot_task = _task(task)
        self.task, self.env_id, self.image_size = task, robot_task.env_id, image_size
        # ManiSkill has no description of its tasks for language-conditioned policies.
        self.task_description = task
        state = gymnasium.spaces.Box(-np.inf, np.inf, (robot_task.in_features,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({_STATE: state})
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (robot_task.out_features,), np.float32)

    @cached_property
    def _simulation(self) -> Any:
        """Created when first needed: LeRobot creates an environment in its main process only for its spaces."""
        cameras = {"width": self.image_size, "height": self.image_size}
        return make_environment(self.env_id, render_mode=self.render_mode, human_render_camera_configs=cameras)

    @cached_property
    def _max_episode_steps(self) -> int:
        steps = max_episode_steps(self._simulation)
        assert steps is not None  # every task of this package has a limit
        return steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self._num_steps = 0
        state, _ = self._simulation.reset(seed=seed, options={"reconfigure": True})
        return {_STATE: state[0].cpu().numpy()}, {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        # clean the action as our rollouts do, then step
        executed = torch.from_numpy(action).nan_to_num(nan=0.0).clamp(-1.0, 1.0)
        state, reward, _, _, info = self._simulation.step(executed[None])
        self._num_steps += 1
        is_success = bool(info["success"].item())
        truncated = self._num_steps >= self._max_episode_steps
        observation = {_STATE: state[0].cpu().numpy()}
        return observation, float(reward.item()), is_success, truncated, {"is_success": is_success}

    def render(self) -> np.ndarray:
        """An image `[height, width, 3]`, uint8."""
        return self._simulation.render()[0].cpu().numpy()

    def close(self) -> None:
        if "_simulation" in vars(self):
            self._simulation.close()


@EnvConfig.register_subclass("maniskill_state")
@dataclass
class ManiSkillStateEnvConfig(EnvConfig):
    """`--env.type=maniskill_state`.

    Parameters:
        task (`str`, defaults to `"pickcube"`): A robot task of this package.
        image_size (`int`, defaults to 256): Height and width of the videos in pixels.
    """

    task: str | None = "pickcube"
    fps: int = _STEPS_PER_SECOND
    image_size: int = 256
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=lambda: {ACTION: ACTION, _STATE: OBS_STATE})

    def __post_init__(self) -> None:
        task = _task(self.task)
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (task.out_features,)),
            _STATE: PolicyFeature(FeatureType.STATE, (task.in_features,)),
        }

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"task": self.task, "image_size": self.image_size}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """Creates `n_envs` environments; with `use_async_envs`, several run in a process each."""
        # An environment whose episode has ended waits for the others instead of starting another episode.
        make = freeze_after_episode_end(partial(ManiSkillStateEnv, **self.gym_kwargs))
        mode = gymnasium.vector.AutoresetMode.NEXT_STEP
        envs = [make] * n_envs
        if use_async_envs and n_envs > 1:
            vector: Any = gymnasium.vector.AsyncVectorEnv(envs, context="forkserver", autoreset_mode=mode)
        else:
            vector = gymnasium.vector.SyncVectorEnv(envs, autoreset_mode=mode)
        return {self.type: {0: vector}}
