"""Networks at a task of ManiSkill, in worker processes and in this one."""

import os
import signal
import threading

import cv2
import numpy as np
import pytest
import torch

from nnit_diffusers import MLP, evaluate, get_task
from nnit_diffusers.networks import stack_state_dicts
from nnit_diffusers.tasks.maniskill.rollouts import run_in_parallel
from nnit_diffusers.tasks.maniskill.seeds import episode_seeds
from nnit_diffusers.tasks.maniskill.video import record_video


pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(scope="module")
def task():
    task = get_task("pushcube", sim_backend="physx_cpu")
    yield task
    task.close()


def reaching_network(seed):
    """A network that closes the fingers and moves as its random weights have it."""
    torch.manual_seed(seed)
    network = MLP(35, [16], 8)
    with torch.no_grad():
        network[2].bias[7] = -5.0
    return network


@pytest.fixture(scope="module")
def networks():
    return [reaching_network(seed) for seed in range(3)]


def test_results_do_not_depend_on_the_number_of_workers_nor_on_what_else_is_scored(task, networks):
    together = evaluate(networks, task, num_episodes=2, split="validation", num_workers=2)
    alone = [evaluate([network], task, num_episodes=2, split="validation", num_workers=1)[0] for network in networks]
    assert together == alone
    assert {result.num_episodes for result in together} == {2}
    assert len({result.metrics["mean_return"] for result in together}) == 3


def test_seeds_and_splits_choose_other_episodes(task, networks):
    returns = {
        evaluate(networks[:1], task, num_episodes=1, split=split, seed=seed)[0].metrics["mean_return"]
        for split, seed in (("validation", 0), ("validation", 1), ("test", 0))
    }
    assert len(returns) == 3


def test_a_network_whose_outputs_are_no_numbers_fails_and_nothing_else(task):
    broken = MLP(35, [16], 8)
    with torch.no_grad():
        broken[2].bias.fill_(torch.nan)
    (result,) = evaluate([broken], task, num_episodes=1)
    assert (result.num_successes, result.metrics["success_at_end"]) == (0, 0.0)


def test_episodes_of_a_worker_that_is_killed_are_run_again(task, networks):
    expected = evaluate(networks, task, num_episodes=4, split="validation", num_workers=2)
    victim = task.pool.process_ids[0]
    killer = threading.Timer(0.5, os.kill, (victim, signal.SIGKILL))
    killer.start()
    with pytest.warns(UserWarning, match=f"Worker process {victim} died"):
        assert evaluate(networks, task, num_episodes=4, split="validation", num_workers=2) == expected
    killer.join()
    assert victim not in task.pool.process_ids


def test_side_by_side_simulation_gives_what_the_workers_do(task, networks):
    # With one environment, which the CPU can do as well: the code is that of the GPU.
    stacked = stack_state_dicts([networks[0].state_dict()])
    seeds = episode_seeds("validation", 0, 2)
    ((first, second),) = run_in_parallel(
        task.env_id, stacked, "relu", seeds, max_environments=1, sim_backend="physx_cpu", render_backend="cpu"
    )
    (score,) = task.score_batch(stacked, "relu", num_episodes=2)
    assert [first.seed, second.seed] == list(seeds)
    assert score.metrics["mean_return"] == pytest.approx((first.episode_return + second.episode_return) / 2)


def test_demonstrations_are_the_same_from_any_number_of_workers_and_some_are_disturbed(task):
    episodes = task.demonstrate(range(6), num_workers=2)
    # In another order: an episode does not depend on the contacts of the one before it.
    again = task.demonstrate([5, 3, 2], num_workers=1)
    for number, episode in zip([5, 3, 2], again):
        assert np.array_equal(episode.observations, episodes[number].observations)
        assert np.array_equal(episode.labels, episodes[number].labels)
    clean = task.demonstrate(range(6), noise=False)
    unchanged = [np.array_equal(one.observations, other.observations) for one, other in zip(episodes, clean)]
    assert not all(unchanged)
    for one, other in zip(episodes, clean):
        # Labels are what the expert would do, disturbed or not.
        assert np.array_equal(one.labels[0], other.labels[0])


def test_dagger_labels_what_networks_see_with_what_the_expert_would_do(task, networks):
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
    (score,) = task.score_batch(
        stack_state_dicts([networks[0].state_dict()]), "relu", split="test", seed=5, num_episodes=2
    )
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
