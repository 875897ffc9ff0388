"""The robot tasks: a Panda arm in ManiSkill3, observed by state and controlled by joint deltas.

The layouts of observations and actions are those of ManiSkill's `state` mode and of `pd_joint_delta_pos`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from ..metadata import Features
from ..registry import register_task
from . import experts
from .task import ManiSkillTask


# Every observation begins with the state of the robot.
_JOINTS = (
    Features("joint positions", 7, "rad"),
    Features("finger positions", 2, "m"),
    Features("joint velocities", 7, "rad/s"),
    Features("finger velocities", 2, "m/s"),
)


def _pose(name: str) -> tuple[Features, Features]:
    return Features(f"{name} position", 3, "m"), Features(f"{name} quaternion", 4, "w, x, y, z")


class PandaTask(ManiSkillTask):
    """A task of this package: a Panda arm, and a scripted expert.

    Parameters:
        data_dir (`str` or `Path`, *optional*):
            Folder of demonstrations, made by `nnit train` or [`collect_demonstrations`]. Only training needs them.
        sim_backend (`str`, defaults to `"auto"`): See [`ManiSkillTask`].
    """

    out_features = 8
    max_width = 256
    is_discrete = False
    standardises_actions = False
    action_bounds = (-torch.ones(8), torch.ones(8))
    action_layout = (
        Features("joint deltas", 7, "-1 to 1 for -0.1 to 0.1 rad"),
        Features("fingers", 1, "-1 closed to 1 open"),
    )

    def __init__(
        self,
        data_dir: str | Path | None = None,
        sim_backend: Literal["auto", "physx_cpu", "physx_cuda"] = "auto",
    ):
        super().__init__(data_dir=data_dir, sim_backend=sim_backend, success="info")


@register_task("pushcube")
class PushCubeTask(PandaTask):
    """PushCube-v1: push a cube into a region 0.2 m ahead of it."""

    title = "PushCube"
    description = "A robot arm pushes a cube into a region 0.2 m ahead of it."
    observation_layout = (*_JOINTS, *_pose("tool centre point"), Features("goal position", 3, "m"), *_pose("cube"))
    in_features = 35
    env_id = "PushCube-v1"
    expert = staticmethod(experts.push_cube)


@register_task("pickcube")
class PickCubeTask(PandaTask):
    """PickCube-v1: grasp a cube, move it to a point in the air, and hold it there."""

    title = "PickCube"
    description = "A robot arm grasps a cube, moves it to a point in the air, and holds it there."
    observation_layout = (
        *_JOINTS,
        Features("is grasped", 1, "0 or 1"),
        *_pose("tool centre point"),
        Features("goal position", 3, "m"),
        *_pose("cube"),
        Features("from tool centre point to cube", 3, "m"),
        Features("from cube to goal", 3, "m"),
    )
    in_features = 42
    env_id = "PickCube-v1"
    expert = staticmethod(experts.pick_cube)


@register_task("stackcube")
class StackCubeTask(PandaTask):
    """StackCube-v1: place cube A on cube B and release it. Cubes have random positions and orientations.

    The architectures trained on have 2 or 3 hidden layers of 48 units or more, because a single layer needs many more
    units. These networks were trained directly on StackCubeEasy-v1, as recorded in
    https://github.com/nnit-diffusers/nnit-diffusers/blob/main/docs/measurements/stackcube-easy_direct.json:

    | hidden sizes | `[48]` | `[128]` | `[256]` | `[48, 48]` | `[64, 64]` |
    |---|---|---|---|---|---|
    | success | 0% | 32% | 100% | 88% | 98% |
    """

    title = "StackCube"
    description = "A robot arm places cube A on cube B and releases it."
    observation_layout = (
        *_JOINTS,
        *_pose("tool centre point"),
        *_pose("cube A"),
        *_pose("cube B"),
        Features("from tool centre point to cube A", 3, "m"),
        Features("from tool centre point to cube B", 3, "m"),
        Features("from cube A to cube B", 3, "m"),
    )
    in_features = 48
    min_width = 48
    min_depth = 2
    env_id = "StackCube-v1"
    expert = staticmethod(experts.stack_cube)


@register_task("stackcube-easy")
class StackCubeEasyTask(StackCubeTask):
    """StackCubeEasy-v1: stacking with cubes that lie near each other and are not turned.

    The paper does not describe its task of this name; this definition is ours, see `stack_cube_easy.py`.
    """

    title = "StackCubeEasy"
    description = (
        "A robot arm places cube A on cube B and releases it. StackCubeEasy is our definition, because the paper does "
        "not describe its task of this name. It is StackCube-v1 with robot `panda` and the same success test. Both "
        "cubes start within 0.1 m of the centre in x and y, at least 0.08 m apart, and not rotated. Its results are "
        "not comparable with the paper's."
    )
    env_id = "StackCubeEasy-v1"
    expert = staticmethod(experts.stack_cube_easy)
