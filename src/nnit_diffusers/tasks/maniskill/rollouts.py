"""Episodes in ManiSkill: who acts, what is counted, and what is recorded.

Shape legend: N environments side by side, T steps of an episode, B networks, I/O observation and action features.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...networks import batched_forward
from .environments import import_simulator, make_environment
from .experts import Expert
from .noise import ActionNoise


Policy = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Episode:
    """What came of one episode.

    Parameters:
        seed (`int`): What the environment was seeded with.
        success_once (`bool`): Whether any step was a success.
        success_at_end (`bool`, *optional*):
            Whether the last one was. Like the return, measured only in episodes that run to their last step in any
            case.
        episode_return (`float`, *optional*): Sum of ManiSkill's normalised dense reward, at most 1 a step.
        observations (`np.ndarray`, *optional*): `[T, I]`, what was seen before each step, if recorded.
        labels (`np.ndarray`, *optional*): `[T, O]`, what the expert would have done there, if recorded.
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
    """Steps of an episode, as the environment is registered."""
    from mani_skill.utils.gym_utils import find_max_episode_steps_value

    return int(find_max_episode_steps_value(environment))


@torch.no_grad()
def run_episodes(
    environment: Any,
    seeds: Sequence[int],
    policy: Policy | None,
    expert: Expert | None = None,
    noise: bool = False,
    stop_at_success: bool = False,
) -> list[Episode]:
    """Runs an episode in each of N environments, to the last step.

    ManiSkill calls a step that succeeds terminal, but neither stops nor resets by itself; so `success_at_end` is what
    its vector environments report with `ignore_terminations=True`.

    Parameters:
        environment: From [`make_environment`], with as many environments as there are seeds.
        seeds (`Sequence[int]`): Seed of each.
        policy (`Callable`, *optional*):
            Actions `[N, O]` for observations `[N, I]`, clipped to -1…1 before they are executed; what is not a number
            counts as 0. The expert acts by default.
        expert (`Callable`, *optional*): If given, observations and what it would have done are recorded.
        noise (`bool`, defaults to `False`): Disturb the actions executed; see [`ActionNoise`].
        stop_at_success (`bool`, defaults to `False`):
            End as soon as every environment has succeeded, which is all that is measured then.
    """
    # PhysX on the CPU remembers contacts across a reset, and an episode would depend on the ones before it; in a scene
    # that is built anew it does not. On a GPU, where episodes are not repeatable anyway, that would take long.
    options = {"reconfigure": not environment.unwrapped.gpu_sim_enabled}
    observations, _ = environment.reset(seed=seeds[0] if len(seeds) == 1 else list(seeds), options=options)
    noises = [ActionNoise(seed, environment.action_space.shape[-1]) for seed in seeds] if noise else []
    seen, labels, rewards = [], [], []
    success_N = success_once_N = torch.zeros(len(seeds), dtype=torch.bool)
    for _ in range(max_episode_steps(environment)):
        if expert is not None:
            seen.append(observations.cpu().numpy())
            labels.append(expert_labels(expert, observations))
        actions = torch.from_numpy(labels[-1]) if policy is None else policy(observations)
        actions = actions.nan_to_num(nan=0.0).clamp(-1.0, 1.0)
        if noise:
            disturbed = [disturb(action) for disturb, action in zip(noises, actions.cpu().numpy())]
            actions = torch.from_numpy(np.stack(disturbed).astype(np.float32)).to(actions)
        observations, reward_N, _, _, info = environment.step(actions)
        rewards.append(reward_N.cpu())
        success_N = info["success"].cpu()
        success_once_N = success_once_N | success_N
        if stop_at_success and success_once_N.all():
            break
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
        seed (`int`): What the environment is seeded with.
        weights (`dict[str, np.ndarray]`, *optional*):
            State dict of the network that acts, every array with a leading 1; the expert acts by default.
        activation (`str`, defaults to `"relu"`): Activation of the network.
        record (`bool`, defaults to `False`): Keep the observations, with the expert's actions as labels.
        noise (`bool`, defaults to `False`): Disturb the actions executed.
        stop_at_success (`bool`, defaults to `False`): End with the first success, which is all that is measured then.
    """

    seed: int
    weights: Mapping[str, np.ndarray] | None = None
    activation: str = "relu"
    record: bool = False
    noise: bool = False
    stop_at_success: bool = False


class EpisodeRunner:
    """An environment of one robot, and the expert that labels: what a worker process holds.

    Parameters:
        env_id (`str`): Name of the environment.
        expert (`Callable`): Expert of the task.
    """

    def __init__(self, env_id: str, expert: Expert):
        torch.set_num_threads(1)
        import_simulator()
        # ManiSkill collects garbage for every scene it builds: without what has been imported, that takes no time.
        gc.freeze()
        self.environment = make_environment(env_id)
        self.reward_mode = self.environment.unwrapped.reward_mode
        self.expert = expert

    def __call__(self, job: EpisodeJob) -> Episode:
        is_recorded = job.record or job.weights is None
        policy = None if job.weights is None else network_policy(job.weights, job.activation)
        expert = self.expert if is_recorded else None
        # The dense reward is an eighth of a step. ManiSkill is told its mode when an environment is made, and reads it
        # from this attribute at every step; should a release rename it, screening is slower and nothing else.
        self.environment.unwrapped._reward_mode = "none" if job.stop_at_success else self.reward_mode
        (episode,) = run_episodes(self.environment, [job.seed], policy, expert, job.noise, job.stop_at_success)
        return episode


def network_policy(weights: Mapping[str, np.ndarray], activation: str) -> Policy:
    """The policy of one network, whose arrays have a leading 1."""
    state_dict = {key: torch.from_numpy(array) for key, array in weights.items()}
    return lambda observations_NI: batched_forward(state_dict, observations_NI, activation)[0]


@torch.no_grad()
def run_in_parallel(
    env_id: str,
    stacked_state_dict: Mapping[str, torch.Tensor],
    activation: str,
    seeds: Sequence[int],
    max_environments: int = 1024,
    stop_at_success: bool = False,
    **kwargs: Any,
) -> list[list[Episode]]:
    """Every network in the episodes of every seed, in one simulation of many environments on a GPU.

    Episodes of a GPU simulation are others than those of the same seeds on a CPU: ManiSkill draws them for all
    environments at once.

    Parameters:
        env_id (`str`): Name of the environment.
        stacked_state_dict (`Mapping[str, torch.Tensor]`): Weights of B networks, which take raw observations.
        activation (`str`): Their activation.
        seeds (`Sequence[int]`): Seeds of the episodes, the same for every network.
        max_environments (`int`, defaults to 1024): Most environments at a time.
        stop_at_success (`bool`, defaults to `False`):
            End when the last of the environments that run together has succeeded: where one never does, this saves
            nothing.
        kwargs: Of [`make_environment`].

    Returns:
        `list[list[Episode]]`: Of every network, the episodes in the order of `seeds`.
    """
    num_networks = len(stacked_state_dict["0.weight"])
    seeds_at_once = min(len(seeds), max(1, max_environments // num_networks))
    settings = {"sim_backend": "physx_cuda", "render_backend": "gpu", **kwargs}
    environment = make_environment(env_id, num_envs=num_networks * seeds_at_once, **settings)
    state_dict = {key: tensor.to(environment.unwrapped.device) for key, tensor in stacked_state_dict.items()}

    def policy(observations: torch.Tensor) -> torch.Tensor:
        return batched_forward(state_dict, observations.unflatten(0, (num_networks, -1)), activation).flatten(0, 1)

    episodes: list[list[Episode]] = [[] for _ in range(num_networks)]
    try:
        for start in range(0, len(seeds), seeds_at_once):
            # The number of environments is fixed: the last round is filled up with episodes that do not count.
            chunk = list(seeds[start : start + seeds_at_once])
            filled = (chunk * seeds_at_once)[:seeds_at_once]
            done = run_episodes(environment, filled * num_networks, policy, stop_at_success=stop_at_success)
            for network in range(num_networks):
                first = network * seeds_at_once
                episodes[network] += done[first : first + len(chunk)]
    finally:
        environment.close()
    return episodes
