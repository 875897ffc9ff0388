"""Rollouts in ManiSkill: a network or the expert acts, successes are counted, observations may be recorded.

Shape legend: N environments side by side, T steps of an episode, B networks, I/O observation and action features.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ...networks import Network, NetworkBatch
from ...workers import WorkerPool
from .environments import import_simulator, make_environment
from .experts import Expert
from .noise import ActionNoise
from .portable_networks import PortableNetwork, network_policy


# An episode takes a fifth of a second, but much longer if other processes have priority.
_EPISODE_SECONDS = 300.0


@dataclass(frozen=True)
class Episode:
    """The result of one episode.

    Parameters:
        seed (`int`): Seed of the environment.
        success_once (`bool`): Whether any step was a success.
        success_at_end (`bool`, *optional*):
            Whether the last step was a success. Like the return, `None` if run with `stop_at_success`.
        episode_return (`float`, *optional*): Sum of ManiSkill's normalised dense reward, at most 1 per step.
        observations (`np.ndarray`, *optional*): `[T, I]`, the observation before each step, if recorded.
        labels (`np.ndarray`, *optional*): `[T, O]`, the expert's actions for these observations, if recorded.
    """

    seed: int
    success_once: bool
    success_at_end: bool | None = None
    episode_return: float | None = None
    observations: np.ndarray | None = None
    labels: np.ndarray | None = None


def expert_labels(expert: Expert, observations: torch.Tensor) -> np.ndarray:
    """The expert's actions `[N, O]` for observations `[N, I]`, float32."""
    return expert(observations.cpu().numpy().astype(np.float64)).astype(np.float32)


def max_episode_steps(environment: Any) -> int:
    """Number of steps in an episode, from the environment's registration."""
    from mani_skill.utils.gym_utils import find_max_episode_steps_value

    return int(find_max_episode_steps_value(environment))


