"""Our environment `StackCubeEasy-v1`; importing this module imports ManiSkill and registers it.

The NNiT paper evaluates on a task called "StackCubeEasy" and does not describe it. Ours is StackCube-v1, with the same
success test and the same noise on the robot's posture. The differences are:

- The robot is `panda` instead of `panda_wristcam`.
- Both cubes lie within 0.1 m of the centre in x and y, uniformly, instead of up to 0.2 and 0.3 m.
- Their centres are at least 0.08 m apart instead of 0.06 m.
- Neither cube is turned about the vertical axis.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mani_skill.envs.tasks.tabletop.stack_cube import StackCubeEnv
from mani_skill.utils.registration import register_env
from mani_skill.utils.structs.pose import Pose


_REACH = 0.1
_MIN_DISTANCE = 0.08
_HALF_SIZE = 0.02


@register_env("StackCubeEasy-v1", max_episode_steps=50)
class StackCubeEasyEnv(StackCubeEnv):
    """StackCube-v1 with cubes that lie near each other and are not turned; see the module's docstring."""

    SUPPORTED_ROBOTS = ["panda"]

    def __init__(self, *args: Any, robot_uids: str = "panda", **kwargs: Any):
        super().__init__(*args, robot_uids=robot_uids, **kwargs)

    def _initialize_episode(self, env_idx: torch.Tensor, options: dict[str, Any]) -> None:
        with torch.device(self.device):
            self.table_scene.initialize(env_idx)
            # x and y of two cubes in each of N environments, drawn again while the cubes are too near
            xy_N22 = torch.zeros(len(env_idx), 2, 2)
            is_too_near = torch.ones(len(env_idx), dtype=torch.bool)
            while is_too_near.any():
                drawn = torch.rand_like(xy_N22) * 2 * _REACH - _REACH
                xy_N22 = torch.where(is_too_near[:, None, None], drawn, xy_N22)
                is_too_near = (xy_N22[:, 0] - xy_N22[:, 1]).norm(dim=-1) < _MIN_DISTANCE
            for cube, xy_N2 in zip((self.cubeA, self.cubeB), xy_N22.unbind(1)):
                cube.set_pose(Pose.create_from_pq(p=F.pad(xy_N2, (0, 1), value=_HALF_SIZE)))
