"""Trains policies for a robot task that the package does not have: PullCube-v1 of ManiSkill.

    python examples/pull_cube.py --output_dir outputs/pull_cube

A task needs an environment and an expert: a function from observations to actions, here written by hand. The same from
the command line:

    nnit train --env PullCube-v1 --teacher examples.pull_cube:expert --output outputs/pull_cube
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tyro

from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.kinematics import RADIANS_PER_ACTION, joint_actions
from nnit_diffusers.training import Recipe, train


DOWN = np.array([0.0, 1.0, 0.0, 0.0])


def expert(observations: np.ndarray) -> np.ndarray:
    """Moves beyond the cube, goes down, and pulls it with closed fingers: joint deltas `[N, 8]` of `[N, 35]`."""
    tcp, goal, cube = observations[:, 18:21], observations[:, 25:28], observations[:, 28:31]
    height = np.clip((tcp[:, 2] - 0.04) / 0.03, 0, 1)
    # beyond the cube? a high gripper counts as beyond it only with a margin
    short, aside = cube[:, 0] - tcp[:, 0] + 0.01 + 0.04 * height, np.abs(tcp[:, 1] - cube[:, 1])
    is_beyond = (1 - np.clip(short / 0.02, 0, 1)) * (1 - np.clip((aside - 0.015) / 0.015, 0, 1))
    # beyond and above the cube, then down, then back
    target = np.stack([cube[:, 0] + 0.055, cube[:, 1], 0.02 + 0.09 * (1 - is_beyond)], axis=1)
    target[:, 0] -= (1 - height) * is_beyond * (0.025 + np.clip(cube[:, 0] - goal[:, 0] - 0.07, -0.02, 0.06))
    move = (target - tcp) * np.minimum(1, 0.08 / np.linalg.norm(target - tcp, axis=1, keepdims=True).clip(1e-9))
    arm = joint_actions(observations[:, :7], observations[:, 18:25], move, DOWN)
    return np.concatenate([arm, np.full((len(arm), 1), -1.0)], axis=1)


def expert_of_positions(observations: np.ndarray) -> np.ndarray:
    """The same for the control mode `pd_joint_pos`, whose actions are joint positions in rad."""
    actions = expert(observations)
    actions[:, :7] = observations[:, :7] + RADIANS_PER_ACTION * actions[:, :7]
    return actions


@dataclass
class Arguments:
    output_dir: str = "outputs/pull_cube"
    control_mode: Literal["pd_joint_delta_pos", "pd_joint_pos"] = "pd_joint_delta_pos"
    preset: Literal["small", "base", "large"] = "small"
    recipe: str | None = None


if __name__ == "__main__":
    arguments = tyro.cli(Arguments, use_underscores=True)
    teacher = expert if arguments.control_mode == "pd_joint_delta_pos" else expert_of_positions
    task = ManiSkillTask("PullCube-v1", {"control_mode": arguments.control_mode}, teacher=teacher)
    recipe = None if arguments.recipe is None else Recipe.from_pretrained(arguments.recipe)
    train(task, arguments.output_dir, preset=arguments.preset, recipe=recipe)
