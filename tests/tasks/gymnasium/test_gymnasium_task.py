"""Networks and teachers act in environments of Gymnasium, in this process and in workers."""

import math

import numpy as np
import pytest
import torch
import toy_environments  # noqa: F401  # registers the environments

from nnit_diffusers import MLP, evaluate
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.metadata import Features
from nnit_diffusers.tasks.simulation.rollouts import EpisodeJob, run_episodes, stack_episodes


# goal, position, side 0, side 1: the order of the keys in the flattened dictionary
def to_goal(observations):
    return np.clip(observations[:, :1] - observations[:, 1:2], -0.5, 2.0)


def to_goal_network(observations):
    return observations[:, :1] - observations[:, 1:2]


@pytest.fixture(scope="module")
def line():
    task = GymnasiumTask("NnitLine-v0", teacher=to_goal)
    yield task
    task.close()


def test_the_contract_is_read_from_the_environment(line):
    assert (line.name, line.in_features, line.out_features) == ("nnitline-v0", 4, 1)
    assert line.observation_layout == (Features("goal", 1), Features("position", 1), Features("side", 2, "0 or 1"))
    assert line.action_layout == (Features("actions", 1, "-0.5 to 2"),)
    assert line.standardises_actions and not line.is_discrete and line.can_label
    assert (line.contract.max_episode_steps, line.contract.reports_success, line.required_part) == (8, True, None)
    assert [bound.tolist() for bound in line.action_bounds] == [[-0.5], [2.0]]
    regions = line.regions
    assert (regions.min_width, regions.max_width, regions.min_depth, regions.max_depth) == (16, 128, 1, 3)
    longer = GymnasiumTask("NnitLine-v0", {"max_episode_steps": 20, "step_size": 0.5}, teacher=to_goal, max_width=32)
    assert (longer.contract.max_episode_steps, longer.regions.max_width) == (20, 32)


def test_success_of_the_environment_counts_and_returns_are_measured(line):
    good, still = to_goal_network, MLP(4, [2], 1)
    with torch.no_grad():
        still[2].weight.zero_(), still[2].bias.zero_()
    scores = line.score([good, still], num_episodes=5, num_workers=0)
    assert [score.num_successes for score in scores] == [5, 0]
    assert set(scores[0].metrics) == {"success_at_end", "mean_return", "return_std"}
    returns = [line.score([still], num_episodes=n, num_workers=0)[0].metrics["mean_return"] * n for n in (1, 2, 3)]
    single = [returns[0], returns[1] - returns[0], returns[2] - returns[1]]
    (three,) = line.score([still], num_episodes=3, num_workers=0)
    assert three.metrics["return_std"] == pytest.approx(np.std(single, ddof=1))
    (screened,) = line.for_screening().score([good], num_episodes=5, num_workers=0)
    assert (screened.num_successes, screened.metrics) == (5, {})


def test_actions_are_clipped_to_the_action_space_and_nan_becomes_the_nearest_to_zero(line):
    environment = line._make_environment(False)
    for value, executed in ((math.nan, 0.0), (-math.inf, -0.5), (-0.7, -0.5), (1.7, 1.7), (9.0, 2.0)):
        run_episodes(environment, [0], lambda observations, value=value: torch.full((1, 1), value))
        assert np.allclose(environment.environment.unwrapped.executed, executed)
    environment.close()


def test_results_are_the_same_in_workers_and_here(line):
    torch.manual_seed(0)
    networks = [MLP(4, [8], 1), MLP(4, [8], 1), lambda observations: observations[:, :1] / 3]
    there = evaluate(networks, line, num_episodes=3, num_workers=2)
    assert there == evaluate(networks, line, num_episodes=3, num_workers=0)
    recorded = [line.demonstrate([3, 0, 1], num_workers=number) for number in (1, 0)]
    for one, other in zip(*recorded):
        assert np.array_equal(one.observations, other.observations) and one.success_once == other.success_once
    assert len({episode.seed for episode in recorded[0]}) == 3


def test_labels_are_the_teachers_actions_without_noise(line):
    episodes = line.demonstrate(range(12), num_workers=0)
    observations, labels = stack_episodes(episodes)
    assert (observations.shape, labels.shape, labels.dtype) == ((96, 4), (96, 1), torch.float32)
    np.testing.assert_allclose(labels, to_goal(observations.numpy()), atol=1e-6)
    assert any(not np.allclose(e.observations[1:, 1] - e.observations[:-1, 1], e.labels[:-1, 0]) for e in episodes)
    visited, of_teacher = line.collect([lambda observations: torch.ones(1, 1)], num_episodes=2, num_workers=0)
    np.testing.assert_allclose(of_teacher, to_goal(visited.numpy()), atol=1e-6)
    assert visited[7, 1] == 7


