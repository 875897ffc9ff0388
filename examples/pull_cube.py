"""Trains policies for a robot task of ManiSkill that the package does not have: PullCube-v1.

    python examples/pull_cube.py --output_dir outputs/pull_cube

A task needs an environment and an expert: a function from observations to actions, written here by hand. The expert
works in two control modes. The same from the command line, with the default control mode:

    nnit train --env PullCube-v1 --teacher examples.pull_cube:expert --output outputs/pull_cube
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tyro

from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.kinematics import RADIANS_PER_ACTION, joint_actions
from nnit_diffusers.training import train


DOWN = np.array([0.0, 1.0, 0.0, 0.0])


def expert(observations: np.ndarray) -> np.ndarray:
    """Moves beyond the cube, goes down, and pulls it with closed fingers: joint deltas `[N, 8]` of `[N, 35]`."""
    joints, tcp_pose = observations[:, :7], observations[:, 18:25]
    goal, cube = observations[:, 25:28], observations[:, 28:31]
    tcp = tcp_pose[:, :3]
    height = np.clip((tcp[:, 2] - 0.04) / 0.03, 0, 1)
    aside = np.abs(tcp[:, 1] - cube[:, 1])
    # beyond the cube? a high gripper counts as beyond it only with a margin
    short = cube[:, 0] - tcp[:, 0] + 0.01 + 0.04 * height
    is_beyond = (1 - np.clip(short / 0.02, 0, 1)) * (1 - np.clip((aside - 0.015) / 0.015, 0, 1))
    # beyond and above the cube, then down, then back
    target = np.stack([cube[:, 0] + 0.055, cube[:, 1], 0.02 + 0.09 * (1 - is_beyond)], axis=1)
    to_go = np.clip(cube[:, 0] - goal[:, 0] - 0.07, -0.02, 0.06)
    target[:, 0] -= (1 - height) * is_beyond * (0.025 + to_go)
    move = target - tcp
    move *= np.minimum(1, 0.08 / np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-9))
    arm = joint_actions(joints, tcp_pose, move, DOWN)
    return np.concatenate([arm, np.full((len(arm), 1), -1.0)], axis=1)


def expert_of_positions(observations: np.ndarray) -> np.ndarray:
    """The same for the control mode `pd_joint_pos`, whose actions are joint positions in rad."""
    actions = expert(observations)
    actions[:, :7] = observations[:, :7] + RADIANS_PER_ACTION * actions[:, :7]
    return actions


EXPERTS = {"pd_joint_delta_pos": expert, "pd_joint_pos": expert_of_positions}


@dataclass
class Arguments:
    output_dir: str = "outputs/pull_cube"
    control_mode: Literal["pd_joint_delta_pos", "pd_joint_pos"] = "pd_joint_delta_pos"
    preset: Literal["small", "base", "large"] = "small"


if __name__ == "__main__":
    arguments = tyro.cli(Arguments, use_underscores=True)
    mode = arguments.control_mode
    task = ManiSkillTask("PullCube-v1", {"control_mode": mode}, teacher=EXPERTS[mode])
    train(task, arguments.output_dir, preset=arguments.preset)
