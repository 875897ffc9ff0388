"""Rollouts in a simulator: a network or the teacher acts, successes are counted, observations may be recorded.

Shape legend: N environments side by side, T steps of an episode, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ...executors import NumWorkers, check_num_workers, run_on
from ...networks import Network
from ...workers import WorkerPool
from .contract import Contract, ContractError
from .environment import Environment, MakeEnvironment
from .noise import Scale, noise_for
from .portable_networks import PortableNetwork, network_policy


# Most runs are short and show no progress bar.
_PROGRESS_BAR_DELAY_SECONDS = 5.0
# An episode takes a fifth of a second, but much longer if other processes have priority.
_EPISODE_SECONDS = 300.0

Teacher = Callable[[np.ndarray], Any]
"""From observations `[N, I]`, float64, to actions `[N, O]`; for discrete actions also to choices `[N]`."""


@dataclass(frozen=True)
class Episode:
    """The result of one episode.

    Parameters:
        seed (`int`): Seed of the environment.
        success_once (`bool`): Whether any step was a success; `False` if the environment does not report it.
        success_at_end (`bool`, *optional*):
            Whether the last step was a success. Like the return, `None` if run with `stop_at_success`.
        episode_return (`float`, *optional*): Sum of the rewards.
        observations (`np.ndarray`, *optional*): `[T, I]`, the observation before each step, if recorded.
        labels (`np.ndarray`, *optional*): `[T, O]`, the teacher's actions for these observations, if recorded.
    """

    seed: int
    success_once: bool
    success_at_end: bool | None = None
    episode_return: float | None = None
    observations: np.ndarray | None = None
    labels: np.ndarray | None = None


def teacher_labels(teacher: Teacher, observations: torch.Tensor, contract: Contract) -> np.ndarray:
    """The teacher's actions `[N, O]` for observations `[N, I]`, float32, within the bounds; discrete ones as one-hot.

    Raises:
        [`ContractError`]: If the teacher gives another shape, or numbers that are not finite.
    """
    num_samples = len(observations)
    given = np.asarray(teacher(observations.cpu().numpy().astype(np.float64)))
    is_choice = contract.is_discrete and given.shape == (num_samples,)
    if given.shape != (num_samples, contract.out_features) and not is_choice:
        also = f" or [{num_samples}]" if contract.is_discrete else ""
        raise ContractError(
            f"`teacher` must give actions [{num_samples}, {contract.out_features}]{also} for observations "
            f"{list(observations.shape)} of {contract.env_id!r}, but received {list(given.shape)}."
        )
    if given.dtype.kind not in "buif" or not np.isfinite(given).all():
        raise ContractError(
            f"`teacher` must give finite numbers for {contract.env_id!r}, but received {given!r:.200}."
        )
    if not contract.is_discrete:
        return given.astype(np.float32).clip(*_bounds(contract))
    # one-hot
    choices = given.astype(np.int64) - contract.first_choice if is_choice else given.argmax(axis=1)
    is_integer = not is_choice or np.array_equal(choices + contract.first_choice, given)
    if not is_integer or choices.min() < 0 or choices.max() >= contract.out_features:
        last = contract.first_choice + contract.out_features - 1
        raise ContractError(
            f"`teacher` must give integers of {contract.first_choice} to {last} as choices of {contract.env_id!r}, "
            f"but received {given!r:.200}."
        )
    return np.eye(contract.out_features, dtype=np.float32)[choices]


def _bounds(contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    return np.array(contract.action_low, np.float32), np.array(contract.action_high, np.float32)


@torch.no_grad()
def run_episodes(
    environment: Environment,
    seeds: Sequence[int],
    policy: Network | None,
    teacher: Teacher | None = None,
    noise: Scale = 0.0,
    stop_at_success: bool = False,
) -> list[Episode]:
    """Runs an episode in each of N environments, to its end.

    Parameters:
        environment ([`Environment`]): As many environments as there are seeds.
        seeds (`Sequence[int]`): Seed of each environment.
        policy (`Callable`, *optional*):
            Actions `[N, O]` for observations `[N, I]`. NaN becomes 0, and actions are clipped to the bounds before
            they are executed. The teacher acts by default.
        teacher (`Callable`, *optional*): If given, observations and the teacher's actions for them are recorded.
        noise (`float` or `tuple[float, ...]`, defaults to 0.0):
            Scale of the noise on the executed actions; see [`ActionNoise`].
        stop_at_success (`bool`, defaults to `False`):
            Stop when every environment has succeeded at least once; measures only `success_once`.
    """
    contract = environment.contract
    observations = environment.reset(seeds, needs_rewards=not stop_at_success)
    noises = [noise_for(contract, seed, noise) for seed in seeds] if noise else []
    low, high = (torch.from_numpy(bound).to(observations.device) for bound in _bounds(contract))
    seen, labels, rewards = [], [], []
    success_N = success_once_N = torch.zeros(len(seeds), dtype=torch.bool)
    for _ in range(contract.max_episode_steps):
        # record
        if teacher is not None:
            seen.append(observations.cpu().numpy())
            labels.append(teacher_labels(teacher, observations, contract))

        # choose actions
        actions = torch.from_numpy(labels[-1]) if policy is None else policy(observations)
        actions = actions.nan_to_num(nan=0.0)
        actions = actions.argmax(dim=1) if contract.is_discrete else actions.to(low.device).clamp(low, high)
        if noise:
            disturbed = np.stack([disturb(action) for disturb, action in zip(noises, actions.cpu().numpy())])
            actions = torch.from_numpy(disturbed if contract.is_discrete else disturbed.astype(np.float32)).to(actions)

        # step
        observations, reward_N, step_success_N, has_ended = environment.step(actions)
        rewards.append(reward_N)
        if step_success_N is not None:
            success_N = step_success_N
            success_once_N = success_once_N | success_N
        if has_ended or (stop_at_success and success_once_N.all()):
            break

    # one result per environment
    returns_N = torch.stack(rewards).sum(dim=0)
    at_end = not stop_at_success and contract.reports_success
    return [
        Episode(
            seed,
            bool(success_once_N[index]),
            bool(success_N[index]) if at_end else None,
            None if stop_at_success else float(returns_N[index]),
            np.stack([step[index] for step in seen]) if seen else None,
            np.stack([step[index] for step in labels]) if labels else None,
        )
        for index, seed in enumerate(seeds)
    ]


@dataclass(frozen=True)
class EpisodeJob:
    """One episode for a worker process.

    Parameters:
        seed (`int`): Seed of the environment.
        network (`PortableNetwork` or `Network`, *optional*): The network that acts; the teacher acts by default.
        record (`bool`, defaults to `False`): Record the observations, with the teacher's actions as labels.
        noise (`float` or `tuple[float, ...]`, defaults to 0.0): Scale of the noise on the executed actions.
        stop_at_success (`bool`, defaults to `False`): Stop at the first success; measures only `success_once`.
    """

    seed: int
    network: PortableNetwork | Network | None = None
    record: bool = False
    noise: Scale = 0.0
    stop_at_success: bool = False


@dataclass(frozen=True)
class ContractJob:
    """Asks a worker process for the contract of its environment."""


class EpisodeRunner:
    """Runs the jobs of a process in one environment, which it keeps.

    Parameters:
        make (`Callable`): Makes the environment.
        check (`Callable`): Called with the contract of the environment; raises [`ContractError`] if it does not fit.
        teacher (`Callable`, *optional*): Teacher of the task.
        is_worker (`bool`, defaults to `True`): Whether the process does nothing else, so that it can be tuned for it.
    """

    def __init__(
        self,
        make: MakeEnvironment,
        check: Callable[[Contract], None],
        teacher: Teacher | None = None,
        is_worker: bool = True,
    ):
        if is_worker:
            torch.set_num_threads(1)
        self.environment = make(is_worker)
        check(self.environment.contract)
        self.teacher = teacher

    def __call__(self, job: EpisodeJob | ContractJob) -> Any:
        if isinstance(job, ContractJob):
            return self.environment.contract
        is_recorded = job.record or job.network is None
        policy = None if job.network is None else network_policy(job.network)
        teacher = self.teacher if is_recorded else None
        (episode,) = run_episodes(self.environment, [job.seed], policy, teacher, job.noise, job.stop_at_success)
        return episode

    def close(self) -> None:
        """Frees the environment."""
        self.environment.close()


class EpisodePool(WorkerPool[Any, Any]):
    """Runs episodes in worker processes, on an executor, or in the calling process.

    Parameters:
        make (`Callable`): Makes the environment.
        check (`Callable`): Checks the contract of every environment; see [`EpisodeRunner`].
        teacher (`Callable`, *optional*): Teacher of the task.
    """

    def __init__(self, make: MakeEnvironment, check: Callable[[Contract], None], teacher: Teacher | None):
        create = partial(EpisodeRunner, make, check, teacher)
        self._set_up(create, partial(create, is_worker=False))

    def _set_up(self, create: Callable[[], Any], create_here: Callable[[], Any]) -> None:
        """Remembers what makes a runner of jobs, in a worker and in this process."""
        super().__init__(create, _EPISODE_SECONDS)
        self.create_here = create_here
        self._here: Any = None

    @property
    def has_environment_here(self) -> bool:
        """Whether this process has an environment."""
        return self._here is not None

    def run(
        self, jobs: Sequence[Any], num_workers: int | Executor, progress: Callable[[], Any] | None = None
    ) -> list[Any]:
        """Runs jobs and returns their episodes, in order of the jobs; see [`~WorkerPool.run`] and [`run_on`].

        Parameters:
            num_workers (`int` or `Executor`): Number of processes, 0 for the calling process, or an executor.

        Raises:
            `ValueError`: If `num_workers` is negative, or neither.
        """
        check_num_workers(num_workers)
        if num_workers != 0:
            try:
                if isinstance(num_workers, Executor):
                    # threads share this process, which does more than run episodes
                    is_here = isinstance(num_workers, ThreadPoolExecutor)
                    create = self.create_here if is_here else self.create
                    return run_on(num_workers, create, jobs, progress)
                return super().run(jobs, num_workers, progress)
            except ContractError as error:
                # the user's mistake, which the traceback of a worker would bury
                raise type(error)(str(error)) from None
        if self._here is None:
            self._here = self.create_here()
        results = []
        for job in jobs:
            results.append(self._here(job))
            if progress is not None:
                progress()
        return results

    def contract(self, num_workers: NumWorkers = None) -> Contract:
        """The contract of the environment, from the executor or from a worker, which is kept.

        It comes from this process if that has an environment, or if `num_workers` is 0.
        """
        there = num_workers if isinstance(num_workers, Executor) else 1
        (contract,) = self.run([ContractJob()], 0 if num_workers == 0 or self.has_environment_here else there)
        assert isinstance(contract, Contract)
        return contract

    def close(self) -> None:
        """Ends the workers, and closes the environment of this process; the next run starts new ones."""
        super().close()
        if self._here is not None:
            self._here.close()
            self._here = None


def episode_bar(env_id: str, num_episodes: int) -> Any:
    """A progress bar of episodes, shown once they take longer than a few seconds."""
    from diffusers.utils import logging

    return logging.tqdm(
        total=num_episodes,
        desc=f"Episodes of {env_id}",
        unit="episode",
        delay=_PROGRESS_BAR_DELAY_SECONDS,
        leave=False,
    )


def stack_episodes(episodes: Sequence[Episode]) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations `[N, I]` and labels `[N, O]` of recorded episodes, concatenated."""
    observations = [episode.observations for episode in episodes if episode.observations is not None]
    labels = [episode.labels for episode in episodes if episode.labels is not None]
    return torch.from_numpy(np.concatenate(observations)), torch.from_numpy(np.concatenate(labels))
