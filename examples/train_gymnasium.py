"""Trains policies of any size for an environment of Gymnasium, from a teacher's file.

    python examples/train_gymnasium.py --output_dir outputs/half_cheetah

The teacher is the policy that `train_teacher.py` trained with PPO: 74,246 parameters, in an ONNX file. Generated
policies learn to act like it; a search then finds the smallest one. The same from the command line:

    nnit train --env HalfCheetah-v5 --teacher examples/teachers/half_cheetah.onnx --output outputs/half_cheetah
    nnit search outputs/half_cheetah --target 0.9 --output smallest
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from nnit_diffusers import evaluate
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.teachers import load_teacher
from nnit_diffusers.training import Recipe, train


@dataclass
class Arguments:
    """Trains policies for an environment of Gymnasium."""

    env_id: str = "HalfCheetah-v5"
    """Name of the environment."""
    teacher: str = str(Path(__file__).parent / "teachers" / "half_cheetah.onnx")
    """Policy to imitate: ONNX, safetensors, torch.export, a PPO checkpoint, or module:function."""
    output_dir: str = "outputs/half_cheetah"
    """Folder of the pipeline; the same command resumes an interrupted run."""
    preset: Literal["small", "base", "large"] = "small"
    """Size of the run."""
    recipe: str | None = None
    """Settings of all stages: a `recipe.json`, in place of those of the preset."""


def main(arguments: Arguments) -> None:
    task = GymnasiumTask(arguments.env_id, teacher=load_teacher(arguments.teacher))
    print(f"The teacher's mean return is {task.teacher_return():,.0f}.")
    recipe = None if arguments.recipe is None else Recipe.from_pretrained(arguments.recipe)
    pipe = train(task, arguments.output_dir, preset=arguments.preset, recipe=recipe)

    policies = pipe([[19], [43, 27]], num_networks=2, generator=torch.Generator().manual_seed(0)).networks
    for result in evaluate(policies, task, num_episodes=10):
        print(f"{result.architecture}: mean return {result.metrics['mean_return']:,.0f}, success {result.score:.0%}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
