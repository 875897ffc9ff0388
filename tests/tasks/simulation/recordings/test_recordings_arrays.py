"""Plain arrays are read in episodes; a file that is no pairs of arrays is one sentence."""

import numpy as np
import pytest
from recorded_episodes import ENDS, check_is_as_recorded, plain_arrays
from safetensors.numpy import save_file

from nnit_diffusers.tasks.simulation.recordings import read_recording


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("names", [("observations", "actions"), ("obs", "action"), ("states", "acts")])
def test_plain_arrays_are_read_in_episodes(tmp_path, suffix, ends, names):
    path = tmp_path / f"recording{suffix}"
    arrays = plain_arrays(names, ends)
    np.savez_compressed(path, **arrays) if suffix == ".npz" else save_file(arrays, path)
    check_is_as_recorded(read_recording(path))


def test_plain_arrays_may_be_one_episode(tmp_path):
    np.savez(tmp_path / "recording.npz", **plain_arrays())
    assert read_recording(tmp_path / "recording.npz").lengths == [13]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((5, 2))}, r"an observation for every action, but has shapes \[13, 5\] and \[5, 2\]"),
        ({"actions": np.array([None] * 13)}, "must hold arrays of numbers: 'actions' is of type object"),
        (
            {"obs": np.zeros((13, 5))},
            r"one array of \['observations', 'obs', 'states'\], but has \['observations', 'ob",
        ),
        ({"episode_ends": np.array([4, 4, 13])}, "`episode_ends` of .* must divide 13 steps into episodes"),
        ({"episode_ends": np.array([4, 20])}, "`episode_ends` of .* must divide 13 steps"),
        ({"episode_index": np.zeros(5)}, "`episode_index` of .* must divide 13 steps into episodes.*5 values"),
        ({"observations": np.zeros((13, 5, 2))}, r"observations \[T, I\].*\[13, 5, 2\]"),
    ],
)
def test_arrays_that_are_no_pairs_are_refused(tmp_path, change, message):
    path = tmp_path / "recording.npz"
    np.savez(path, **(plain_arrays() | change))
    with pytest.raises(ValueError, match=message):
        read_recording(path)


def test_a_header_that_claims_too_much_is_refused_before_memory_is_allocated(tmp_path):
    path = tmp_path / "recording.npz"
    np.savez(path, **plain_arrays())
    content = path.read_bytes()
    assert content.count(b"(13, 5), }" + b" " * 9) == 1
    path.write_bytes(content.replace(b"(13, 5), }" + b" " * 9, b"(1000000000, 5), } ", 1))
    with pytest.raises((ValueError, OSError), match=r"recording.npz"):
        read_recording(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_truncated_or_missing_file_is_named(tmp_path, suffix):
    path = tmp_path / f"recording{suffix}"
    with pytest.raises(OSError, match=f"There is no file named recording{suffix}"):
        read_recording(path)
    np.savez(path, **plain_arrays()) if suffix == ".npz" else save_file(plain_arrays(), path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OSError, match=f"recording{suffix}' is truncated"):
        read_recording(path)


@pytest.mark.parametrize("name", ["recording.csv", "folder"])
def test_another_format_is_refused_with_those_that_are_read(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.touch()
    with pytest.raises(ValueError, match=r"must be a `.h5` file of ManiSkill, a folder or Hub repository of LeRobot"):
        read_recording(path)
    with pytest.raises(FileNotFoundError, match="There is no file or folder 'missing'"):
        read_recording("missing")
