"""Three recorded episodes, and files of them."""

import json

import h5py
import numpy as np

from nnit_diffusers.tasks.metadata import Features
from nnit_diffusers.tasks.simulation.contract import Contract


BOUNDS = ((-1.0, -1.0), (1.0, 1.0))
CONTRACT = Contract("Reach-v1", (Features("state", 5),), 2, *BOUNDS, False, 100, True, "pd_joint_pos")
LENGTHS = (4, 3, 6)


def steps(length, seed=0):
    """Observations `[T + 1, 5]` and actions `[T, 2]`."""
    random = np.random.default_rng(100 * seed + length)
    return random.normal(size=(length + 1, 5)).astype("f4"), random.uniform(-1, 1, (length, 2)).astype("f4")


EPISODES = [steps(length) for length in LENGTHS]


def check_is_as_recorded(recording, kept=(0, 1, 2)):
    assert recording.lengths == [LENGTHS[number] for number in kept]
    np.testing.assert_array_equal(recording.observations, np.concatenate([EPISODES[n][0][:-1] for n in kept]))
    np.testing.assert_array_equal(recording.actions, np.concatenate([EPISODES[n][1] for n in kept]))


def maniskill_file(path, success=(True, False, True), obs_mode="state", write_obs=None):
    """As `RecordEpisode` writes it."""
    with h5py.File(path, "w") as file:
        for number, (observations, actions) in enumerate(EPISODES):
            group = file.create_group(f"traj_{number}", track_order=True)
            if write_obs is None:
                group["obs"] = observations
            else:
                write_obs(group, observations)
            group["actions"] = actions
            if success is not None:
                # it succeeds at one step, and not at the last one
                group["success"] = np.arange(len(actions)) == (1 if success[number] else -1)
    kwargs = {"obs_mode": obs_mode, "control_mode": "pd_joint_pos", "robot_uids": "panda"}
    description = {
        "env_info": {"env_id": "Reach-v1", "env_kwargs": kwargs, "max_episode_steps": 100},
        "episodes": [{"episode_id": number, "episode_seed": 7, "control_mode": "pd_joint_pos"} for number in range(3)],
    }
    path.with_suffix(".json").write_text(json.dumps(description))
    return path


def edit(change):
    def edited(path):
        with h5py.File(path, "a") as file:
            change(file)

    return edited


def plain_arrays(names=("observations", "actions"), ends=None):
    observations = np.concatenate([episode[0][:-1] for episode in EPISODES])
    return dict(zip(names, (observations, np.concatenate([episode[1] for episode in EPISODES])))) | (ends or {})


ENDS = [
    {"episode_ends": np.cumsum(LENGTHS)},
    {"episode_index": np.repeat([5, 6, 9], LENGTHS)},
    {"dones": np.isin(np.arange(13), (3, 6, 12))},
    {"dones": np.isin(np.arange(13), (3, 6))},
]
