"""Recordings of ManiSkill: an `.h5` file of trajectories, with a `.json` file of the same name beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....loading.limits import shown
from ....loading.local import read_json_object
from .base import Episode, Recording, recording_of
from .hdf5 import Hdf5Reader, opened_hdf5
from .replay import reconstruct_observations


def read_maniskill(
    path: Path, env_id: str | None = None, control_mode: str | None = None, robot_uids: str | None = None
) -> Recording:
    """Reads a recording of ManiSkill.

    Observations of the mode `state` are read, and those of `state_dict` are flattened in ManiSkill's order. For other
    modes, ManiSkill reconstructs them from the states of its environment, which takes about as long as the recording.

    Parameters:
        path (`Path`): The `.h5` file.
        env_id, control_mode, robot_uids (`str`, *optional*): What has to be recorded, by default anything.

    Raises:
        `OSError`: If a file is missing or damaged.
        `ValueError`: If another environment, control mode or robot was recorded, or there are no observations.
        `ImportError`: If h5py is not installed, or ManiSkill where it has to reconstruct observations.
    """
    description = read_json_object(path.with_suffix(".json"))
    env_info, episodes = description.get("env_info"), description.get("episodes")
    if not isinstance(env_info, dict) or not isinstance(episodes, list) or not isinstance(env_info.get("env_id"), str):
        raise _foreign(path, "`env_info` with an `env_id`, and `episodes`")
    kwargs = env_info.get("env_kwargs")
    kwargs = dict(kwargs) if isinstance(kwargs, dict) else {}
    for episode in episodes:
        if not isinstance(episode, dict) or type(episode.get("episode_id")) is not int:
            raise _foreign(path, "`episodes` with an `episode_id`")

    # compare what was recorded with the task
    modes = {mode for each in episodes if isinstance(mode := each.get("control_mode"), str)}
    modes = modes or {mode for mode in [kwargs.get("control_mode")] if isinstance(mode, str)}
    if len(modes) > 1:
        raise ValueError(f"{str(path)!r} must have one control mode, but has {sorted(modes)}.")
    recorded_mode = next(iter(modes), None)
    for what, recorded, wanted in (
        ("environment", env_info["env_id"], env_id),
        ("control mode", recorded_mode, control_mode),
        ("robot", kwargs.get("robot_uids"), robot_uids),
    ):
        if wanted is not None and recorded not in (None, wanted):
            raise ValueError(
                f"{str(path)!r} must be recorded with the {what} {wanted!r} of the task, but was recorded with "
                f"{shown(recorded)}."
            )

    with opened_hdf5(path) as reader:
        trajectories = [_trajectory(reader, f"traj_{each['episode_id']}") for each in episodes]
        actions = [_required(reader, trajectory, "actions") for trajectory in trajectories]
        if all(_has_state(reader, trajectory, kwargs.get("obs_mode")) for trajectory in trajectories):
            observations = [reader.flattened(reader.child(each, "obs")) for each in trajectories]
        else:
            options = {**kwargs, "control_mode": recorded_mode} if recorded_mode else kwargs
            observations = reconstruct_observations(
                reader, trajectories, actions, episodes, env_info["env_id"], options
            )
        found = [
            Episode(
                trajectory.name.lstrip("/"),
                _without_last(path, trajectory.name, o, a),
                a,
                _success(reader, trajectory, each),
            )
            for trajectory, o, a, each in zip(trajectories, observations, actions, episodes)
        ]
    files = (path, path.with_suffix(".json"))
    return recording_of(path, "maniskill", files, found, env_id=env_info["env_id"], control_mode=recorded_mode)


def _trajectory(reader: Hdf5Reader, name: str) -> Any:
    found = reader.child(reader.root, name)
    if found is None or hasattr(found, "dtype"):
        raise ValueError(f"{str(reader.path)!r} must have the episodes of its `.json` file, but lacks {name!r}.")
    return found


def _required(reader: Hdf5Reader, trajectory: Any, name: str) -> np.ndarray:
    found = reader.child(trajectory, name)
    if found is None or not hasattr(found, "dtype"):
        raise ValueError(f"{str(reader.path)!r} must have an array `{name}` in {trajectory.name!r}, but has none.")
    return reader.read(found)


def _has_state(reader: Hdf5Reader, trajectory: Any, obs_mode: Any) -> bool:
    """Whether observations are the state: an array, or groups of the mode `state_dict`."""
    found = reader.child(trajectory, "obs")
    if hasattr(found, "dtype"):
        return found.ndim == 2
    return found is not None and obs_mode == "state_dict" and len(found) > 0


def _without_last(path: Path, name: str, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Observations without the one after the last action."""
    if len(observations) != len(actions) + 1:
        raise ValueError(
            f"{str(path)!r} must have one observation more than actions, but {name.lstrip('/')!r} has "
            f"{len(observations)} and {len(actions)}."
        )
    return observations[:-1]


def _success(reader: Hdf5Reader, trajectory: Any, episode: dict[str, Any]) -> bool | None:
    """Whether an episode succeeded at any step, as evaluations count it."""
    found = reader.child(trajectory, "success")
    if hasattr(found, "dtype"):
        return bool(reader.read(found).any())
    return episode["success"] if isinstance(episode.get("success"), bool) else None


def _foreign(path: Path, wanted: str) -> ValueError:
    return ValueError(f"{str(path.with_suffix('.json'))!r} must be ManiSkill's, with {wanted}, but is not.")
