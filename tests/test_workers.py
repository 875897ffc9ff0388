import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from toy_jobs import make_no_worker, make_worker

from nnit_diffusers.workers import WorkerPool


# A script as users write it: no guard, and everything that workers need defined in it.
SCRIPT = """
from nnit_diffusers.workers import WorkerPool

print("begins")
factor = 3

class Product:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, job):
        return Product(self.factor * job(2).factor)

pool = WorkerPool(lambda: Product(factor), timeout_seconds=30.0)
results = pool.run([lambda x: Product(x), lambda x: Product(x + 1)], 2)
print([result.factor for result in results], {type(result) is Product for result in results})
"""


@pytest.fixture
def pool():
    pool = WorkerPool(make_worker, timeout_seconds=3.0)
    yield pool
    pool.close()


def is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_are_in_order_of_the_jobs_and_workers_stay_for_the_next_run(pool, tmp_path):
    jobs = [("square", number, str(tmp_path)) for number in range(40)]
    done = []
    assert pool.run(jobs, 2, lambda: done.append(1)) == [number**2 for number in range(40)]
    assert len(done) == 40
    workers = pool.process_ids
    assert len(workers) == 2
    assert pool.run(jobs, 1) == [number**2 for number in range(40)]
    assert set(pool.run([("pid", 0, str(tmp_path))] * 10, 2)) <= set(workers)
    assert pool.run([], 2) == []


@pytest.mark.parametrize(("what", "why"), [("die", "died"), ("hang", "did not answer in time")])
def test_jobs_of_a_lost_worker_are_run_again_once(pool, tmp_path, what, why):
    jobs = [(what if number in (3, 8) else "square", number, str(tmp_path)) for number in range(12)]
    done = []
    with pytest.warns(UserWarning, match=f"Worker process .* {why} at .*a new one replaces it") as warned:
        assert pool.run(jobs, 2, lambda: done.append(1)) == [number**2 for number in range(12)]
    assert len(warned) == 2
    assert len(done) == 12


def test_a_job_that_always_kills_its_worker_is_an_error(pool, tmp_path):
    jobs = [("square", 1, str(tmp_path)), ("always-die", 2, str(tmp_path))]
    with (
        pytest.warns(UserWarning, match="died"),
        pytest.raises(RuntimeError, match="3 workers were lost at .*always-"),
    ):
        pool.run(jobs, 2)
    assert pool.process_ids == []


def test_an_error_of_a_job_is_raised_and_the_pool_continues_with_new_workers(pool, tmp_path):
    with pytest.raises(ValueError, match="job 7 is wrong") as raised:
        pool.run([("square", 1, str(tmp_path)), ("raise", 7, str(tmp_path))], 2)
    assert "toy_jobs.py" in raised.value.__notes__[0]
    assert pool.run([("square", 5, str(tmp_path))], 2) == [25]


def test_an_error_while_creating_a_worker_is_raised():
    with pytest.raises(OSError, match="no simulator here"):
        WorkerPool(make_no_worker, timeout_seconds=3.0).run([("square", 1, "")], 1)


def test_a_worker_that_died_between_two_runs_is_replaced(pool, tmp_path):
    pool.run([("square", 1, str(tmp_path))], 1)
    (process_id,) = pool.process_ids
    os.kill(process_id, signal.SIGKILL)
    with pytest.warns(UserWarning, match=f"{process_id} died"):
        assert pool.run([("square", 6, str(tmp_path))], 1) == [36]


def test_workers_end_with_the_pool(tmp_path):
    pool = WorkerPool(make_worker, timeout_seconds=3.0)
    pool.run([("square", 1, str(tmp_path))], 1)
    (process_id,) = pool.process_ids
    assert is_alive(process_id)
    del pool
    deadline = time.monotonic() + 5
    while is_alive(process_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(process_id)


def test_zero_workers_are_refused(pool):
    with pytest.raises(ValueError, match="`num_workers` must be 1 or more, but received 0"):
        pool.run([("square", 1, "")], 0)


@pytest.mark.parametrize("is_file", [True, False])
def test_a_script_without_a_guard_runs_once_and_its_classes_and_lambdas_work(is_file, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    command = [sys.executable, str(path)] if is_file else [sys.executable, "-"]
    process = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, timeout=120)
    assert (process.stdout, process.returncode) == ("begins\n[6, 9] {True}\n", 0), process.stderr


def test_what_can_not_be_sent_is_refused_in_one_line():
    lock = threading.Lock()
    for create, job in ((lambda: lock, 1), (make_worker, lock)):
        with pytest.raises(
            ValueError, match="must be what can be sent to worker processes.*`num_workers=0`"
        ) as raised:
            WorkerPool(create, timeout_seconds=3.0).run([job], 1)
        assert "\n" not in str(raised.value)


def exits():
    sys.exit("no licence")


def ends():
    os._exit(3)


class UnsendableError(Exception):
    def __init__(self, one, other):
        super().__init__(one)


def raises_unsendable():
    raise UnsendableError("no camera", 2)


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (exits, "SystemExit: no licence"),
        (ends, "exit code 3 while starting.*num_workers=0"),
        (raises_unsendable, "UnsendableError: no camera"),
    ],
)
def test_a_worker_that_ends_itself_while_starting_is_an_error_at_once(create, reason, recwarn):
    with pytest.raises(RuntimeError, match=reason) as raised:
        WorkerPool(create, timeout_seconds=3.0).run([1], 1)
    assert "\n" not in str(raised.value)
    assert not recwarn.list
