"""The experts act in their ManiSkill environments, in this process."""

import numpy as np
import pytest
import torch

from nnit_diffusers import get_task
from nnit_diffusers.tasks.maniskill.environments import ManiSkillEnvironment, make_environment
from nnit_diffusers.tasks.maniskill.kinematics import joint_frames
from nnit_diffusers.tasks.simulation.rollouts import run_episodes, teacher_labels
from nnit_diffusers.tasks.simulation.seeds import episode_seeds


pytestmark = pytest.mark.usefixtures("simulator")

TASKS = {
    "pushcube": 18,
    "pickcube": 19,
    "stackcube": 18,
    "stackcube-easy": 18,
}  # index of the tool centre point in an observation
FLANGE_TO_TCP = 0.107 + 0.1034


@pytest.mark.parametrize("name", TASKS)
def test_the_expert_reaches_the_goal_and_stays_there(name):
    task = get_task(name)
    environment = ManiSkillEnvironment(make_environment(task.env_id))
    expert = type(task).expert
    assert environment.contract.max_episode_steps == 50
    for seed in episode_seeds("validation", 0, 2):
        (episode,) = run_episodes(environment, [seed], policy=None, teacher=expert)
        assert (episode.success_once, episode.success_at_end) == (True, True)
        assert 5 < episode.episode_return <= 50
        assert episode.observations.shape == (50, task.in_features)
        assert episode.labels.shape == (50, 8)
        assert np.abs(episode.labels).max() <= 1
        # The observed tool centre point is the one that the forward kinematics compute.
        positions, axes, _ = joint_frames(episode.observations[:, :7].astype(np.float64))
        tcp = positions[:, 6] + FLANGE_TO_TCP * axes[:, 6]
        start = TASKS[name]
        np.testing.assert_allclose(episode.observations[:, start : start + 3], tcp, atol=1e-4)
        # No memory: a single state gets the same action as in a batch.
        alone = teacher_labels(expert, torch.from_numpy(episode.observations[25:26]), environment.contract)
        np.testing.assert_allclose(alone[0], episode.labels[25], atol=1e-5)
    environment.close()


def test_cubes_of_stack_cube_easy_lie_near_the_centre_apart_and_are_not_turned():
    environment = make_environment("StackCubeEasy-v1")
    cubes = []
    for seed in range(40):
        observation = environment.reset(seed=seed)[0][0]
        cubes.append(observation[25:39].unflatten(0, (2, 7)))
        torch.testing.assert_close(environment.reset(seed=seed)[0][0], observation)
    positions, quaternions = torch.stack(cubes).split([3, 4], dim=-1)
    assert positions[..., :2].abs().max() <= 0.1
    assert positions[..., :2].abs().max() > 0.09
    distances = (positions[:, 0] - positions[:, 1]).norm(dim=-1)
    assert 0.08 <= distances.min() < 0.1 < distances.max()
    torch.testing.assert_close(quaternions, torch.tensor([1.0, 0, 0, 0]).expand(40, 2, 4))
    environment.close()
