"""A converted recording is what an imitation task trains on, and is written once."""

import json
from pathlib import Path

import numpy as np
import pytest
from recorded_episodes import CONTRACT, check_is_as_recorded, edit, maniskill_file, plain_arrays
from safetensors.numpy import load_file

from nnit_diffusers.tasks.imitation import read_demonstrations
from nnit_diffusers.tasks.simulation.contract import Contract
from nnit_diffusers.tasks.simulation.recordings import convert_recording, read_recording


def test_a_converted_recording_is_read_as_demonstrations_and_as_a_recording(tmp_path):
    source, folder = maniskill_file(tmp_path / "trajectory.h5"), tmp_path / "demonstrations"
    convert_recording(source, folder, CONTRACT)
    (path,) = folder.glob("demonstrations-*.safetensors")
    observations, actions = read_demonstrations(path)
    recording = read_recording(source)
    assert np.array_equal(observations, recording.observations) and np.array_equal(actions, recording.actions)
    assert np.array_equal(load_file(path)["episode_index"], np.repeat([0, 1], [4, 6]))
    check_is_as_recorded(read_recording(folder), kept=(0, 2))

    collection = json.loads((folder / "collection.json").read_text())["collection"]
    assert (collection["source"], collection["kind"], collection["env_id"]) == (
        "trajectory.h5",
        "maniskill",
        "Reach-v1",
    )
    assert (collection["num_episodes"], collection["num_episodes_dropped"], collection["num_steps"]) == (2, 1, 10)
    assert [len(digest) for digest in collection["sha256"]] == [64, 64]


def test_the_same_conversion_does_nothing_or_continues(tmp_path):
    source, folder = maniskill_file(tmp_path / "trajectory.h5"), tmp_path / "demonstrations"
    convert_recording(source, folder, CONTRACT)
    (path,) = folder.glob("demonstrations-*.safetensors")
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    convert_recording(source, folder, CONTRACT)
    assert path.stat().st_mtime_ns == written
    # interrupted before the last file
    path.unlink()
    record = json.loads((folder / "collection.json").read_text())
    del record["files"]
    (folder / "collection.json").write_text(json.dumps(record))
    convert_recording(source, folder, CONTRACT)
    assert path.read_bytes() == content
    # moved
    moved = tmp_path / "moved"
    moved.mkdir()
    for suffix in (".h5", ".json"):
        source.with_suffix(suffix).rename(moved / f"trajectory{suffix}")
    convert_recording(moved / "trajectory.h5", folder, CONTRACT)
    assert path.read_bytes() == content


def test_another_recording_in_that_folder_is_refused_and_the_files_stay(tmp_path):
    source, folder = maniskill_file(tmp_path / "trajectory.h5"), tmp_path / "demonstrations"
    convert_recording(source, folder, CONTRACT)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="`output_dir` must be a new folder"):
        convert_recording(source, folder, CONTRACT, only_success=False)
    edit(lambda file: file["traj_0/actions"].write_direct(np.zeros((4, 2), "f4")))(source)
    with pytest.raises(ValueError, match="`output_dir` must be a new folder"):
        convert_recording(source, folder, CONTRACT)
    assert content == {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "collection.json").unlink()
    with pytest.raises(ValueError, match="holds the demonstrations of an unknown collection"):
        convert_recording(source, folder, CONTRACT)


def test_a_recording_that_does_not_fit_leaves_no_folder(tmp_path):
    np.savez(tmp_path / "recording.npz", **(plain_arrays() | {"actions": np.full((13, 2), 3.0)}))
    with pytest.raises(ValueError, match="has 3 in row 0"):
        convert_recording(tmp_path / "recording.npz", tmp_path / "demonstrations", CONTRACT)
    with pytest.raises(ValueError, match="'pd_ee_pose' of the task"):
        other = Contract(**{**vars(CONTRACT), "control_mode": "pd_ee_pose"})
        convert_recording(maniskill_file(tmp_path / "trajectory.h5"), tmp_path / "demonstrations", other)
    assert not Path(tmp_path / "demonstrations").exists()
