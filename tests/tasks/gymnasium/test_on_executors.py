"""Episodes on an executor of the caller: the same as in worker processes and in this process."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import torch
import toy_environments  # noqa: F401  # registers the environments
from safetensors.torch import load_file

from nnit_diffusers import MLP, evaluate
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.contract import ContractError
from nnit_diffusers.tasks.simulation.rollouts import EpisodeJob
from nnit_diffusers.training import DemonstrationsConfig, collect_demonstrations


def to_goal(observations):
    return np.clip(observations[:, :1] - observations[:, 1:2], -0.5, 2.0)


def processes(number=1):
    return ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def executor():
    with processes(2) as executor:
        yield executor


@pytest.fixture
def line():
    task = GymnasiumTask("NnitLine-v0", teacher=to_goal)
    yield task
    task.close()


@pytest.fixture
def networks():
    return [MLP(4, [8], 1), MLP(4, [8], 1), lambda observations: observations[:, :1] / 3]


def test_scores_are_the_same_on_processes_on_threads_and_here(line, executor, networks):
    here = evaluate(networks, line, num_episodes=4, num_workers=0)
    assert evaluate(networks, line, num_episodes=4, num_workers=executor) == here
    with ThreadPoolExecutor(2) as threads:
        num_threads = torch.get_num_threads()
        assert evaluate(networks, line, num_episodes=4, num_workers=threads) == here
        assert torch.get_num_threads() == num_threads
    assert line.pool.process_ids == []  # no worker process was started beside the executors
    assert executor.submit(int, "4").result() == 4


def test_success_that_depends_on_the_teachers_return_is_the_same(executor, networks):
    scores = []
    for num_workers in (0, executor):
        task = GymnasiumTask("NnitLine-v0", {"reports": None}, teacher=to_goal)
        scores.append(task.score(networks, num_episodes=6, num_workers=num_workers))
    assert scores[0] == scores[1]


def test_demonstrations_and_rounds_of_dagger_are_the_same(line, executor, networks, tmp_path):
    config = DemonstrationsConfig(num_episodes=5, episodes_per_shard=3)
    for name, num_workers in (("here", 0), ("there", executor)):
        collect_demonstrations(line, tmp_path / name, config, num_workers=num_workers)
    names = sorted(path.name for path in (tmp_path / "here").glob("*.safetensors"))
    assert len(names) == 2
    for name in names:
        torch.testing.assert_close(
            load_file(tmp_path / "there" / name), load_file(tmp_path / "here" / name), rtol=0, atol=0
        )
    rounds = [line.collect(networks, num_episodes=2, num_workers=number) for number in (0, executor)]
    torch.testing.assert_close(*rounds, rtol=0, atol=0)


def test_a_task_runs_where_it_is_told_unless_a_call_names_another_place(executor, networks):
    def where(observations):
        return np.full((1, 1), os.getpid() % 1000 / 1000)

    task = GymnasiumTask("NnitLine-v0", teacher=where)
    here = np.float32(os.getpid() % 1000 / 1000)
    task.num_workers = executor
    copies = (task, task.for_screening(), task.separate())
    for each in copies:
        (episode,) = each.run([EpisodeJob(0, record=True)])
        assert episode.labels[0, 0] != here
    (episode,) = task.run([EpisodeJob(0, record=True)], 0)
    assert episode.labels[0, 0] == here
    assert task.pool.process_ids == []
    task.num_workers = 0
    assert task.demonstrate([0], noise=False)[0].labels[0, 0] == here


def test_a_lost_process_ends_the_call_in_one_line_and_a_new_executor_gives_all_episodes(line, networks):
    line.num_workers = 0
    expected = [asdict(score) for score in line.score(networks, num_episodes=3)]
    with processes() as broken:
        line.score(networks, num_episodes=1, num_workers=broken)
        os.kill(broken.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"`num_workers` must be an executor that accepts.*BrokenProcessPool"):
            line.score(networks, num_episodes=200, num_workers=broken)
    with processes() as another:
        assert [asdict(score) for score in line.score(networks, num_episodes=3, num_workers=another)] == expected


def test_mistakes_are_named_in_one_line(line, executor):
    lock = threading.Lock()
    with pytest.raises(ValueError, match="`networks` must be what can be sent to worker processes") as raised:
        line.score([lambda observations: lock and observations[:, :1]], num_episodes=1, num_workers=executor)
    assert "\n" not in str(raised.value)
    wrong = GymnasiumTask("NnitLine-v0", teacher=lambda observations: np.zeros((1, 7)))
    with pytest.raises(ContractError, match=r"`teacher` must give actions \[1, 1\].*but received \[1, 7\]"):
        wrong.demonstrate([0], num_workers=executor)
    for num_workers in (-1, 1.5, "2"):
        with pytest.raises(ValueError, match="`num_workers` must be 0 or more, or a `concurrent.futures.Executor`"):
            line.score([MLP(4, [8], 1)], num_episodes=1, num_workers=num_workers)
