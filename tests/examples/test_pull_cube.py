"""The example of a robot task of one's own: its expert, and the script, run as its docstring shows."""

import json
import subprocess
import sys

import pull_cube as script
import pytest
from launching import cpu_environment
from smallest_recipes import FEW_EPISODES, write_recipe

from nnit_diffusers.tasks.maniskill import ManiSkillTask


pytestmark = [
    pytest.mark.usefixtures("simulator"),
    # ManiSkill 3.0.1 warns with a method of `logging` that Python has deprecated.
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),
]


@pytest.mark.parametrize(
    ("control_mode", "teacher"),
    [("pd_joint_delta_pos", script.expert), ("pd_joint_pos", script.expert_of_positions)],
)
def test_the_expert_pulls_the_cube_to_the_goal_in_both_control_modes(control_mode, teacher):
    task = ManiSkillTask("PullCube-v1", {"control_mode": control_mode}, teacher=teacher)
    episodes = task.demonstrate(range(6), noise=False, num_workers=0)
    assert [episode.success_once for episode in episodes] == [True] * 6
    low, high = (bound.numpy() for bound in task.action_bounds)
    assert all((low <= episode.labels).all() and (episode.labels <= high).all() for episode in episodes)


def test_the_script_trains_a_pipeline_with_an_expert_that_is_a_function_of_the_script(tmp_path):
    task = ManiSkillTask("PullCube-v1", {"control_mode": "pd_joint_delta_pos"}, teacher=script.expert)
    # in this process, so that no worker is started to read the sizes
    task.demonstrate([0], num_workers=0)
    recipe = write_recipe(tmp_path / "recipe.json", task, demonstrations={"num_episodes": 1}, **FEW_EPISODES)
    command = [sys.executable, script.__file__, "--output_dir", "outputs/pull_cube", "--recipe", recipe]
    result = subprocess.run(command, cwd=tmp_path, env=cpu_environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "outputs" / "pull_cube"
    spec = json.loads((folder / "task.json").read_text())
    assert (spec["env_id"], spec["env_kwargs"]) == ("PullCube-v1", {"control_mode": "pd_joint_delta_pos"})
    assert "rounds of DAgger" in (folder / "README.md").read_text()
