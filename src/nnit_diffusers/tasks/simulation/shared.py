"""Worker processes that several tasks share: each makes the environment of a task when its first episode comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

from .rollouts import EpisodePool


class NamedJob(NamedTuple):
    """A job of one of the tasks."""

    task: str
    job: Any


class SharedRunner:
    """Runs jobs of several tasks in one process, which keeps the environments that it has made.

    Parameters:
        create (`Mapping[str, Callable]`): Makes the runner of a task.
    """

    def __init__(self, create: Mapping[str, Callable[[], Any]]):
        self._create = create
        self._runners: dict[str, Any] = {}

    def __call__(self, job: NamedJob) -> Any:
        if job.task not in self._runners:
            self._runners[job.task] = self._create[job.task]()
        return self._runners[job.task](job.job)

    def close(self) -> None:
        """Frees all environments."""
        for runner in self._runners.values():
            runner.close()


class SharedEpisodePool(EpisodePool):
    """Runs episodes of several tasks; see [`EpisodePool`].

    Parameters:
        pools (`Mapping[str, EpisodePool]`): Pools of the tasks by name. They stay as they are, and start no process.
    """

    def __init__(self, pools: Mapping[str, EpisodePool]):
        self.parts = {name: (pool.create, pool.create_here) for name, pool in pools.items()}
        creates = ({name: pair[index] for name, pair in self.parts.items()} for index in (0, 1))
        self._set_up(*(partial(SharedRunner, create) for create in creates))

    def of(self, name: str) -> PartOfPool:
        """What the task of this name runs its episodes in."""
        return PartOfPool(self, name)


class PartOfPool(EpisodePool):
    """The pool of one task, within the processes that it shares with others."""

    def __init__(self, shared: SharedEpisodePool, name: str):
        self._shared, self._name = shared, name
        # what makes the environment of this task alone, for other processes that share it
        self.create, self.create_here = shared.parts[name]

    def run(
        self, jobs: Sequence[Any], num_workers: int | Executor, progress: Callable[[], Any] | None = None
    ) -> list[Any]:
        """See [`~EpisodePool.run`]."""
        return self._shared.run([NamedJob(self._name, job) for job in jobs], num_workers, progress)

    @property
    def process_ids(self) -> list[int]:
        return self._shared.process_ids

    @property
    def has_environment_here(self) -> bool:
        return self._shared.has_environment_here

    def close(self) -> None:
        """Ends the workers of all tasks that share them."""
        self._shared.close()
