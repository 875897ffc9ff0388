"""The robot tasks: a Panda arm in ManiSkill3, observed by state and controlled by joint deltas.

The layouts of observations and actions are those of ManiSkill's `state` mode and of `pd_joint_delta_pos`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch

from ...networks import Network
from ...workers import default_num_workers
from ..base import Score, check_data_split
from ..imitation import ImitationTask
from ..metadata import Features
from ..registry import register_task
from . import experts
from .portable_networks import PortableNetwork
from .rollouts import Episode, EpisodeJob, EpisodePool, run_in_parallel
from .seeds import episode_seeds


# Every observation begins with the state of the robot.
_JOINTS = (
    Features("joint positions", 7, "rad"),
    Features("finger positions", 2, "m"),
    Features("joint velocities", 7, "rad/s"),
    Features("finger velocities", 2, "m/s"),
)
# Most runs are short and show no progress bar.
_PROGRESS_BAR_DELAY_SECONDS = 5.0


def _pose(name: str) -> tuple[Features, Features]:
    return Features(f"{name} position", 3, "m"), Features(f"{name} quaternion", 4, "w, x, y, z")


class ManiSkillTask(ImitationTask):
    """A task of ManiSkill3. An episode is a rollout of 50 steps; it is a success if any step is.

    Rollouts run in worker processes with ManiSkill's own `env.step` and PhysX on the CPU. The same seed gives the same
    episodes and results, for any number of processes and any other networks that are scored. On a machine with CUDA,
    rollouts run in one parallel simulation on the GPU, whose episodes are different.

    The processes are kept for the next call until [`~ManiSkillTask.close`] or the end of the program. Python spawns
    the processes, so a script has to guard its main code with `if __name__ == "__main__":`.

    Parameters:
        data_dir (`str` or `Path`, *optional*):
            Folder of demonstrations, made by `nnit train` or [`collect_demonstrations`]. Only training needs them.
        sim_backend (`str`, defaults to `"auto"`):
            `"physx_cpu"`, `"physx_cuda"` or `"auto"`, which is `"physx_cuda"` on a machine with CUDA.

    Attributes:
        env_id (`str`): Name of the environment in Gymnasium's registry.
        expert (`Callable`): The scripted expert, from observations `[N, I]` to actions `[N, O]`.
    """

    out_features = 8
    max_width = 256
    env_id: ClassVar[str]
    expert: ClassVar[staticmethod[[np.ndarray], np.ndarray]]
    default_num_episodes = 100
    has_slow_episodes = True
    action_layout = (
        Features("joint deltas", 7, "-1 to 1 for -0.1 to 0.1 rad"),
        Features("fingers", 1, "-1 closed to 1 open"),
    )

    def __init__(
        self,
        data_dir: str | Path | None = None,
        sim_backend: Literal["auto", "physx_cpu", "physx_cuda"] = "auto",
    ):
        super().__init__(data_dir)
        if sim_backend not in ("auto", "physx_cpu", "physx_cuda"):
            raise ValueError(
                f'`sim_backend` must be "auto", "physx_cpu" or "physx_cuda", but received {sim_backend!r}.'
            )
        self.sim_backend = sim_backend
        self._stop_at_success = False

    def for_screening(self) -> ManiSkillTask:
        """Returns a copy of the task that scores only success: episodes stop at their first success.

        Both share their worker processes, and [`~ManiSkillTask.close`] of either ends them. Parallel episodes on the
        GPU stop when all of them have succeeded.
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

    @cached_property
    def pool(self) -> EpisodePool:
        """The worker processes, started when first needed."""
        return EpisodePool(self.env_id, type(self).expert)

    def close(self) -> None:
        """Ends the worker processes; the next call starts new ones."""
        self.pool.close()

    def run(self, jobs: Sequence[EpisodeJob], num_workers: int | None = None) -> list[Episode]:
        """Runs jobs in `num_workers` processes, and returns the episodes in order of the jobs.

        By default there is a process for each CPU. With 0, the jobs run in this process.

        Raises:
            `ValueError`: If `num_workers` is negative.
        """
        from diffusers.utils import logging

        with logging.tqdm(
            total=len(jobs),
            desc=f"Episodes of {self.env_id}",
            unit="episode",
            delay=_PROGRESS_BAR_DELAY_SECONDS,
            leave=False,
        ) as bar:
            return self.pool.run(jobs, default_num_workers() if num_workers is None else num_workers, bar.update)

    @torch.no_grad()
    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> list[Score]:
        """Scores networks; see [`~Task.score`].

        MLPs are sent to the worker processes as arrays. Any other network has to be picklable, or `num_workers` 0.
        Metrics are `success_at_end`, the fraction of episodes whose last step is a success, and `mean_return`, the sum
        of ManiSkill's normalised dense reward, at most 50. A task for screening has no metrics.

        Raises:
            `ValueError`: If `split` is unknown, an argument is out of range, or a network can't be pickled.
            `ImportError`: If ManiSkill is not installed.
            `NoVulkanDeviceError`: If there is no Vulkan device.
        """
        check_data_split(split)
        num_episodes = self.num_evaluation_samples(split) if num_episodes is None else num_episodes
        seeds = episode_seeds(split, seed, num_episodes)

        # in parallel on a GPU
        if self.sim_backend == "physx_cuda" or (self.sim_backend == "auto" and torch.cuda.is_available()):
            in_parallel = run_in_parallel(self.env_id, networks, seeds, stop_at_success=self._stop_at_success)
            return [_score(of_network) for of_network in in_parallel]

        # one job per network and episode in worker processes
        jobs = [
            EpisodeJob(episode, network, stop_at_success=self._stop_at_success)
            for network in _for_jobs(networks, num_workers)
            for episode in seeds
        ]
        episodes = self.run(jobs, num_workers)
        return [_score(episodes[start : start + len(seeds)]) for start in range(0, len(episodes), len(seeds))]

    def demonstrate(
        self,
        episodes: Sequence[int],
        *,
        seed: int = 0,
        split: str = "train",
        noise: bool = True,
        num_workers: int | None = None,
    ) -> list[Episode]:
        """Records episodes in which the expert acts, with its observations and labels.

        Parameters:
            episodes (`Sequence[int]`): Indices of the episodes that `seed` chooses, from 0.
            seed (`int`, defaults to 0): Chooses the episodes of the split.
            split (`str`, defaults to `"train"`):
                Demonstrations come from `"train"`; other splits are for evaluating the expert.
            noise (`bool`, defaults to `True`): Add noise to the executed actions, not the labels; see [`ActionNoise`].
            num_workers (`int`, *optional*): Processes that run episodes.
        """
        seeds = episode_seeds(split, seed, max(episodes) + 1)
        return self.run([EpisodeJob(seeds[number], record=True, noise=noise) for number in episodes], num_workers)

    @torch.no_grad()
    def collect(
        self, networks: Sequence[Network], *, seed: int = 0, num_episodes: int = 1, num_workers: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seeds = iter(episode_seeds("dagger", seed, len(networks) * num_episodes))
        jobs = [
            EpisodeJob(next(seeds), network, record=True)
            for network in _for_jobs(networks, num_workers)
            for _ in range(num_episodes)
        ]
        return stack_episodes(self.run(jobs, num_workers))


def _for_jobs(networks: Sequence[Network], num_workers: int | None) -> Sequence[PortableNetwork | Network]:
    """Networks as worker processes receive them; the networks themselves if there are no worker processes."""
    return networks if num_workers == 0 else [PortableNetwork.from_network(network) for network in networks]


def _score(episodes: Sequence[Episode]) -> Score:
    measured: dict[str, list[float]] = {
        "success_at_end": [e.success_at_end for e in episodes if e.success_at_end is not None],
        "mean_return": [e.episode_return for e in episodes if e.episode_return is not None],
    }
    metrics = {name: float(np.mean(values)) for name, values in measured.items() if values}
    return Score(sum(episode.success_once for episode in episodes), len(episodes), metrics)


def stack_episodes(episodes: Sequence[Episode]) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations `[N, I]` and labels `[N, O]` of recorded episodes, concatenated."""
    observations = [episode.observations for episode in episodes if episode.observations is not None]
    labels = [episode.labels for episode in episodes if episode.labels is not None]
    return torch.from_numpy(np.concatenate(observations)), torch.from_numpy(np.concatenate(labels))


@register_task("pushcube")
class PushCubeTask(ManiSkillTask):
    """PushCube-v1: push a cube into a region 0.2 m ahead of it."""

    title = "PushCube"
    description = "A robot arm pushes a cube into a region 0.2 m ahead of it."
    observation_layout = (*_JOINTS, *_pose("tool centre point"), Features("goal position", 3, "m"), *_pose("cube"))
    in_features = 35
    env_id = "PushCube-v1"
    expert = staticmethod(experts.push_cube)


@register_task("pickcube")
class PickCubeTask(ManiSkillTask):
    """PickCube-v1: grasp a cube, move it to a point in the air, and hold it there."""

    title = "PickCube"
    description = "A robot arm grasps a cube, moves it to a point in the air, and holds it there."
    observation_layout = (
        *_JOINTS,
        Features("is grasped", 1, "0 or 1"),
        *_pose("tool centre point"),
        Features("goal position", 3, "m"),
        *_pose("cube"),
        Features("from tool centre point to cube", 3, "m"),
        Features("from cube to goal", 3, "m"),
    )
    in_features = 42
    env_id = "PickCube-v1"
    expert = staticmethod(experts.pick_cube)


@register_task("stackcube")
class StackCubeTask(ManiSkillTask):
    """StackCube-v1: place cube A on cube B and release it. Cubes have random positions and orientations.

    The architectures trained on have 2 or 3 hidden layers of 48 units or more, because a single layer needs many more
    units. These networks were trained directly on StackCubeEasy-v1, as recorded in
    https://github.com/nnit-diffusers/nnit-diffusers/blob/main/docs/measurements/stackcube-easy_direct.json:

    | hidden sizes | `[48]` | `[128]` | `[256]` | `[48, 48]` | `[64, 64]` |
    |---|---|---|---|---|---|
    | success | 0% | 32% | 100% | 88% | 98% |
    """

    title = "StackCube"
    description = "A robot arm places cube A on cube B and releases it."
    observation_layout = (
        *_JOINTS,
        *_pose("tool centre point"),
        *_pose("cube A"),
        *_pose("cube B"),
        Features("from tool centre point to cube A", 3, "m"),
        Features("from tool centre point to cube B", 3, "m"),
        Features("from cube A to cube B", 3, "m"),
    )
    in_features = 48
    min_width = 48
    min_depth = 2
    env_id = "StackCube-v1"
    expert = staticmethod(experts.stack_cube)


@register_task("stackcube-easy")
class StackCubeEasyTask(StackCubeTask):
    """StackCubeEasy-v1: stacking with cubes that lie near each other and are not turned.

    The paper does not describe its task of this name; this definition is ours, see `stack_cube_easy.py`.
    """

    title = "StackCubeEasy"
    description = (
        "A robot arm places cube A on cube B and releases it. StackCubeEasy is our definition, because the paper does "
        "not describe its task of this name. It is StackCube-v1 with robot `panda` and the same success test. Both "
        "cubes start within 0.1 m of the centre in x and y, at least 0.08 m apart, and not rotated. Its results are "
        "not comparable with the paper's."
    )
    env_id = "StackCubeEasy-v1"
    expert = staticmethod(experts.stack_cube_easy)
