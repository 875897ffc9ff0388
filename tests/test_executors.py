"""Jobs on executors of the caller. Those of Dask and Ray are tested where these are installed."""

import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import pytest
from toy_jobs import Runner, make_no_worker, make_worker, run

from nnit_diffusers.executors import check_num_workers, run_on


def processes(number=2):
    return ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


class ReplacingExecutor(Executor):
    """Replaces its processes when one of them dies, as the executor of a cluster does."""

    def __init__(self, number=2):
        self.number, self.processes, self.num_replaced = number, processes(number), 0

    def submit(self, function, /, *args, **kwargs):
        try:
            return self.processes.submit(function, *args, **kwargs)
        except BrokenProcessPool:
            self.shutdown()
            self.processes, self.num_replaced = processes(self.number), self.num_replaced + 1
            return self.processes.submit(function, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.processes.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture(scope="module")
def executor():
    with processes() as executor:
        yield executor


def files(folder, what):
    return sorted(folder.glob(f"{what}-*"))


def test_results_are_in_order_of_the_jobs_and_the_executor_stays_open(executor, tmp_path):
    jobs = [("square", number, str(tmp_path)) for number in range(40)]
    done = []
    assert run_on(executor, make_worker, jobs, lambda: done.append(1)) == [number**2 for number in range(40)]
    assert len(done) == 40
    assert run_on(executor, make_worker, [], lambda: done.append(1)) == []
    # lambdas and local classes are sent as well
    assert run_on(executor, lambda: lambda job: job(3), [lambda x: x + 1, lambda x: -x]) == [4, -3]
    assert executor.submit(run, ("square", 3, str(tmp_path))).result() == 9


def test_what_runs_jobs_is_made_once_in_a_process_and_closed_when_another_replaces_it(executor, tmp_path):
    jobs = [("square", number, str(tmp_path)) for number in range(20)]
    for _ in range(2):
        run_on(executor, partial(Runner, tmp_path), jobs)
    processes = {path.name.split("-")[-1] for path in files(tmp_path, "made")}
    assert len(files(tmp_path, "made")) == len(processes) <= 2
    assert not files(tmp_path, "closed")
    for _ in range(50):
        if len(files(tmp_path, "closed")) < len(processes):  # until each process has had a job
            run_on(executor, make_worker, jobs)
    assert {path.name.split("-")[-1] for path in files(tmp_path, "closed")} == processes


def test_no_job_is_lost_or_counted_twice_where_an_executor_replaces_its_dead_processes(tmp_path):
    jobs = [("die" if number in (3, 8) else "square", number, str(tmp_path)) for number in range(12)]
    done = []
    with ReplacingExecutor() as replacing, pytest.warns(UserWarning, match="failed at .*BrokenProcessPool.* again"):
        assert run_on(replacing, make_worker, jobs, lambda: done.append(1)) == [number**2 for number in range(12)]
    assert len(done) == 12
    assert replacing.num_replaced >= 1


def test_a_job_that_always_ends_its_process_is_an_error(tmp_path):
    with (
        ReplacingExecutor() as replacing,
        pytest.warns(UserWarning, match="failed at .*always-die"),
        pytest.raises(RuntimeError, match="failed 3 times at .*always-die.*BrokenProcessPool") as raised,
    ):
        run_on(replacing, make_worker, [("always-die", 2, str(tmp_path))])
    assert "\n" not in str(raised.value)


def test_jobs_that_others_take_along_do_not_fail_for_it(tmp_path):
    # more processes die than a job may fail, one after another
    jobs = [("die" if number % 3 == 0 else "square", number, str(tmp_path)) for number in range(15)]
    done = []
    with ReplacingExecutor(1) as replacing, pytest.warns(UserWarning, match="failed at"):
        assert run_on(replacing, make_worker, jobs, lambda: done.append(1)) == [number**2 for number in range(15)]
    assert (len(done), replacing.num_replaced) == (15, 5)


def test_a_broken_executor_and_one_that_was_shut_down_are_refused_in_one_line(tmp_path):
    jobs = [("square", 1, str(tmp_path)), ("always-die", 2, str(tmp_path))]
    with (
        processes(1) as broken,
        pytest.raises(RuntimeError, match=r"must be an executor.*BrokenProcessPool.*ran 1 of 2 jobs") as raised,
    ):
        run_on(broken, make_worker, jobs)
    assert "\n" not in str(raised.value)
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(RuntimeError, match=r"ThreadPoolExecutor does not \(RuntimeError: .*shutdown.*ran 0 of 2 jobs"):
        run_on(closed, make_worker, jobs)


def test_an_error_of_a_job_is_raised_and_the_executor_stays_open(executor, tmp_path):
    with pytest.raises(ValueError, match="job 7 is wrong") as raised:
        run_on(executor, make_worker, [("square", 1, str(tmp_path)), ("raise", 7, str(tmp_path))])
    assert "toy_jobs.py" in raised.value.__notes__[0]
    with pytest.raises(OSError, match="no simulator here"):
        run_on(executor, make_no_worker, [("square", 1, "")])
    assert run_on(executor, make_worker, [("square", 5, str(tmp_path))]) == [25]


def test_what_can_not_be_sent_is_refused_in_one_line(executor):
    lock = threading.Lock()
    for create, job in ((lambda: lock, 1), (make_worker, lock)):
        with pytest.raises(ValueError, match="must be what can be sent to worker processes") as raised:
            run_on(executor, create, [job])
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="Results must be what can be sent"):
        run_on(executor, lambda: lambda job: threading.Lock(), [1])