@torch.no_grad()
def run_episodes(
    environment: Any,
    seeds: Sequence[int],
    policy: Network | None,
    expert: Expert | None = None,
    noise: bool = False,
    stop_at_success: bool = False,
) -> list[Episode]:
    """Runs an episode in each of N environments, to the last step.

    ManiSkill marks a step that succeeds as terminal, but neither stops nor resets by itself. So `success_at_end` is
    what its vector environments report with `ignore_terminations=True`.

    Parameters:
        environment: From [`make_environment`], with as many environments as there are seeds.
        seeds (`Sequence[int]`): Seed of each environment.
        policy (`Callable`, *optional*):
            Actions `[N, O]` for observations `[N, I]`. NaN becomes 0, and actions are clipped to -1…1 before they are
            executed. The expert acts by default.
        expert (`Callable`, *optional*): If given, observations and the expert's actions for them are recorded.
        noise (`bool`, defaults to `False`): Add noise to the executed actions; see [`ActionNoise`].
        stop_at_success (`bool`, defaults to `False`):
            Stop when every environment has succeeded at least once; measures only `success_once`.
    """
    # Rebuild the scene: PhysX on the CPU keeps contacts across a reset, so an episode would depend on earlier ones.
    # On a GPU, episodes are not reproducible anyway, and rebuilding would be slow.
    options = {"reconfigure": not environment.unwrapped.gpu_sim_enabled}
    observations, _ = environment.reset(seed=seeds[0] if len(seeds) == 1 else list(seeds), options=options)
    noises = [ActionNoise(seed, environment.action_space.shape[-1]) for seed in seeds] if noise else []
    seen, labels, rewards = [], [], []
    success_N = success_once_N = torch.zeros(len(seeds), dtype=torch.bool)
    for _ in range(max_episode_steps(environment)):
        # record
        if expert is not None:
            seen.append(observations.cpu().numpy())
            labels.append(expert_labels(expert, observations))

        # choose actions
        actions = torch.from_numpy(labels[-1]) if policy is None else policy(observations)
        actions = actions.nan_to_num(nan=0.0).clamp(-1.0, 1.0)
        if noise:
            disturbed = [disturb(action) for disturb, action in zip(noises, actions.cpu().numpy())]
            actions = torch.from_numpy(np.stack(disturbed).astype(np.float32)).to(actions)

        # step
        observations, reward_N, _, _, info = environment.step(actions)
        rewards.append(reward_N.cpu())
        success_N = info["success"].cpu()
        success_once_N = success_once_N | success_N
        if stop_at_success and success_once_N.all():
            break

    # one result per environment
    returns_N = torch.stack(rewards).sum(dim=0)
    return [
        Episode(
            seed,
            bool(success_once_N[index]),
            None if stop_at_success else bool(success_N[index]),
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
        network (`PortableNetwork` or `Network`, *optional*): The network that acts; the expert acts by default.
        record (`bool`, defaults to `False`): Record the observations, with the expert's actions as labels.
        noise (`bool`, defaults to `False`): Add noise to the executed actions.
        stop_at_success (`bool`, defaults to `False`): Stop at the first success; measures only `success_once`.
    """

    seed: int
    network: PortableNetwork | Network | None = None
    record: bool = False
    noise: bool = False
    stop_at_success: bool = False


class EpisodeRunner:
    """Runs the jobs of a process in one environment, which it keeps.

    Parameters:
        env_id (`str`): Name of the environment.
        expert (`Callable`): Expert of the task.
        is_worker (`bool`, defaults to `True`): Whether the process does nothing else, so that it can be tuned for it.
    """

    def __init__(self, env_id: str, expert: Expert, is_worker: bool = True):
        if is_worker:
            torch.set_num_threads(1)
        import_simulator()
        if is_worker:
            # ManiSkill runs garbage collection for every scene it builds. Excluding all imported objects makes that
            # fast.
            gc.freeze()
        self.environment = make_environment(env_id)
        self.reward_mode = self.environment.unwrapped.reward_mode
        self.expert = expert

    def __call__(self, job: EpisodeJob) -> Episode:
        is_recorded = job.record or job.network is None
        policy = None if job.network is None else network_policy(job.network)
        expert = self.expert if is_recorded else None
        # Computing the dense reward takes an eighth of a step. ManiSkill sets the mode when an environment is created,
        # and reads it from this attribute at every step. If a release renames it, screening is only slower.
        self.environment.unwrapped._reward_mode = "none" if job.stop_at_success else self.reward_mode
        (episode,) = run_episodes(self.environment, [job.seed], policy, expert, job.noise, job.stop_at_success)
        return episode


class EpisodePool(WorkerPool[EpisodeJob, Episode]):
    """Runs episodes in worker processes, or in the calling process if their number is 0.

    Parameters:
        env_id (`str`): Name of the environment.
        expert (`Callable`): Expert of the task; pickled.
    """

    def __init__(self, env_id: str, expert: Expert):
        super().__init__(partial(EpisodeRunner, env_id, expert), _EPISODE_SECONDS)
        self._env_id, self._expert = env_id, expert
        self._here: EpisodeRunner | None = None

    def run(
        self, jobs: Sequence[EpisodeJob], num_workers: int, progress: Callable[[], Any] | None = None
    ) -> list[Episode]:
        """Runs jobs and returns their episodes, in order of the jobs; see [`~WorkerPool.run`].

        Raises:
            `ValueError`: If `num_workers` is negative.
        """
        if num_workers < 0:
            raise ValueError(f"`num_workers` must be 0 or more, but received {num_workers}.")
        if num_workers > 0:
            return super().run(jobs, num_workers, progress)
        if self._here is None:
            self._here = EpisodeRunner(self._env_id, self._expert, is_worker=False)
        episodes = []
        for job in jobs:
            episodes.append(self._here(job))
            if progress is not None:
                progress()
        return episodes

    def close(self) -> None:
        """Ends the workers, and closes the environment of this process; the next run starts new ones."""
        super().close()
        if self._here is not None:
            self._here.environment.close()
            self._here = None


@torch.no_grad()
def run_in_parallel(
    env_id: str,
    networks: Sequence[Network],
    seeds: Sequence[int],
    max_environments: int = 1024,
    stop_at_success: bool = False,
    **kwargs: Any,
) -> list[list[Episode]]:
    """Runs every network on every seed, in one GPU simulation of many environments.

    The episodes differ from those of the same seeds on a CPU, because ManiSkill draws them for all environments at
    once.

    Parameters:
        env_id (`str`): Name of the environment.
        networks (`Sequence[Network]`): B networks, which take raw observations.
        seeds (`Sequence[int]`): Seeds of the episodes, the same for every network.
        max_environments (`int`, defaults to 1024): Maximum number of environments at a time.
        stop_at_success (`bool`, defaults to `False`):
            Stop when all environments that run together have succeeded; saves nothing if one never does.
        kwargs: Further arguments of [`make_environment`].

    Returns:
        `list[list[Episode]]`: For every network, its episodes in the order of `seeds`.
    """
    # an environment for each network and seed
    num_networks = len(networks)
    seeds_at_once = min(len(seeds), max(1, max_environments // num_networks))
    settings = {"sim_backend": "physx_cuda", "render_backend": "gpu", **kwargs}
    environment = make_environment(env_id, num_envs=num_networks * seeds_at_once, **settings)
    batch = NetworkBatch(networks).to(environment.unwrapped.device)

    def policy(observations: torch.Tensor) -> torch.Tensor:
        return batch(observations.unflatten(0, (num_networks, -1))).flatten(0, 1)

    episodes: list[list[Episode]] = [[] for _ in range(num_networks)]
    try:
        for start in range(0, len(seeds), seeds_at_once):
            # the number of environments is fixed, so the last round is padded with episodes that are discarded
            chunk = list(seeds[start : start + seeds_at_once])
            filled = (chunk * seeds_at_once)[:seeds_at_once]
            done = run_episodes(environment, filled * num_networks, policy, stop_at_success=stop_at_success)
            for network in range(num_networks):
                first = network * seeds_at_once
                episodes[network] += done[first : first + len(chunk)]
    finally:
        environment.close()
    return episodes
