"""A pool of worker processes that replaces workers that die or hang.

What is sent to a worker is serialised by cloudpickle, which Gymnasium depends on. So it may be a lambda, or a class or
function of a notebook or of the script that runs. Workers never run that script again.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Generic, TypeVar


Job = TypeVar("Job")
Result = TypeVar("Result")

# Importing ManiSkill and creating an environment takes seconds, but many minutes if other processes have priority.
_START_SECONDS = 1800.0
MAX_ATTEMPTS = 3
"""How often a job is run until it is given up, as one that ends its workers."""

_REMEDY = "Pass `num_workers=0` to run the episodes in this process."
_MAIN = threading.Lock()


def serialised(name: str, value: Any) -> bytes:
    """What a worker process needs of a value; [`deserialised`] makes it again.

    Raises:
        `ValueError`: If it can't be sent to another process, such as an open file; `name` is in the message.
    """
    try:
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    try:
        return dumps(value)
    except Exception as error:  # classes may raise anything here
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} must be what can be sent to worker processes, but received {_kind(value)!r} ({reason:.200}). "
            f"{_REMEDY}"
        ) from error


def deserialised(name: str, sent: bytes) -> Any:
    """The value of [`serialised`], in another process. The bytes come from the parent process, never from a file.

    Raises:
        `ValueError`: If it needs what this process can't import; `name` is in the message.
    """
    try:
        return pickle.loads(sent)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{name} must be importable in worker processes, but one of them is not ({error}). {_REMEDY}"
        ) from error


def _kind(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


def _serve(connection: Connection, create: bytes) -> None:
    """Main function of a worker: sends `None` when ready, then for every job `(is_done, result or error)`."""
    # The parent handles Ctrl-C and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_job = deserialised("What workers run", create)()
        connection.send_bytes(serialised("A worker's message", None))
        while True:
            result = run_job(deserialised("Jobs", connection.recv_bytes()))
            connection.send_bytes(serialised("Results", (True, result)))
    except (EOFError, BrokenPipeError):
        return  # the parent has ended
    except (Exception, SystemExit) as error:
        connection.send_bytes(portable_error(error))


def portable_error(error: Exception | SystemExit) -> bytes:
    """The message that a worker failed. An error that can't be sent, or ends programs, becomes a `RuntimeError`."""
    sent: Exception = RuntimeError(f"A worker process failed: {type(error).__name__}: {error}")
    if isinstance(error, Exception):
        with contextlib.suppress(Exception):
            sent = pickle.loads(serialised("Errors", error))
    sent.add_note(f"In a worker process:\n{traceback.format_exc()}")
    return serialised("Errors", (False, sent))


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Hides the script that runs, which a spawned process would run again: without a guard, that starts processes."""
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


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
            Called once in every worker; returns the function that runs a job. `create`, jobs and results are sent
            between processes; see [`serialised`].
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
                sent = serialised("Jobs", jobs[worker.job])
                with contextlib.suppress(OSError):  # it has died, and `_listen` will notice
                    worker.connection.send_bytes(sent)

    def _start(self) -> _Worker:
        context = get_context("spawn")
        connection, remote = context.Pipe()
        create = serialised("What workers run", self.create)
        process = context.Process(target=_serve, args=(remote, create), daemon=True)
        with _hidden_main():
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
                message = pickle.loads(worker.connection.recv_bytes())
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
        worker.process.join(1.0)  # one that died has an exit code now
        exit_code = worker.process.exitcode
        self._workers.remove(worker)
        _end([worker])
        if not worker.is_ready and exit_code is not None and exit_code > 0:  # it ended itself, and would again
            raise RuntimeError(f"A worker process ended with exit code {exit_code} while starting. {_REMEDY}")
        what = "while starting" if worker.job is None else f"at {jobs[worker.job]!r:.200}"
        if attempts >= MAX_ATTEMPTS:
            raise RuntimeError(f"{attempts} workers were lost {what}; the last one {why}.")
        warnings.warn(f"Worker process {process_id} {why} {what}; a new one replaces it.", stacklevel=4)
        if worker.job is not None:
            waiting.appendleft(worker.job)