def test_jobs_that_have_not_begun_are_cancelled_on_an_interrupt(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    jobs = [("pause", number, str(tmp_path)) for number in range(50)]
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(KeyboardInterrupt):
            run_on(threads, make_worker, jobs, interrupt)
        assert threads.submit(int, "4").result() == 4
    assert len(files(tmp_path, "pause")) < 10


def test_each_thread_has_its_own_runner():
    def create():
        owner = threading.get_ident()

        def run_here(job):
            time.sleep(0.02)
            return owner, threading.get_ident()

        return run_here

    with ThreadPoolExecutor(2) as threads:
        found = run_on(threads, create, range(10))
    assert len(set(found)) == 2 and all(owner == runs for owner, runs in found)


def test_many_jobs_are_submitted_in_parts(monkeypatch, tmp_path):
    monkeypatch.setattr("nnit_diffusers.executors._MAX_PENDING", 3)
    waiting = []

    class Counting(ThreadPoolExecutor):
        def submit(self, function, /, *args):
            waiting.append(sum(not future.done() for future in futures))
            futures.append(super().submit(function, *args))
            return futures[-1]

    futures = []
    with Counting(2) as threads:
        jobs = [("pause", number, str(tmp_path)) for number in range(20)]
        assert run_on(threads, make_worker, jobs) == [number**2 for number in range(20)]
    assert len(futures) == 20 and max(waiting) == 2


@pytest.mark.parametrize("num_workers", [-1, 1.5, "2", None, object()])
def test_what_is_no_number_of_processes_and_no_executor_is_refused(num_workers):
    with pytest.raises(ValueError, match=r"must be 0 or more, or a `concurrent.futures.Executor`, but received"):
        check_num_workers(num_workers)


def test_dask_runs_jobs_and_those_of_a_dead_worker_again(tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(**settings) as client, client.get_executor() as executor:
        jobs = [("square", number, str(tmp_path)) for number in range(12)]
        assert run_on(executor, make_worker, jobs) == [number**2 for number in range(12)]
        jobs = [("die" if number in (3, 8) else "square", number, str(tmp_path)) for number in range(12)]
        done = []
        assert run_on(executor, make_worker, jobs, lambda: done.append(1)) == [number**2 for number in range(12)]
        assert len(done) == 12
        assert client.submit(int, "4").result() == 4


def test_ray_runs_jobs_and_those_of_a_dead_worker_again(tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    class RayExecutor(Executor):
        """As `docs/scaling.md` has it."""

        def submit(self, function, /, *args, **kwargs):
            return ray.remote(function).remote(*args, **kwargs).future()

    # workers import the modules of tests
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": paths})
    try:
        jobs = [("die" if number in (3, 8) else "square", number, str(tmp_path)) for number in range(12)]
        done = []
        results = run_on(RayExecutor(), make_worker, jobs, lambda: done.append(1))
        assert results == [number**2 for number in range(12)]
        assert len(done) == 12
    finally:
        ray.shutdown()
