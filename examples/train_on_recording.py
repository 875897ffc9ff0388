"""Trains policies of any size from recorded episodes alone, without a teacher.

    python examples/train_on_recording.py trajectory.h5 --output_dir outputs/recorded

The file is a recording of ManiSkill, with `trajectory.json` beside it. Data sets of LeRobot and Minari, `.npz` and
`.safetensors` work as well. Nobody labels the states that networks get into, so there is no DAgger: expect less than
with a teacher. The same from the command line:

    nnit train --env PickCube-v1 --demonstrations trajectory.h5 --output outputs/recorded
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro

from nnit_diffusers import evaluate
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.training import Recipe, train


@dataclass
class Arguments:
    """Trains policies from a recording."""

    recording: Annotated[str, tyro.conf.Positional]
    """Recorded demonstrations."""
    env_id: str = "PickCube-v1"
    """Environment of ManiSkill that was recorded."""
    control_mode: str = "pd_joint_delta_pos"
    """Control mode that was recorded."""
    output_dir: str = "outputs/recorded"
    """Folder of the pipeline; the same command resumes an interrupted run."""
    preset: Literal["small", "base", "large"] = "small"
    """Size of the run."""
    recipe: str | None = None
    """Settings of all stages: a `recipe.json`, in place of those of the preset."""


def main(arguments: Arguments) -> None:
    task = ManiSkillTask(arguments.env_id, {"control_mode": arguments.control_mode})
    recipe = None if arguments.recipe is None else Recipe.from_pretrained(arguments.recipe)
    pipe = train(task, arguments.output_dir, preset=arguments.preset, recipe=recipe, recording=arguments.recording)

    policies = pipe([[48], [80, 56]], generator=torch.Generator().manual_seed(0)).networks
    for result in evaluate(policies, task, num_episodes=20):
        print(f"{result.architecture}: success {result.score:.0%}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
