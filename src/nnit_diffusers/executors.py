"""Runs jobs on an executor that the caller passes: `concurrent.futures`, Dask, MPI, or any other.

The executor decides where jobs run, and starts and ends its processes. Here, no result is lost or counted twice: a job
whose future fails is submitted again, and a future gives its result once.
"""

from __future__ import annotations

import pickle
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from .workers import MAX_ATTEMPTS, deserialised, portable_error, serialised


Job = TypeVar("Job")
Result = TypeVar("Result")

NumWorkers = int | Executor | None
"""Where episodes run: in so many processes, in this process (0), on an executor, or in a process per CPU (`None`)."""

# Jobs that an executor holds at a time, each with its own copy of a network.
_MAX_PENDING = 1000
_KEPT = threading.local()


def check_num_workers(num_workers: Any) -> None:
    """Raises `ValueError` unless it is a number of processes or an executor."""
    if isinstance(num_workers, Executor):
        return
    if not isinstance(num_workers, int) or num_workers < 0:
        raise ValueError(
            f"`num_workers` must be 0 or more, or a `concurrent.futures.Executor`, but received {num_workers!r:.100}."
        )


def run_on(
    executor: Executor,
    create: Callable[[], Callable[[Job], Result]],
    jobs: Sequence[Job],
    progress: Callable[[], Any] | None = None,
) -> list[Result]:
    """Runs jobs on an executor, which stays open, and returns their results in order of the jobs.

    Parameters:
        executor (`Executor`): Where the jobs run.
        create (`Callable`):
            Called once in every process or thread of the executor; returns the function that runs a job. It is kept
            there for the next call. What it returned for another `create` is closed, if it has `close`.
        jobs (`Sequence`): The jobs. Like `create` and the results, they are sent between processes; see
            [`serialised`].
        progress (`Callable`, *optional*): Called after every job.

    Raises:
        `RuntimeError`: If the executor accepts no more jobs, or fails several times with the same one.
        `ValueError`: If something can't be sent to another process.
        `Exception`: Any error raised by a job or by `create`.
    """
    run = _Run(executor, serialised("What workers run", create), jobs)
    try:
        while len(run.results) < len(jobs):
            run.submit()
            for _ in range(run.take()):
                if progress is not None:
                    progress()
    finally:
        run.cancel()
    return [run.results[number] for number in range(len(jobs))]


class _Run:
    """The jobs of a call: those that wait, those that the executor has, and the results."""

    def __init__(self, executor: Executor, create: bytes, jobs: Sequence[Any]):
        self.executor, self.create, self.jobs = executor, create, jobs
        self.results: dict[int, Any] = {}
        self._waiting = deque(range(len(jobs)))
        self._pending: dict[int, Future[bytes]] = {}
        self._ended: SimpleQueue[int] = SimpleQueue()
        self._num_submitted = 0
        # How often a job failed. One that dies takes all jobs of its pool along, which are not to blame: these
        # failures count until the next result of any job.
        self._failed, self._broken = Counter[int](), Counter[int]()
        self._lost: list[str] = []

    def submit(self) -> None:
        """Submits jobs that wait.

        Raises:
            `RuntimeError`: If the executor accepts none.
        """
        while self._waiting and len(self._pending) < _MAX_PENDING:
            number = self._waiting.popleft()
            job = serialised("Jobs", self.jobs[number])
            self._num_submitted += 1
            try:
                # The last argument makes every call another: Dask answers a call that it knows from memory.
                future = self.executor.submit(_run_job, self.create, job, self._num_submitted)
            except Exception as error:
                raise RuntimeError(
                    f"`num_workers` must be an executor that accepts jobs, but {type(self.executor).__name__} does "
                    f"not ({_one_line(error)}). It ran {len(self.results)} of {len(self.jobs)} jobs; pass a new one "
                    "to run them again."
                ) from error
            self._pending[number] = future
            future.add_done_callback(partial(self._note_end, number))
        if self._lost:
            others = f" and {len(self._lost) - 1} others" if len(self._lost) > 1 else ""
            warnings.warn(f"The executor failed at {self._lost[0]}{others}, which it runs again.", stacklevel=3)
            self._lost.clear()

    def _note_end(self, number: int, future: Future[Any]) -> None:
        """Called when a job has ended, in a thread of the executor."""
        self._ended.put(number)

    def take(self) -> int:
        """Waits for the next job to end, takes all that have ended, and returns the number of new results.

        Raises:
            `RuntimeError`: If a job failed too often.
            `Exception`: Any error raised by a job.
        """
        num_before = len(self.results)
        while True:
            number = self._ended.get()
            future = self._pending.pop(number)
            failure = _failure(future)
            if failure is None:
                self.results[number] = _result(future.result())
                self._broken.clear()
            else:
                self._note(number, failure)
            if self._ended.empty():
                return len(self.results) - num_before

    def _note(self, number: int, failure: BaseException) -> None:
        counter = self._broken if isinstance(failure, BrokenExecutor) else self._failed
        counter[number] += 1
        what = f"{self.jobs[number]!r:.200} ({_one_line(failure)})"
        if counter[number] >= MAX_ATTEMPTS:
            raise RuntimeError(f"The executor failed {counter[number]} times at {what}.") from failure
        self._lost.append(what)
        self._waiting.append(number)

    def cancel(self) -> None:
        """Cancels what has not begun."""
        for future in self._pending.values():
            future.cancel()


def _failure(future: Future[bytes]) -> BaseException | None:
    """Why an executor has no result. Errors of jobs are results; see [`_run_job`]."""
    try:
        return future.exception()
    except CancelledError as cancelled:
        return cancelled


def _result(sent: bytes) -> Any:
    """The result of a job, or its error, which is raised."""
    is_done, result = pickle.loads(sent)
    if not is_done:
        raise result
    return result


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def _run_job(create: bytes, job: bytes, attempt: int) -> bytes:
    """Runs a job in a process or thread of an executor; returns `(is_done, result or error)`, serialised."""
    try:
        if getattr(_KEPT, "create", None) != create:
            _close_kept()
            _KEPT.run_job, _KEPT.create = deserialised("What workers run", create)(), create
        return serialised("Results", (True, _KEPT.run_job(deserialised("Jobs", job))))
    except (Exception, SystemExit) as error:
        sent = portable_error(error)
        _close_kept()  # it may be in the middle of a job
        return sent


def _close_kept() -> None:
    close = getattr(getattr(_KEPT, "run_job", None), "close", None)
    vars(_KEPT).clear()
    if close is not None:
        close()
