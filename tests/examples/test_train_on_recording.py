"""The example of a recording, run as its docstring shows on episodes that ManiSkill recorded, and its length."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import train_on_recording as script
from launching import run
from smallest_recipes import FEW_EPISODES, write_recipe

from nnit_diffusers import MLP
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.environments import make_environment
from nnit_diffusers.tasks.maniskill.experts import pick_cube


# ManiSkill 3.0.1 warns with a method of `logging` that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

MAX_LINES = 60


@pytest.fixture
def recording(simulator, tmp_path):
    """Three episodes of the scripted expert."""
    from mani_skill.utils.wrappers import RecordEpisode

    environment = RecordEpisode(
        make_environment("PickCube-v1"), str(tmp_path), trajectory_name="trajectory", save_video=False
    )
    for seed in range(3):
        observation, _ = environment.reset(seed=seed)
        for _ in range(50):
            observation, *_ = environment.step(pick_cube(observation.numpy().astype(np.float64)).astype(np.float32))
    environment.close()
    return str(tmp_path / "trajectory.h5")


def test_policies_are_trained_on_the_recording_alone_and_the_card_has_no_dagger(recording, tmp_path, capsys):
    task = ManiSkillTask("PickCube-v1", {"control_mode": "pd_joint_delta_pos"})
    # in this process, so that no worker is started to read the sizes
    task.score([MLP(42, [4], 8)], num_episodes=1, num_workers=0)
    few = {**FEW_EPISODES, "ghn": {"validation_episodes": 1}}
    recipe = write_recipe(tmp_path / "recipe.json", task, **few)
    run(script, tmp_path / "recorded", recording=recording, recipe=recipe)
    printed = capsys.readouterr().out.splitlines()
    policies = [re.fullmatch(r"(\S+): success \d+%", line)[1] for line in printed]
    assert policies == ["42-48-8", "42-80-56-8"]
    collection = json.loads((tmp_path / "recorded" / "training" / "demonstrations" / "collection.json").read_text())
    assert (collection["collection"]["num_episodes"], collection["collection"]["num_steps"]) == (3, 150)
    assert "no DAgger" in (tmp_path / "recorded" / "README.md").read_text()


@pytest.mark.parametrize("name", ["train_table", "train_gymnasium", "pull_cube", "train_on_recording"])
def test_an_example_of_ones_own_problem_is_60_lines_at_most(name):
    path = Path(script.__file__).with_name(f"{name}.py")
    assert len(path.read_text().splitlines()) <= MAX_LINES