def test_labels_of_a_teacher_that_leaves_the_bounds_are_clipped():
    task = GymnasiumTask("NnitLine-v0", teacher=lambda observations: observations[:, :1] * 100)
    (episode,) = task.demonstrate([0], noise=False, num_workers=0)
    assert np.all(episode.labels == 2.0)


def test_success_is_a_part_of_the_teachers_return_where_the_environment_reports_none():
    quiet = {"reports": None}
    task = GymnasiumTask("NnitLine-v0", quiet, teacher=to_goal)
    assert task.required_part == 0.9
    of_teacher = task.teacher_return(num_workers=0)
    # a return of -1.1 of the teacher's 1 is above -1 - 0.1
    threshold = of_teacher - 0.1 * abs(of_teacher)
    episodes = task.run([EpisodeJob(seed) for seed in range(20)], num_workers=0)
    assert of_teacher < 0
    judged = task._judged(episodes, 0)
    assert [each.success_once for each in judged] == [each.episode_return >= threshold for each in episodes]
    assert 0 < sum(each.success_once for each in judged) < 20
    # without a teacher, by its known return, and screening must not stop early
    known = GymnasiumTask("NnitLine-v0", quiet, teacher_return=of_teacher)
    scores = [each.score([to_goal_network], num_episodes=20, num_workers=0)[0] for each in (task, known)]
    assert scores[0] == scores[1] == known.for_screening().score([to_goal_network], num_episodes=20, num_workers=0)[0]
    assert set(scores[0].metrics) == {"mean_return", "return_std"}


def test_a_part_may_be_required_where_the_environment_reports_success_and_is_measured_once():
    calls = []

    def teacher(observations):
        calls.append(len(observations))
        return to_goal(observations)

    task = GymnasiumTask("NnitLine-v0", teacher=teacher, success=0.5)
    screening = task.for_screening()
    screening.score([to_goal_network], num_episodes=2, num_workers=0)
    assert len(calls) == 20 * 8
    (score,) = task.separate().score([to_goal_network], num_episodes=2, num_workers=0)
    assert len(calls) == 20 * 8
    assert "success_at_end" not in score.metrics


def choose(observations):
    return 5 + observations.argmax(axis=1)


@pytest.mark.parametrize("as_scores", [False, True])
def test_discrete_actions_are_learned_as_one_hot_and_the_largest_logit_acts(as_scores):
    teacher = (lambda observations: observations) if as_scores else choose
    task = GymnasiumTask("NnitChoices-v0", teacher=teacher)
    assert (task.is_discrete, task.standardises_actions, task.action_bounds) == (True, False, None)
    assert task.action_layout == (Features("action logits", 3, "the largest acts"),)
    assert task.teacher_return(num_workers=0) == 10
    episodes = task.demonstrate(range(8), num_workers=0)
    observations, labels = stack_episodes(episodes)
    assert torch.equal(observations, labels) and labels.dtype == torch.float32
    assert min(episode.episode_return for episode in episodes) < 10  # noise
    scores = task.score([lambda observations: observations, lambda observations: -observations], num_workers=0)
    assert [score.metrics["return_of_teacher"] for score in scores] == [1.0, 0.0]
    assert scores[0].num_successes == 100


def test_the_loss_of_discrete_actions_is_cross_entropy_with_soft_targets():
    task = GymnasiumTask("NnitChoices-v0", teacher=choose)
    outputs = torch.randn(2, 5, 3, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 0.0]] * 4 + [[0.5, 0.25, 0.25]])
    expected = [torch.nn.functional.cross_entropy(network, targets) for network in outputs]
    torch.testing.assert_close(task.loss(outputs, targets), torch.stack(expected))


def test_a_mujoco_episode_ends_after_its_1000_steps():
    task = GymnasiumTask("HalfCheetah-v5", teacher=lambda o: np.zeros((len(o), 6)), teacher_return=1.0)
    assert (task.in_features, task.out_features, task.standardises_actions) == (17, 6, False)
    (episode,) = task.demonstrate([0], noise=False, num_workers=0)
    assert (episode.observations.shape, episode.labels.shape) == ((1000, 17), (1000, 6))
    (score,) = task.score([MLP(17, [8], 6)], num_episodes=1, num_workers=0)
    assert set(score.metrics) <= {"mean_return", "return_of_teacher"}


def test_an_episode_that_is_terminated_ends():
    task = GymnasiumTask("CartPole-v1", teacher=lambda observations: observations[:, 2] > 0)
    (score,) = task.score([lambda observations: torch.tensor([[1.0, 0.0]])], num_episodes=3, num_workers=0)
    assert 8 <= score.metrics["mean_return"] <= 11
