"""State observations of a recording of ManiSkill that has none: ManiSkill's own tool replays its states.

The tool takes every recorded action from the recorded state, so contacts, which are no part of a state, are there as
well. It runs in a process of its own, because a simulator stays in memory, on a copy that holds nothing else.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....loading.limits import shown
from ....writing import write_json
from .hdf5 import Hdf5Reader, opened_hdf5


_REPLAY = """
import sys
from pathlib import Path
try:
    from nnit_diffusers.tasks.maniskill.environments import import_simulator
    import_simulator()
    from mani_skill.trajectory.replay_trajectory import Args, main
    main(Args(sys.argv[1], "physx_cpu", "state", save_traj=True, use_env_states=True, allow_failure=True))
except Exception as error:
    Path(sys.argv[2]).write_text(f"{type(error).__name__}: {error}")
    sys.exit(1)
"""
# The robot and the task; cameras, videos and the number of environments are not needed.
_LEFT_OUT = {
    "enable_shadow",
    "human_render_camera_configs",
    "num_envs",
    "obs_mode",
    "parallel_in_single_scene",
    "render_backend",
    "render_mode",
    "sensor_configs",
    "shader_dir",
    "sim_backend",
    "viewer_camera_configs",
}


def reconstruct_observations(
    reader: Hdf5Reader,
    trajectories: Sequence[Any],
    actions: Sequence[np.ndarray],
    episodes: Sequence[Mapping[str, Any]],
    env_id: str,
    env_kwargs: Mapping[str, Any],
) -> list[np.ndarray]:
    """Observations `[T + 1, I]` of every trajectory.

    Parameters:
        reader ([`Hdf5Reader`]): The recording.
        trajectories (`Sequence[Any]`): Its groups, with `env_states`.
        actions (`Sequence[np.ndarray]`): Actions `[T, O]` of every trajectory.
        episodes (`Sequence[Mapping[str, Any]]`): What the `.json` file has on every trajectory.
        env_id (`str`): Recorded environment.
        env_kwargs (`Mapping[str, Any]`): Its arguments.

    Raises:
        `ValueError`: If there are no states, or they can't be replayed.
        `OSError`, `ImportError`: If a simulator can't run here.
    """
    import torch

    # names with a colon would import a module
    if not re.fullmatch(r"[\w./-]+", env_id):
        raise ValueError(f"{str(reader.path)!r} must name an environment of ManiSkill, but names {shown(env_id)}.")
    kwargs = {key: value for key, value in env_kwargs.items() if key not in _LEFT_OUT}
    kwargs["render_backend"] = "gpu" if torch.cuda.is_available() else "cpu"
    listed = [
        {
            "episode_id": number,
            "episode_seed": seed,
            "reset_kwargs": {"seed": seed},
            "control_mode": kwargs.get("control_mode"),
            "elapsed_steps": len(actions[number]),
        }
        for number, seed in enumerate(_seed(episode) for episode in episodes)
    ]
    with tempfile.TemporaryDirectory(prefix="nnit-replay-") as name:
        folder = Path(name)
        copy = folder / "recording.h5"
        _copy_states(reader, trajectories, actions, copy)
        env_info = {"env_id": env_id, "env_kwargs": kwargs, "max_episode_steps": None}
        write_json(copy.with_suffix(".json"), {"env_info": env_info, "episodes": listed})
        _replay(reader.path, copy)
        (replayed,) = [path for path in folder.glob("recording.*.h5") if path != copy]
        with opened_hdf5(replayed) as result:
            found = [result.child(result.root, f"traj_{number}") for number in range(len(trajectories))]
            if any(each is None for each in found):
                raise ValueError(f"ManiSkill could not replay every episode of {str(reader.path)!r}.")
            return [result.read(result.child(each, "obs")) for each in found]


def _seed(episode: Mapping[str, Any]) -> int:
    """Seed of an episode, which chooses its objects; recorded in one of several ways."""
    reset = episode.get("reset_kwargs")
    seed = reset.get("seed") if isinstance(reset, dict) else None
    seed = episode.get("episode_seed") if seed is None else seed
    seed = seed[0] if isinstance(seed, list) and seed else seed
    return seed if type(seed) is int and 0 <= seed < 2**32 else 0


def _copy_states(reader: Hdf5Reader, trajectories: Sequence[Any], actions: Sequence[np.ndarray], path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for number, (trajectory, of_trajectory) in enumerate(zip(trajectories, actions)):
            states = reader.child(trajectory, "env_states")
            if states is None or hasattr(states, "dtype"):
                raise ValueError(
                    f"{str(reader.path)!r} must have state observations, or `env_states` to reconstruct them from, "
                    f"but {trajectory.name.lstrip('/')!r} has neither."
                )
            group = file.create_group(f"traj_{number}", track_order=True)
            group["actions"] = of_trajectory
            # actors and articulations by name
            for kind in states:
                copied = group.create_group(f"env_states/{kind}", track_order=True)
                for each in (members := reader.child(states, kind)):
                    copied[each] = reader.read(reader.child(members, each))


def _replay(source: Path, copy: Path) -> None:
    """Runs ManiSkill's tool, which writes its result beside `copy`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    failure = copy.with_name("failure.txt")
    # without an input, because ManiSkill asks there whether to download what a task lacks
    done = subprocess.run(
        [sys.executable, "-c", _REPLAY, str(copy), str(failure)],
        cwd=copy.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if done.returncode:
        reason = " ".join(failure.read_text().split())[:300] if failure.exists() else f"exit code {done.returncode}"
        raise ValueError(f"ManiSkill could not replay {str(source)!r} to reconstruct observations: {reason}")
