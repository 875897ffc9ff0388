"""Videos of rollouts, recorded with ManiSkill's own recorder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...networks import Network
from ...writing import replacing_file
from ..simulation.portable_networks import network_policy
from ..simulation.rollouts import Episode, run_episodes
from .environments import ManiSkillEnvironment, make_environment
from .task import ManiSkillTask


_STEPS_PER_SECOND = 20


def record_video(
    network: Network | None, task: ManiSkillTask, path: str | Path, seeds: Sequence[int]
) -> list[Episode]:
    """Runs a network in a sequence of episodes and records one video of them, at real-time speed.

    Parameters:
        network (`Network` or `None`): Network that takes raw observations; with `None` the teacher acts.
        task (`ManiSkillTask`): Task of the network.
        path (`str` or `Path`): The mp4 file to write.
        seeds (`Sequence[int]`): Seeds of the episodes; see [`episode_seeds`].

    Returns:
        `list[Episode]`: The results of the episodes.

    Raises:
        `ValueError`: If `path` does not end in .mp4.
    """
    path = Path(path)
    if path.suffix != ".mp4":
        raise ValueError(f"`path` must end in .mp4, but received {str(path)!r}.")
    environment = make_environment(task.env_id, render_mode="rgb_array", **task.environment_spec.env_kwargs)
    from mani_skill.utils.wrappers import RecordEpisode

    # the policy; without one the teacher acts
    policy = None if network is None else network_policy(network)

    # record one video; the recorder names its files itself
    with replacing_file(path) as temporary:
        folder = temporary.parent
        # `save_on_reset=False`: one video for all episodes
        recorder = RecordEpisode(
            environment, str(folder), save_trajectory=False, save_on_reset=False, video_fps=_STEPS_PER_SECOND
        )
        teacher = task.teacher if policy is None else None
        filmed = ManiSkillEnvironment(recorder)
        episodes = [run_episodes(filmed, [seed], policy, teacher)[0] for seed in seeds]
        recorder.flush_video(name="rollout")
        recorder.close()
        (folder / "rollout.mp4").rename(temporary)
    return episodes
