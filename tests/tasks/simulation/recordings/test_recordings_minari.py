"""Data sets of Minari are read, spaces flattened as Gymnasium does."""

import json

import h5py
import numpy as np
import pytest
from recorded_episodes import EPISODES, check_is_as_recorded

from nnit_diffusers.tasks.simulation.recordings import read_recording


def minari_folder(folder, write, data_format="hdf5", num_infos=None):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number, (observations, actions) in enumerate(EPISODES):
            group = file.create_group(f"episode_{number}")
            write(group, observations, actions)
            if num_infos is not None:
                group["infos/success"] = np.arange(len(observations)) < num_infos[number]
    metadata = {"dataset_id": "reach/expert-v0", "data_format": data_format, "total_episodes": 3}
    (folder / "data" / "metadata.json").write_text(json.dumps(metadata))
    return folder


def write_arrays(group, observations, actions):
    group["observations"], group["actions"] = observations, actions


def write_spaces(group, observations, actions):
    """A dictionary whose names are not in the order of the alphabet, and which holds a tuple."""
    group["observations/goal"] = observations[:, 2:]
    group["observations/achieved/_index_1"], group["observations/achieved/_index_0"] = (
        observations[:, 1],
        observations[:, 0],
    )
    group["actions"] = actions


@pytest.mark.parametrize("write", [write_arrays, write_spaces])
def test_a_data_set_of_minari_is_read(tmp_path, write, monkeypatch):
    minari_folder(tmp_path / "reach" / "expert-v0", write)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for path in ("minari:reach/expert-v0", tmp_path / "reach" / "expert-v0"):
        recording = read_recording(path)
        check_is_as_recorded(recording)
    assert (recording.kind, recording.details) == ("minari", {"dataset_id": "reach/expert-v0"})
    for name in ("missing-v0", "../reach"):
        with pytest.raises(ValueError, match="Minari has no data set"):
            read_recording(f"minari:{name}")


def test_episodes_of_minari_are_in_the_order_of_their_numbers_and_may_have_failed(tmp_path):
    folder = minari_folder(tmp_path, write_arrays, num_infos=(0, 1, 2))
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file.move("episode_1", "episode_10")
    recording = read_recording(folder)
    assert [episode.name for episode in recording.episodes] == ["episode_2", "episode_10"]


def test_a_data_set_of_minari_in_several_files_or_as_arrow_is_refused(tmp_path):
    folder = minari_folder(tmp_path, write_arrays, data_format="arrow")
    with pytest.raises(ValueError, match="must be stored as HDF5, but is stored as 'arrow'"):
        read_recording(folder)
    minari_folder(tmp_path, write_arrays)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_3"] = h5py.ExternalLink("additional_data_0.hdf5", "episode_3")
    with pytest.raises(ValueError, match="`/episode_3` is a link, which is not followed"):
        read_recording(folder)
