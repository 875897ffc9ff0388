"""Several tasks of the same sizes, for one model that generates networks for all of them.

Shape legend: B networks, T tasks, N samples, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from ..containers import default_num_workers
from ..executors import NumWorkers
from ..loading.limits import MAX_TASKS, shown
from ..networks import Network
from ..regions import GRID
from .base import Score, Task
from .simulation.portable_networks import for_jobs
from .simulation.rollouts import EpisodeJob, episode_bar, stack_episodes
from .simulation.seeds import episode_seeds
from .simulation.shared import NamedJob, SharedEpisodePool
from .simulation.task import SimulatorTask


_SAME = ("in_features", "out_features", "activation", "metric", "sample_name", *GRID)


class MultiTaskRound(NamedTuple):
    """A round of DAgger: states `[N, I]`, the teachers' actions `[N, O]`, labels of their tasks `[N]`, and the success
    of each of the B episodes."""

    observations: torch.Tensor
    actions: torch.Tensor
    labels: torch.Tensor
    succeeded: torch.Tensor


class MultiTask(Task):
    """Several tasks in simulators, which one model generates networks for.

    The tasks have the same sizes, and one grid of architectures. Inputs of all networks are standardised with the same
    statistics, those of all tasks, each of which counts alike. Episodes of all tasks run in the same worker processes.

    ```python
    task = MultiTask("mt2", [MetaWorldTask("reach"), MetaWorldTask("push")], data_dir="demonstrations")
    task.of("reach").demonstrations
    ```

    A network is scored on the task that its contract names (`network.contract.task`).

    Parameters:
        name (`str`): Name of all of them together.
        tasks (`Iterable[SimulatorTask]`): The tasks, with distinct names.
        data_dir (`str` or `Path`, *optional*): Folder with a folder of demonstrations for each task, by its name.

    Attributes:
        num_workers (`int` or `Executor`, *optional*): Where episodes run by default; see [`SimulatorTask`].

    Raises:
        `ValueError`: If there is no task, names are not distinct, or the tasks differ in a size or a kind.
    """

    hub_task = "robotics"
    has_slow_episodes = True
    num_workers: NumWorkers = None

    def __init__(self, name: str, tasks: Iterable[SimulatorTask], data_dir: str | Path | None = None):
        members = list(tasks)
        if not 1 <= len(members) <= MAX_TASKS or len({task.name for task in members}) < len(members):
            names = [task.name for task in members]
            raise ValueError(f"`tasks` must be 1 to {MAX_TASKS} tasks of distinct names, but received {shown(names)}.")
        first = members[0]
        for task in members:
            differing = [key for key in _SAME if getattr(task, key) != getattr(first, key)]
            if differing or task.is_discrete != first.is_discrete:
                raise ValueError(
                    f"`tasks` must have the same {', '.join(differing) or 'kind of actions'}, but {task.name!r} "
                    f"differs from {first.name!r}."
                )
        if first.standardises_actions:
            raise ValueError(f"`tasks` must have actions of -1 to 1 or choices, but {first.name!r} has others.")
        self.name = name
        for key in _SAME:
            setattr(self, key, getattr(first, key))
        # one set of processes for all
        pool = SharedEpisodePool({task.name: task.pool for task in members})
        self._members: dict[str, SimulatorTask] = {}
        for task in members:
            member = task.separate()
            member.pool = pool.of(task.name)
            if data_dir is not None:
                member.read_from(Path(data_dir, task.name))
            self._members[task.name] = member
        self._pool = pool

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self._members)

    def of(self, name: str) -> SimulatorTask:
        """The task of a name.

        Raises:
            `ValueError`: If there is none.
        """
        if name not in self._members:
            raise ValueError(f"`name` must be one of {list(self._members)}, but received {shown(name)}.")
        return self._members[name]

    def subtask(self, label: int | None) -> Task:
        return self._members[self.task_names[label]] if label is not None else self

    @property
    def description(self) -> str:
        return f"{len(self._members)} tasks: {', '.join(self._members)}."

    # copies

    def _copy(self, change: Any) -> Self:
        copied = copy(self)
        copied._members = {name: change(task) for name, task in self._members.items()}
        return copied

    def separate(self) -> Self:
        """See [`~ImitationTask.separate`]; both share their worker processes."""
        return self._copy(SimulatorTask.separate)

    def for_screening(self) -> Self:
        return self._copy(SimulatorTask.for_screening)

    def close(self) -> None:
        """Ends the worker processes; the next call starts new ones."""
        self._pool.close()

    # data

    @property
    def observation_mean(self) -> torch.Tensor:
        return torch.stack([task.observation_mean for task in self._members.values()]).mean(dim=0)

    @property
    def observation_std(self) -> torch.Tensor:
        means_TI = torch.stack([task.observation_mean for task in self._members.values()])
        stds_TI = torch.stack([task.observation_std for task in self._members.values()])
        # the variance within tasks, and that of their means
        return (stds_TI.square().mean(dim=0) + means_TI.var(dim=0, correction=0)).sqrt()

    def training_batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of one task, which is drawn; see [`~Task.training_batch`]. Training draws tasks by itself."""
        label = int(torch.randint(len(self._members), (), generator=generator))
        return self.subtask(label).training_batch(batch_size, generator)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss `[B]`, which all tasks have; see [`~Task.loss`]."""
        return self.subtask(0).loss(outputs, targets)

    # episodes

    def _place(self, num_workers: NumWorkers) -> int | Executor:
        """Where the episodes of a call run."""
        chosen = self.num_workers if num_workers is None else num_workers
        return default_num_workers() if chosen is None else chosen

    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: NumWorkers = None,
    ) -> list[Score]:
        """Scores each network on the task that its contract names; see [`~SimulatorTask.score`].

        Raises:
            `ValueError`: If a network has no contract, or one of another task.
        """
        members: dict[str, list[int]] = {}
        for index, network in enumerate(networks):
            contract = getattr(network, "contract", None)
            task = None if contract is None else contract.task
            if task not in self._members:
                raise ValueError(
                    f"`networks` must have a contract that names one of {list(self._members)}, but the one at index "
                    f"{index} names {shown(task)}."
                )
            members.setdefault(task, []).append(index)
        place, scores = self._place(num_workers), dict[int, Score]()
        for name, indices in members.items():
            chosen = [networks[index] for index in indices]
            options: dict[str, Any] = {"split": split, "num_episodes": num_episodes, "seed": seed}
            scores |= zip(indices, self._members[name].score(chosen, num_workers=place, **options), strict=True)
        return [scores[index] for index in range(len(networks))]

    @torch.no_grad()
    def collect(
        self, networks: Sequence[Network], labels: Sequence[int], *, seed: int = 0, num_workers: NumWorkers = None
    ) -> MultiTaskRound:
        """Runs an episode of each network in its task, and labels every observation with the action of the teacher.

        Parameters:
            networks (`Sequence[Network]`): B networks that take raw observations.
            labels (`Sequence[int]`): Index of the task of each.
            seed (`int`, defaults to 0): Chooses the episodes, a different one for every network.
            num_workers (`int` or `Executor`, *optional*): Where episodes run; see [`SimulatorTask`].
        """
        names = [self.task_names[label] for label in labels]
        place = self._place(num_workers)
        seeds = episode_seeds("dagger", seed, len(networks))
        jobs = [
            NamedJob(name, EpisodeJob(episode, network, record=True))
            for name, episode, network in zip(names, seeds, for_jobs(networks, place), strict=True)
        ]
        with episode_bar(self.name, len(jobs)) as bar:
            episodes = self._pool.run(jobs, place, bar.update)
        observations, actions = stack_episodes(episodes)
        steps = torch.tensor([len(episode.observations) for episode in episodes])
        succeeded = torch.tensor([episode.success_once for episode in episodes])
        return MultiTaskRound(observations, actions, torch.tensor(labels).repeat_interleave(steps), succeeded)

    def add_demonstrations(self, observations: torch.Tensor, actions: torch.Tensor, labels: torch.Tensor) -> None:
        """Adds samples `[N, I]`, `[N, O]` to what the tasks of their labels `[N]` draw training batches from."""
        for label in labels.unique().tolist():
            chosen = labels == label
            self._members[self.task_names[label]].add_demonstrations(observations[chosen], actions[chosen])
