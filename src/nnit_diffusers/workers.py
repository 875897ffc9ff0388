"""A pool of worker processes that replaces workers that die or hang."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar


Job = TypeVar("Job")
Result = TypeVar("Result")

# Importing ManiSkill and creating an environment takes seconds, but many minutes if other processes have priority.
_START_SECONDS = 1800.0
_MAX_ATTEMPTS = 3


def _serve(connection: Connection, create: Callable[[], Callable[[Any], Any]]) -> None:
    """Main function of a worker: sends `None` when ready, then for every job `(is_done, result or error)`."""
    # The parent handles Ctrl-C and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_job = create()
        connection.send(None)
        while True:
            connection.send((True, run_job(connection.recv())))
    except (EOFError, BrokenPipeError):
        return  # the parent has ended
    except Exception as error:
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        connection.send((False, error))


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    deadline: float
    is_ready: bool = False
    job: int | None = None

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.job is None


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.process.close()
    workers.clear()


class WorkerPool(Generic[Job, Result]):
    """A pool of processes that each set up once, such as a simulator, and then run jobs.

    A worker that dies or exceeds its time limit is replaced with a warning, and its job is run again. The processes
    stay alive for the next call, and end with this object or with the program.

    Parameters:
        create (`Callable`):
            Called once in every worker; returns the function that runs a job. `create`, jobs and results are pickled.
        timeout_seconds (`float`): Time limit of a job in seconds.
    """

    def __init__(self, create: Callable[[], Callable[[Job], Result]], timeout_seconds: float):
        self.create = create
        self.timeout_seconds = timeout_seconds
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, self._workers)

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the current workers."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def close(self) -> None:
        """Ends the workers; the next run starts new ones."""
        _end(self._workers)

    def run(self, jobs: Sequence[Job], num_workers: int, progress: Callable[[], Any] | None = None) -> list[Result]:
        """Runs jobs and returns their results, in order of the jobs.

        Parameters:
            jobs (`Sequence`): The jobs.
            num_workers (`int`): Number of processes.
            progress (`Callable`, *optional*): Called after every job.

        Raises:
            `RuntimeError`: If several workers were lost with the same job.
            `Exception`: Any error raised by a job or by `create`.
        """
        if num_workers < 1:
            raise ValueError(f"`num_workers` must be 1 or more, but received {num_workers}.")
        results: dict[int, Result] = {}
        waiting = deque(range(len(jobs)))
        attempts: Counter[int | None] = Counter()
        # hand out jobs, collect results, replace lost workers
        try:
            while len(results) < len(jobs):
                self._hand_out(jobs, waiting, min(num_workers, len(jobs) - len(results)))
                for worker, why in self._listen(results, progress):
                    attempts[worker.job] += 1
                    self._replace(worker, why, waiting, attempts[worker.job], jobs)
        except BaseException:
            self.close()  # workers may be in the middle of a job
            raise
        return [results[number] for number in range(len(jobs))]

    def _hand_out(self, jobs: Sequence[Job], waiting: deque[int], num_workers: int) -> None:
        while len(self._workers) < num_workers:
            self._workers.append(self._start())
        for worker in self._workers[:num_workers]:
            if worker.is_idle and waiting:
                worker.job = waiting.popleft()
                worker.deadline = time.monotonic() + self.timeout_seconds
                with contextlib.suppress(OSError):  # it has died, and `_listen` will notice
                    worker.connection.send(jobs[worker.job])

    def _start(self) -> _Worker:
        context = get_context("spawn")
        connection, remote = context.Pipe()
        process = context.Process(target=_serve, args=(remote, self.create), daemon=True)
        process.start()
        remote.close()  # so that the death of the process closes the pipe
        return _Worker(process, connection, time.monotonic() + _START_SECONDS)

    def _listen(self, results: dict[int, Result], progress: Callable[[], Any] | None) -> list[tuple[_Worker, str]]:
        """Waits for messages, stores results, and returns lost workers with the reason."""
        # wait for a message or the first deadline
        busy = [worker for worker in self._workers if not worker.is_idle]
        seconds_left = min(worker.deadline for worker in busy) - time.monotonic()
        heard = wait([worker.connection for worker in busy], timeout=max(seconds_left, 0.0))
        lost = []
        for worker in busy:
            if worker.connection not in heard:
                if time.monotonic() > worker.deadline:
                    lost.append((worker, "did not answer in time"))
                continue
            # dead, ready, failed or done
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                lost.append((worker, "died"))
                continue
            if message is None:
                worker.is_ready = True
                continue
            is_done, result = message
            if not is_done:
                raise result
            assert worker.job is not None
            results[worker.job] = result
            worker.job = None
            if progress is not None:
                progress()
        return lost

    def _replace(self, worker: _Worker, why: str, waiting: deque[int], attempts: int, jobs: Sequence[Job]) -> None:
        process_id = worker.process.pid
        self._workers.remove(worker)
        _end([worker])
        what = "while starting" if worker.job is None else f"at {jobs[worker.job]!r:.200}"
        if attempts >= _MAX_ATTEMPTS:
            raise RuntimeError(f"{attempts} workers were lost {what}; the last one {why}.")
        warnings.warn(f"Worker process {process_id} {why} {what}; a new one replaces it.", stacklevel=4)
        if worker.job is not None:
            waiting.appendleft(worker.job)


def default_num_workers() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
