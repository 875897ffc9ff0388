"""A recording with bytes changed or missing is read, or refused in one line that names it; nothing else happens."""

import random

import numpy as np
import pytest
from recorded_episodes import maniskill_file, plain_arrays
from safetensors.numpy import save_file
from test_recordings_lerobot import lerobot_folder
from test_recordings_minari import minari_folder, write_arrays

from nnit_diffusers.tasks.simulation.recordings import read_recording


def files(folder):
    """What is read, and the file of it that is damaged."""
    lerobot = lerobot_folder(folder / "lerobot", "v3.0")
    minari = minari_folder(folder / "minari", write_arrays)
    np.savez_compressed(folder / "compressed.npz", **plain_arrays())
    save_file(plain_arrays(), folder / "recording.safetensors")
    maniskill = maniskill_file(folder / "trajectory.h5")
    return {
        "h5": (maniskill, maniskill),
        "json": (maniskill, maniskill.with_suffix(".json")),
        "parquet": (lerobot, lerobot / "data" / "chunk-000" / "file-000.parquet"),
        "info": (lerobot, lerobot / "meta" / "info.json"),
        "minari": (minari, minari / "data" / "main_data.hdf5"),
        "npz": (folder / "compressed.npz", folder / "compressed.npz"),
        "safetensors": (folder / "recording.safetensors", folder / "recording.safetensors"),
    }


@pytest.mark.parametrize("kind", ["h5", "json", "parquet", "info", "minari", "npz", "safetensors"])
def test_a_damaged_recording_is_read_or_refused_in_one_line(tmp_path, kind):
    source, path = files(tmp_path)[kind]
    content, generator, num_refused = path.read_bytes(), random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(content[: generator.randrange(1, len(content)) if generator.random() < 0.2 else None])
        for _ in range(generator.choice([1, 3, 20])):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            read_recording(source)
        except (OSError, ValueError) as error:
            assert "\n" not in str(error)
            num_refused += 1
    assert num_refused > 10
