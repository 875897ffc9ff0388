"""Recordings of ManiSkill are read as they were recorded, or as its own tool reconstructs them."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from recorded_episodes import check_is_as_recorded, edit, maniskill_file

from nnit_diffusers.tasks.simulation.recordings import check_recording, read_recording


def test_state_observations_of_maniskill_are_read_without_the_last(tmp_path):
    recording = read_recording(maniskill_file(tmp_path / "trajectory.h5"), only_success=False)
    check_is_as_recorded(recording)
    assert [episode.success for episode in recording.episodes] == [True, False, True]
    assert (recording.kind, recording.num_dropped) == ("maniskill", 0)


def test_failed_episodes_are_left_out_if_one_succeeded(tmp_path):
    recording = read_recording(maniskill_file(tmp_path / "trajectory.h5"))
    check_is_as_recorded(recording, kept=(0, 2))
    assert recording.num_dropped == 1
    for success in ((False, False, False), None):
        recording = read_recording(maniskill_file(tmp_path / "trajectory.h5", success))
        check_is_as_recorded(recording)
        assert recording.num_dropped == 0


def test_success_may_be_in_the_json_file_only(tmp_path):
    path = maniskill_file(tmp_path / "trajectory.h5", success=None)
    description = json.loads(path.with_suffix(".json").read_text())
    for episode, success in zip(description["episodes"], (False, True, True)):
        episode["success"] = success
    path.with_suffix(".json").write_text(json.dumps(description))
    check_is_as_recorded(read_recording(path), kept=(1, 2))


def test_a_state_dict_is_flattened_in_the_order_it_was_written(tmp_path):
    def write(group, observations):
        obs = group.create_group("obs", track_order=True)
        agent = obs.create_group("agent", track_order=True)
        agent["qvel"], agent["qpos"] = observations[:, :2], observations[:, 2:3]
        extra = obs.create_group("extra", track_order=True)
        extra["tcp"], extra["is_grasped"] = observations[:, 3:4], observations[:, 4]

    path = maniskill_file(tmp_path / "trajectory.h5", obs_mode="state_dict", write_obs=write)
    check_is_as_recorded(read_recording(path, only_success=False))


@pytest.mark.parametrize(
    ("argument", "value", "recorded"),
    [
        ("env_id", "Push-v1", "Reach-v1"),
        ("control_mode", "pd_ee_pose", "pd_joint_pos"),
        ("robot_uids", "xarm", "panda"),
    ],
)
def test_a_recording_of_something_else_is_refused_by_both_names(tmp_path, argument, value, recorded):
    path = maniskill_file(tmp_path / "trajectory.h5")
    read_recording(path, **{argument: recorded})
    with pytest.raises(ValueError, match=f"{value!r} of the task, but was recorded with {recorded!r}"):
        read_recording(path, **{argument: value})


def test_neither_observations_nor_states_is_refused(tmp_path):
    path = maniskill_file(tmp_path / "trajectory.h5", write_obs=lambda group, observations: None)
    with pytest.raises(ValueError, match="`env_states` to reconstruct them from, but 'traj_0' has neither"):
        read_recording(path)


def test_an_environment_with_a_colon_is_never_imported(tmp_path):
    path = maniskill_file(tmp_path / "trajectory.h5", write_obs=lambda group, observations: None)
    text = path.with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(text.replace("Reach-v1", "antigravity:Reach-v1"))
    with pytest.raises(ValueError, match="must name an environment of ManiSkill, but names 'antigravity:Reach-v1'"):
        read_recording(path)


def without_json(path):
    path.with_suffix(".json").unlink()


def with_foreign_json(path):
    path.with_suffix(".json").write_text('{"episodes": 3}')


def with_an_episode_too_many(path):
    description = json.loads(path.with_suffix(".json").read_text())
    description["episodes"].append({"episode_id": 9})
    path.with_suffix(".json").write_text(json.dumps(description))


def truncated(path):
    path.write_bytes(path.read_bytes()[:2000])


def without_actions(file):
    del file["traj_1/actions"]


def with_one_action_less(file):
    actions = file["traj_1/actions"][:-1]
    del file["traj_1/actions"]
    file["traj_1/actions"] = actions


def with_text(file):
    del file["traj_1/actions"]
    file["traj_1/actions"] = np.array([b"left", b"right"])


def with_a_huge_array(file):
    del file["traj_1/actions"]
    file.create_dataset("traj_1/actions", shape=(2**40, 2), dtype="f4", chunks=(1024, 2))


def with_an_external_link(file):
    del file["traj_1/actions"]
    file["traj_1/actions"] = h5py.ExternalLink("/tmp/other.h5", "/actions")


def with_external_data(file):
    del file["traj_1/actions"]
    file.create_dataset("traj_1/actions", shape=(3, 2), dtype="f4", external=[("/etc/hostname", 0, 24)])


def with_virtual_data(file):
    del file["traj_1/actions"]
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "actions", (3, 2))
    file.create_virtual_dataset("traj_1/actions", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_json, "There is no file named trajectory.json"),
        (with_foreign_json, "trajectory.json' must be ManiSkill's, with `env_info`"),
        (with_an_episode_too_many, "but lacks 'traj_9'"),
        (truncated, "trajectory.h5' is truncated, altered or no HDF5"),
        (edit(without_actions), "must have an array `actions` in '/traj_1'"),
        (edit(with_one_action_less), "one observation more than actions, but 'traj_1' has 4 and 2"),
        (edit(with_text), "must hold numbers, but `/traj_1/actions` does not"),
        (edit(with_a_huge_array), "numbers in .*trajectory.h5' may be 536,870,912 at most"),
        (edit(with_an_external_link), "`/traj_1/actions` is a link, which is not followed"),
        (edit(with_external_data), "that of `/traj_1/actions` is in another file"),
        (edit(with_virtual_data), "that of `/traj_1/actions` is in another file"),
    ],
)
def test_a_damaged_or_foreign_file_of_maniskill_is_one_sentence(tmp_path, change, message):
    path = maniskill_file(tmp_path / "trajectory.h5")
    change(path)
    with pytest.raises((ValueError, OSError), match=message) as refusal:
        read_recording(path)
    assert "\n" not in str(refusal.value)


RECORDER = """
import sys
import numpy as np
import gymnasium
import mani_skill.envs
from mani_skill.utils.wrappers import RecordEpisode
for mode in ("state", "state_dict", "none"):
    env = gymnasium.make("PickCube-v1", obs_mode=mode, control_mode="pd_joint_delta_pos", render_backend="cpu")
    env = RecordEpisode(env, sys.argv[1], trajectory_name=mode, save_video=False)
    random = np.random.default_rng(0)
    for seed in (3, 4):
        env.reset(seed=seed)
        for _ in range(8):
            env.step(random.uniform(-1, 1, 8).astype("f4"))
    env.close()
