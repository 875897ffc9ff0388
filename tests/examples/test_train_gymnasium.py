"""The example of Gymnasium, run as its docstring shows, and the teacher that it comes with."""

import json
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import train_gymnasium as script
from launching import run
from smallest_recipes import FEW_EPISODES, write_recipe

from nnit_diffusers import MLP
from nnit_diffusers.evaluation import mean_interval
from nnit_diffusers.export import export_network
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.teachers import load_teacher


TEACHER = Path(script.Arguments().teacher)


@pytest.fixture
def teacher_path(tmp_path):
    """A policy for CartPole-v1 that pushes in the direction in which the pole falls."""
    teacher = MLP(4, [4], 2)
    falls_right = torch.tensor([0.0, 0.1, 1.0, 1.0])
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
        first, last = [layer for layer in teacher.modules() if isinstance(layer, torch.nn.Linear)]
        first.weight[:2] = torch.stack([-falls_right, falls_right])
        last.weight[:, :2] = torch.eye(2)
    export_network(teacher, tmp_path / "teacher.onnx", "onnx")
    return str(tmp_path / "teacher.onnx")


def test_the_example_trains_and_scores_policies_for_another_environment_and_teacher(tmp_path, teacher_path, capsys):
    task = GymnasiumTask("CartPole-v1", teacher=load_teacher(teacher_path))
    recipe = write_recipe(tmp_path / "recipe.json", task, demonstrations={"num_episodes": 2}, **FEW_EPISODES)
    run(script, tmp_path / "pole", env_id="CartPole-v1", teacher=teacher_path, recipe=recipe)
    first, *others = capsys.readouterr().out.splitlines()
    teacher_return = re.fullmatch(r"The teacher's mean return is (\d+)\.", first)[1]
    assert 450 < int(teacher_return) <= 500
    assert [line.partition(":")[0] for line in others] == ["4-19-2", "4-19-2", "4-43-27-2", "4-43-27-2"]
    assert all("mean return " in line and line.endswith("%") for line in others)
    card = (tmp_path / "pole" / "README.md").read_text()
    assert "rounds of DAgger" in card and "CartPole-v1" in card


def test_the_teacher_of_the_example_runs():
    teacher, environment = load_teacher(TEACHER), gymnasium.make("HalfCheetah-v5")
    assert (teacher.in_features, teacher.out_features) == (17, 6)
    observation, _ = environment.reset(seed=0)
    episode_return, is_done, num_steps = 0.0, False, 0
    while not is_done:
        action = np.clip(teacher(observation[None])[0], -1, 1)
        observation, reward, is_terminated, is_truncated, _ = environment.step(action.astype(np.float32))
        is_done, episode_return, num_steps = is_terminated or is_truncated, episode_return + reward, num_steps + 1
    environment.close()
    assert num_steps == 1000 and episode_return > 3000


def test_the_record_of_the_teacher_agrees_with_its_returns():
    record = json.loads(TEACHER.with_suffix(".json").read_text())
    assert len(record["returns"]) == record["arguments"]["num_episodes"] == 100
    assert record["mean_return"] == pytest.approx(np.mean(record["returns"]))
    assert record["interval"] == pytest.approx(mean_interval(record["returns"]))
    assert record["interval_method"] == "student_t" and record["arguments"]["env_id"] == script.Arguments().env_id
