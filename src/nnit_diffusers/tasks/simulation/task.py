"""Tasks in simulators: networks are scored by acting, and learn a teacher's actions.

Shape legend: B networks, N samples, I/O observation and action features.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from ...containers import default_num_workers
from ...executors import NumWorkers, check_num_workers
from ...loading.limits import check_size, shown
from ...networks import Network
from ..base import Score, check_data_split
from ..imitation import ImitationTask
from ..metadata import Features
from .contract import Contract, ContractError
from .environment import EnvironmentSpec, MakeEnvironment
from .noise import noise_scales
from .portable_networks import for_jobs
from .rollouts import Episode, EpisodeJob, EpisodePool, Teacher, episode_bar, stack_episodes
from .seeds import episode_seeds
from .spec import simulator_spec
from .success import Success, check_fit, check_success, judged, part_of_return, score_of


_NUM_TEACHER_EPISODES = 20
_NUM_NOISE_EPISODES = 10


def task_name(env_id: str) -> str:
    """Name of the task of an environment: lower case, with a hyphen for everything but letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]+", "-", env_id.lower()).strip("-")


class SimulatorTask(ImitationTask):
    """A task in a simulator: networks act, and learn from a teacher.

    Rollouts run in worker processes. The same seed gives the same episodes and results, for any number of processes,
    on any executor, and with any other networks that are scored. The processes are kept for the next call until
    [`~SimulatorTask.close`] or the end of the program; an executor is the caller's, and never shut down.

    Parameters:
        spec ([`EnvironmentSpec`]): What makes the environment.
        teacher (`Callable`, *optional*):
            From observations `[N, I]`, float64, to actions `[N, O]`; for discrete actions choices `[N]` or scores
            `[N, O]`. Only collecting demonstrations and the teacher's return need it.
        success (`"info"` or `float`, *optional*):
            `"info"`: an episode succeeds if the environment reports it at any step. A number p of 0 to 1: it succeeds
            if its return is at least p of the teacher's, `teacher_return - (1 - p) * abs(teacher_return)`. By default
            `"info"` if the environment reports success, and 0.9 otherwise.
        teacher_return (`float`, *optional*): The teacher's mean return; by default it is measured when needed.
        data_dir (`str` or `Path`, *optional*): Folder of demonstrations. Only training needs them.
        name (`str`, *optional*): Name of the task; made from that of the environment by default.
        noise_scale (`float`, *optional*):
            Factor of the noise on recorded demonstrations, 0 to 1. By default 1 for actions from -1 to 1 and for
            discrete ones. For others, noise is as large as two steps of the teacher's actions, which are measured.
        grid (`dict[str, int]`, *optional*): `min_width`, `max_width`, `min_depth` and `max_depth`, any of them.

    Attributes:
        num_workers (`int` or `Executor`, *optional*):
            Where episodes run unless a call names another place, so also those of training and of evaluations: in so
            many processes, in this process (0), or on an executor, such as Dask's `Client.get_executor()`. By default
            in one process per CPU that this process may use, as far as its memory allows.

    Raises:
        [`ContractError`]: If an argument does not fit the environment.
    """

    min_width = 16
    max_width = 128
    min_depth = 1
    max_depth = 3
    has_slow_episodes = True
    num_workers: NumWorkers = None
    env_id: str

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        teacher: Teacher | None = None,
        success: Success = None,
        teacher_return: float | None = None,
        data_dir: str | Path | None = None,
        name: str | None = None,
        noise_scale: float | None = None,
        grid: Mapping[str, int | None] | None = None,
    ):
        super().__init__(data_dir)
        if teacher is not None and not callable(teacher):
            raise ContractError(f"`teacher` must be a callable, but received {shown(teacher)}.")
        check_success(success, teacher_return)
        if noise_scale is not None and not 0 <= noise_scale <= 1:
            raise ContractError(f"`noise_scale` must be 0 to 1, but received {noise_scale!r}.")
        self.environment_spec, self.success, self.noise_scale = spec, success, noise_scale
        self.env_id, self.teacher = spec.env_id, teacher
        if name is not None:
            self.name = name
        for key, value in (grid or {}).items():
            if value is not None:
                try:
                    setattr(self, key, check_size(key, value))
                except ValueError as error:
                    raise ContractError(str(error)) from None
        # measured once for all copies of the task
        self._measured: dict[str, Any] = {}
        if teacher_return is not None:
            self._measured["teacher_return"] = float(teacher_return)
        self._stop_at_success = False

    # what the environment is

    @property
    @abstractmethod
    def _make_environment(self) -> MakeEnvironment:
        """Makes the environment in any process; picklable."""

    @cached_property
    def pool(self) -> EpisodePool:
        """The worker processes, started when first needed."""
        return EpisodePool(self._make_environment, self._check, self.teacher)

    @property
    def _check(self) -> Callable[[Contract], None]:
        """Checks that the task fits a contract, in any process."""
        # the sizes of a subclass that declares them
        in_features, out_features = (
            next((vars(kind)[key] for kind in type(self).__mro__ if isinstance(vars(kind).get(key), int)), None)
            for key in ("in_features", "out_features")
        )
        has_return = self.teacher is not None or "teacher_return" in self._measured
        return partial(check_fit, self.name, in_features, out_features, self.success, has_return)

    @cached_property
    def contract(self) -> Contract:
        """What the environment expects and gives, read from it when first needed.

        Raises:
            [`ContractError`]: If the environment does not exist, can't be made, or does not fit the task.
        """
        return self.pool.contract(self.num_workers)

    def _place(self, num_workers: NumWorkers) -> int | Executor:
        """Where the episodes of a call run. The contract is read there too: no other process is started for it."""
        chosen = self.num_workers if num_workers is None else num_workers
        place = default_num_workers() if chosen is None else chosen
        check_num_workers(place)
        if "contract" not in vars(self) and (place == 0 or isinstance(place, Executor)):
            self.contract = self.pool.contract(place)
        return place

    @cached_property
    def in_features(self) -> int:  # type: ignore[override]
        return self.contract.in_features

    @cached_property
    def out_features(self) -> int:  # type: ignore[override]
        return self.contract.out_features

    @cached_property
    def observation_layout(self) -> tuple[Features, ...]:
        return self.contract.observation_layout

    @cached_property
    def action_layout(self) -> tuple[Features, ...]:
        return self.contract.action_layout

    @cached_property
    def is_discrete(self) -> bool:
        """Whether an action is a choice; outputs are then logits, and targets one-hot."""
        return self.contract.is_discrete

    @cached_property
    def standardises_actions(self) -> bool:  # type: ignore[override]
        """Whether networks learn standardised actions: where not all bounds are exactly -1 and 1."""
        return not self.contract.is_discrete and not self.contract.has_unit_actions

    @property
    def can_label(self) -> bool:  # type: ignore[override]
        """Whether there is a teacher."""
        return self.teacher is not None

    @cached_property
    def action_bounds(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Lowest and highest action `[O]` of the environment; none for the one-hot targets of discrete actions."""
        if self.contract.is_discrete:
            return None
        return torch.tensor(self.contract.action_low), torch.tensor(self.contract.action_high)

    @property
    def title(self) -> str:
        return self.env_id

    @property
    def description(self) -> str:
        return f"Networks act in the environment {self.env_id}, and imitate a teacher."

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss `[B]` of B networks, from outputs `[B, N, O]` and the teacher's actions `[N, O]`.

        See [`ImitationTask`]; cross entropy for discrete actions.
        """
        if not self.is_discrete:
            return super().loss(outputs, targets)
        return -(targets * F.log_softmax(outputs, dim=-1)).sum(dim=-1).mean(dim=-1)

    # success

    @property
    def required_part(self) -> float | None:
        """Part of the teacher's return that is a success; `None` where the environment reports success."""
        return part_of_return(self.success, None if self.success is not None else self.contract)

    def teacher_return(self, num_workers: NumWorkers = None) -> float:
        """Mean return of the teacher, in 20 episodes without noise unless it was given; measured once.

        Raises:
            [`ContractError`]: If there is neither a teacher nor its return.
        """
        if "teacher_return" not in self._measured:
            self._need_teacher("to measure its return")
            seeds = episode_seeds("train", 0, _NUM_TEACHER_EPISODES)
            episodes = self.run([EpisodeJob(seed) for seed in seeds], num_workers)
            self._measured["teacher_return"] = float(np.mean([episode.episode_return for episode in episodes]))
        return self._measured["teacher_return"]

    def _judged(self, episodes: Sequence[Episode], num_workers: NumWorkers) -> list[Episode]:
        """Episodes whose success is that of the task, where it depends on the return."""
        part = self.required_part
        return list(episodes) if part is None else judged(episodes, part, self.teacher_return(num_workers))

    def _need_teacher(self, purpose: str) -> None:
        if self.teacher is None:
            raise ContractError(
                f"`teacher` must be a callable from observations to actions {purpose} in {self.env_id!r}, but "
                "received None."
            )

    # copies, and the processes they share

    def for_screening(self) -> Self:
        """Returns a copy of the task that scores only success: episodes stop at their first success.

        Both share their worker processes, and [`~SimulatorTask.close`] of either ends them. Where success depends on
        the return, episodes run to their end.
        """
        screening = copy(self)
        screening.pool = self.pool
        screening._stop_at_success = True
        return screening

    def separate(self) -> Self:
        """See [`~ImitationTask.separate`]. Both share their worker processes."""
        separate = super().separate()
        separate.pool = self.pool
        return separate

    def close(self) -> None:
        """Ends the worker processes; the next call starts new ones."""
        self.pool.close()

    # episodes

    def run(self, jobs: Sequence[EpisodeJob], num_workers: NumWorkers = None) -> list[Episode]:
        """Runs jobs, and returns the episodes in order of the jobs.

        Parameters:
            jobs (`Sequence[EpisodeJob]`): The jobs.
            num_workers (`int` or `Executor`, *optional*): Where they run; see [`SimulatorTask`].

        Raises:
            `ValueError`: If `num_workers` is negative, or neither.
            `RuntimeError`: If workers are lost again and again, or an executor accepts no more jobs.
        """
        with episode_bar(self.env_id, len(jobs)) as bar:
            return self.pool.run(jobs, self._place(num_workers), bar.update)

    @torch.no_grad()
    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: NumWorkers = None,
    ) -> list[Score]:
        """Scores networks; see [`~Task.score`].

        MLPs are sent to the worker processes as arrays. What can't be sent there needs `num_workers` 0. Metrics are
        `mean_return` and `return_std`, the mean and the sample standard deviation of the episodes' returns. Where the
        environment reports success, `success_at_end` is the fraction of episodes whose last step is one. Where success
        is a part of the teacher's return, `return_of_teacher` is the mean return divided by it, if that is positive.
        A task for screening has no metrics.

        Raises:
            `ValueError`: If `split` is unknown, an argument is out of range, or a network can't be sent.
            `ImportError`: If the simulator is not installed.
        """
        check_data_split(split)
        num_episodes = self.num_evaluation_samples(split) if num_episodes is None else num_episodes
        seeds = episode_seeds(split, seed, num_episodes)
        num_workers = self._place(num_workers)
        stop_at_success = self._stop_at_success and self.required_part is None
        of_networks = self._run_networks(networks, seeds, stop_at_success, num_workers)
        of_networks = [self._judged(episodes, num_workers) for episodes in of_networks]
        teacher_return = None if self.required_part is None else self.teacher_return(num_workers)
        return [score_of(episodes, teacher_return) for episodes in of_networks]

    def _run_networks(
        self, networks: Sequence[Network], seeds: Sequence[int], stop_at_success: bool, num_workers: NumWorkers
    ) -> list[list[Episode]]:
        """The episodes of every network, in order of the seeds."""
        jobs = [
            EpisodeJob(seed, network, stop_at_success=stop_at_success)
            for network in for_jobs(networks, num_workers)
            for seed in seeds
        ]
        episodes = self.run(jobs, num_workers)
        return [episodes[start : start + len(seeds)] for start in range(0, len(episodes), len(seeds))]

    def demonstrate(
        self,
        episodes: Sequence[int],
        *,
        seed: int = 0,
        split: str = "train",
        noise: bool = True,
        num_workers: NumWorkers = None,
    ) -> list[Episode]:
        """Records episodes in which the teacher acts, with its observations and labels.

        Parameters:
            episodes (`Sequence[int]`): Indices of the episodes that `seed` chooses, from 0.
            seed (`int`, defaults to 0): Chooses the episodes of the split.
            split (`str`, defaults to `"train"`):
                Demonstrations come from `"train"`; other splits are for evaluating the teacher.
            noise (`bool`, defaults to `True`): Add noise to the executed actions, not the labels; see [`ActionNoise`].
            num_workers (`int` or `Executor`, *optional*): Where episodes run; see [`SimulatorTask`].

        Raises:
            [`ContractError`]: If there is no teacher, or its actions do not fit.
        """
        self._need_teacher("to record it")
        num_workers = self._place(num_workers)
        seeds = episode_seeds(split, seed, max(episodes) + 1)
        scale = self._noise_of_recordings(num_workers) if noise else 0.0
        jobs = [EpisodeJob(seeds[number], record=True, noise=scale) for number in episodes]
        return self._judged(self.run(jobs, num_workers), num_workers)

    def _noise_of_recordings(self, num_workers: NumWorkers) -> float | tuple[float, ...]:
        """Scale of the noise on recorded demonstrations, one for all actions or one for each."""
        if self.noise_scale is not None:
            return self.noise_scale
        if not self.standardises_actions:
            return 1.0
        if "noise" not in self._measured:
            seeds = episode_seeds("train", 0, _NUM_NOISE_EPISODES)
            episodes = self.run([EpisodeJob(seed, record=True) for seed in seeds], num_workers)
            self._measured["noise"] = noise_scales(
                [episode.labels for episode in episodes if episode.labels is not None], self.contract
            )
        return self._measured["noise"]

    @torch.no_grad()
    def collect(
        self, networks: Sequence[Network], *, seed: int = 0, num_episodes: int = 1, num_workers: NumWorkers = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._need_teacher("to label states")
        num_workers = self._place(num_workers)
        seeds = iter(episode_seeds("dagger", seed, len(networks) * num_episodes))
        jobs = [
            EpisodeJob(next(seeds), network, record=True)
            for network in for_jobs(networks, num_workers)
            for _ in range(num_episodes)
        ]
        return stack_episodes(self.run(jobs, num_workers))

    # as JSON

    def spec(self) -> dict[str, Any]:
        """JSON-ready form, from which `simulator_task_from_spec` makes the task again, without its teacher.

        Raises:
            [`ContractError`]: If the arguments of the environment are not plain JSON.
        """
        return simulator_spec(self)