"""


@pytest.fixture(scope="module")
def recorded_pick_cube(tmp_path_factory):
    """Two episodes of random actions, recorded by ManiSkill in several modes of observations."""
    folder = tmp_path_factory.mktemp("pick_cube")
    subprocess.run([sys.executable, "-c", RECORDER, str(folder)], check=True, capture_output=True)
    return {mode: folder / f"{mode}.h5" for mode in ("state", "state_dict", "none")}


def test_observations_of_every_mode_are_the_state(recorded_pick_cube):
    options = {"env_id": "PickCube-v1", "control_mode": "pd_joint_delta_pos", "only_success": False}
    recorded = read_recording(recorded_pick_cube["state"], **options)
    check_recording(recorded, 42, 8, [-1] * 8, [1] * 8)
    for mode, tolerance in (("state_dict", 0), ("none", 1e-4)):
        found = read_recording(recorded_pick_cube[mode], **options)
        assert found.lengths == recorded.lengths == [8, 8]
        np.testing.assert_array_equal(found.actions, recorded.actions)
        np.testing.assert_allclose(found.observations, recorded.observations, atol=tolerance)
    assert len(np.unique(recorded.observations, axis=0)) == 16


def test_what_maniskill_cannot_replay_is_one_sentence(recorded_pick_cube, tmp_path):
    path = tmp_path / "trajectory.h5"
    path.write_bytes(recorded_pick_cube["none"].read_bytes())
    text = recorded_pick_cube["none"].with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(text.replace('"PickCube-v1"', '"NoSuchTask-v1"'))
    with pytest.raises(ValueError, match="ManiSkill could not replay .*NoSuchTask") as refusal:
        read_recording(path)
    assert "\n" not in str(refusal.value)
