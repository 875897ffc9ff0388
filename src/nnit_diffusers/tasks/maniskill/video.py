"""Videos of rollouts, recorded with ManiSkill's own recorder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...networks import MLP, stack_state_dicts
from .environments import make_environment
from .rollouts import Episode, network_policy, run_episodes
from .tasks import ManiSkillTask


_STEPS_PER_SECOND = 20


def record_video(network: MLP | None, task: ManiSkillTask, path: str | Path, seeds: Sequence[int]) -> list[Episode]:
    """Runs a network in a sequence of episodes and records one video of them, at real-time speed.

    Parameters:
        network (`MLP` or `None`): Network that takes raw observations; with `None` the expert acts.
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
    environment = make_environment(task.env_id, render_mode="rgb_array")
    from mani_skill.utils.wrappers import RecordEpisode

    # the policy; without one the expert acts
    policy = None
    if network is not None:
        stacked = stack_state_dicts([network.state_dict()])
        policy = network_policy(
            {key: tensor.detach().float().cpu().numpy() for key, tensor in stacked.items()},
            network.architecture.activation,
        )

    # record into a temporary folder, then move the file into place
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # `save_on_reset=False`: one video for all episodes
        recorder = RecordEpisode(
            environment, folder, save_trajectory=False, save_on_reset=False, video_fps=_STEPS_PER_SECOND
        )
        expert = type(task).expert if policy is None else None
        episodes = [run_episodes(recorder, [seed], policy, expert)[0] for seed in seeds]
        recorder.flush_video(name="rollout")
        recorder.close()
        os.replace(Path(folder) / "rollout.mp4", path)
    return episodes
