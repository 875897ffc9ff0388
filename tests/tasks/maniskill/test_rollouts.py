"""Networks act in a ManiSkill task, in worker processes and in this process."""

import os
import signal
import threading

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from nnit_diffusers import MLP, evaluate, get_task
from nnit_diffusers.tasks.maniskill.task import run_in_parallel
from nnit_diffusers.tasks.maniskill.video import record_video
from nnit_diffusers.tasks.simulation.rollouts import EpisodeJob, stack_episodes
from nnit_diffusers.tasks.simulation.seeds import episode_seeds


pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="module")
def task():
    task = get_task("pushcube", sim_backend="physx_cpu")
    yield task
    task.close()


def reaching_network(seed):
    """A network with random weights that keeps the fingers closed."""
    torch.manual_seed(seed)
    network = MLP(35, [16], 8)
    with torch.no_grad():
        network[2].bias[7] = -5.0
    return network


@pytest.fixture(scope="module")
def networks():
    return [reaching_network(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def imitating_network(task):
    """A network that imitates the expert well enough for some episodes: random features and ridge regression."""
    observations, actions = stack_episodes(task.demonstrate(range(8), noise=False))
    network = MLP(35, [64], 8)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        scale = observations.std(dim=0).clamp(min=0.05)
        network[0].weight.copy_(torch.randn(64, 35, generator=generator) / (6 * scale))
        network[0].bias.copy_(torch.randn(64, generator=generator) - network[0].weight @ observations.mean(dim=0))
        features = torch.cat([network[:2](observations), torch.ones(len(observations), 1)], dim=1).double()
        ridge = 1e-3 * len(features) * torch.eye(65, dtype=torch.float64)
        solution = torch.linalg.solve(features.mT @ features + ridge, features.mT @ actions.double()).float()
        network[2].weight.copy_(solution[:-1].mT)
        network[2].bias.copy_(solution[-1])
    return network


def test_screening_counts_the_same_successes_and_nothing_else_with_the_same_workers(task, networks, imitating_network):
    screening = task.for_screening()
    policies = [imitating_network, networks[0]]
    full = evaluate(policies, task, num_episodes=5, split="validation")
    workers = task.pool.process_ids
    screened = evaluate(policies, screening, num_episodes=5, split="validation")
    assert [result.num_successes for result in screened] == [result.num_successes for result in full]
    assert 0 < sum(result.num_successes for result in full) < 10
    assert [result.metrics for result in screened] == [{}, {}]
    assert task.pool.process_ids == screening.pool.process_ids == workers
    # The workers can measure all metrics again.
    assert evaluate(policies[:1], task, num_episodes=5, split="validation") == full[:1]


def test_an_episode_that_stops_at_success_is_the_start_of_the_full_episode(task):
    seed = episode_seeds("validation", 0, 1)[0]
    full, stopped = task.run([EpisodeJob(seed), EpisodeJob(seed, stop_at_success=True)], num_workers=1)
    assert (full.success_once, stopped.success_once) == (True, True)
    assert (stopped.success_at_end, stopped.episode_return) == (None, None)
    num_steps = len(stopped.observations)
    assert num_steps < len(full.observations) == 50
    assert np.array_equal(stopped.observations, full.observations[:num_steps])


def test_results_do_not_depend_on_the_number_of_workers_or_on_other_networks(task, networks):
    together = evaluate(networks, task, num_episodes=2, split="validation", num_workers=2)
    alone = [evaluate([network], task, num_episodes=2, split="validation", num_workers=1)[0] for network in networks]
    assert together == alone
    assert {result.num_episodes for result in together} == {2}
    assert len({result.metrics["mean_return"] for result in together}) == 3


class Saturated(nn.Module):
    """A network that is no MLP: its actions can't leave -1 to 1, in training only half of the time."""

    def __init__(self, network):
        super().__init__()
        self.network, self.dropout = network, nn.Dropout(0.5)

    def forward(self, observations):
        return self.dropout(self.network(observations).clamp(-1, 1))


def test_networks_that_are_no_mlps_score_the_same_in_workers_and_in_this_process(task, networks):
    expected = evaluate(networks, task, num_episodes=2, split="validation", num_workers=2)
    others = [Saturated(network) for network in networks]
    for num_workers in (2, 0):
        results = evaluate(others, task, num_episodes=2, split="validation", num_workers=num_workers)
        # One network and many take different paths through torch's matrix products.
        for result, of_mlp in zip(results, expected, strict=True):
            assert result.metrics == pytest.approx(of_mlp.metrics, rel=1e-3)
        assert {result.architecture for result in results} == {None}
    assert all(network.training and network.dropout.training for network in others)


def test_a_function_that_can_not_be_sent_runs_in_this_process_on_request(task, networks):
    expected = evaluate(networks[:1], task, num_episodes=1, split="validation")
    lock = threading.Lock()
    policy = lambda observations: networks[0](observations) if lock else None  # noqa: E731
    with pytest.raises(ValueError, match="can be sent.*received '<lambda>' .*Pass `num_workers=0`"):
        evaluate([policy], task, num_episodes=1, split="validation", num_workers=1)
    (result,) = evaluate([policy], task, num_episodes=1, split="validation", num_workers=0)
    assert result.metrics == pytest.approx(expected[0].metrics, rel=1e-3)
    with pytest.raises(ValueError, match="`num_workers` must be 0 or more, or a .*, but received -1"):
        evaluate(networks, task, num_episodes=1, num_workers=-1)


def test_dagger_in_this_process_visits_the_same_states(task, networks):
    there, _ = task.collect(networks[:1], seed=3, num_workers=1)
    here, _ = task.collect(networks[:1], seed=3, num_workers=0)
    assert torch.equal(here, there)


def test_different_seeds_and_splits_choose_different_episodes(task, networks):
    returns = {
        evaluate(networks[:1], task, num_episodes=1, split=split, seed=seed)[0].metrics["mean_return"]
        for split, seed in (("validation", 0), ("validation", 1), ("test", 0))
    }
    assert len(returns) == 3


def test_a_network_with_nan_outputs_only_scores_zero(task):
    broken = MLP(35, [16], 8)
    with torch.no_grad():
        broken[2].bias.fill_(torch.nan)
    (result,) = evaluate([broken], task, num_episodes=1)
    assert (result.num_successes, result.metrics["success_at_end"]) == (0, 0.0)


def test_episodes_of_a_worker_that_is_killed_are_run_again(task, networks):
    expected = evaluate(networks, task, num_episodes=4, split="validation", num_workers=2)
    victim = task.pool.process_ids[0]
    # Stop it first, so that it can't finish its episode before it is killed.
    os.kill(victim, signal.SIGSTOP)
    killer = threading.Timer(0.5, os.kill, (victim, signal.SIGKILL))
    killer.start()
    with pytest.warns(UserWarning, match=f"Worker process {victim} died"):
        assert evaluate(networks, task, num_episodes=4, split="validation", num_workers=2) == expected
    killer.join()
    assert victim not in task.pool.process_ids


def test_parallel_simulation_gives_the_same_results_as_the_workers(task, imitating_network):
    # The code for the GPU, with one environment, which the CPU can simulate as well.
    seeds = episode_seeds("validation", 0, 2)
    on_cpu = {"max_environments": 1, "sim_backend": "physx_cpu", "render_backend": "cpu"}
    ((first, second),) = run_in_parallel(task.env_id, [imitating_network], seeds, **on_cpu)
    (stopped,) = run_in_parallel(task.env_id, [imitating_network], seeds, stop_at_success=True, **on_cpu)
    assert [each.success_once for each in stopped] == [first.success_once, second.success_once]
    assert {each.success_at_end for each in stopped} == {None}
    (score,) = task.score([imitating_network], num_episodes=2)
    assert [first.seed, second.seed] == list(seeds)
    assert score.metrics["mean_return"] == pytest.approx((first.episode_return + second.episode_return) / 2)


def test_demonstrations_are_the_same_for_any_number_of_workers_and_some_have_noise(task):
    episodes = task.demonstrate(range(6), num_workers=2)
    # In another order: an episode does not depend on contacts of the episode before.
    again = task.demonstrate([5, 3, 2], num_workers=1)
    for number, episode in zip([5, 3, 2], again):
        assert np.array_equal(episode.observations, episodes[number].observations)
        assert np.array_equal(episode.labels, episodes[number].labels)
    clean = task.demonstrate(range(6), noise=False)
    unchanged = [np.array_equal(one.observations, other.observations) for one, other in zip(episodes, clean)]
    assert not all(unchanged)
    for one, other in zip(episodes, clean):
        # Labels are the expert's actions without noise.
        assert np.array_equal(one.labels[0], other.labels[0])


def test_dagger_labels_observations_of_networks_with_actions_of_the_expert(task, networks):
    observations, actions = task.collect([*networks, MLP(35, [8, 8], 8)], seed=1, num_episodes=1)
    assert (observations.shape, actions.shape) == ((200, 35), (200, 8))
    expected = type(task).expert(observations.numpy().astype(np.float64))
    np.testing.assert_allclose(actions.numpy(), expected, atol=1e-5)
    again, _ = task.collect([*networks, MLP(35, [8, 8], 8)][:3], seed=1, num_episodes=1, num_workers=1)
    assert torch.equal(again, observations[:150])
    starts = observations[::50, 25:28]
    assert len({tuple(start.tolist()) for start in starts}) == 4


def test_a_video_shows_every_step_of_every_episode(task, networks, tmp_path):
    path = tmp_path / "videos" / "rollout.mp4"
    seeds = episode_seeds("test", 5, 2)
    episodes = record_video(networks[0], task, path, seeds)
    (score,) = task.score(networks[:1], split="test", seed=5, num_episodes=2)
    assert np.mean([episode.episode_return for episode in episodes]) == pytest.approx(score.metrics["mean_return"])
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 101
    assert video.get(cv2.CAP_PROP_FPS) == 20
    is_read, frame = video.read()
    video.release()
    assert is_read and frame.shape == (512, 512, 3) and frame.std() > 10
    assert [each.name for each in path.parent.iterdir()] == ["rollout.mp4"]


def test_a_video_has_to_be_an_mp4(task, networks, tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in \.mp4"):
        record_video(networks[0], task, tmp_path / "rollout.gif", [0])
