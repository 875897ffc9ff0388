"""Data sets of Minari: a folder with `data/main_data.hdf5` and `data/metadata.json`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ....loading.limits import shown
from ....loading.local import read_json_object
from .base import Episode, Recording, recording_of
from .hdf5 import Hdf5Reader, opened_hdf5


DATA_NAME = "data/main_data.hdf5"
METADATA_NAME = "data/metadata.json"


def local_dataset(name: str) -> Path:
    """Folder of a data set that Minari downloaded.

    Raises:
        `ValueError`: If there is none of that name.
    """
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    folder = root / name
    if ".." in Path(name).parts or Path(name).is_absolute() or not (folder / "data").is_dir():
        raise ValueError(f"Minari has no data set {name!r} in {str(root)!r}: run `minari download {name}`.")
    return folder


def read_minari(folder: Path) -> Recording:
    """Reads a data set of Minari. Observations that are dictionaries are flattened in the order of their names.

    Raises:
        `OSError`: If a file is missing or damaged.
        `ValueError`: If it is stored in another format, or in several files.
        `ImportError`: If h5py is not installed.
    """
    metadata_path = folder / METADATA_NAME
    # data sets of releases before 0.5 have their metadata in the HDF5 file
    metadata = read_json_object(metadata_path) if metadata_path.is_file() else {}
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise ValueError(
            f"{str(folder)!r} must be stored as HDF5, but is stored as {shown(metadata['data_format'])}. Create it "
            "with `data_format='hdf5'`."
        )
    path = folder / DATA_NAME
    with opened_hdf5(path) as reader:
        episodes = [_episode(reader, name) for name in reader.names(reader.root, "episode_")]
    files = (path, metadata_path) if metadata_path.is_file() else (path,)
    dataset_id = metadata.get("dataset_id")
    details = {"dataset_id": dataset_id} if isinstance(dataset_id, str) else {}
    return recording_of(folder, "minari", files, episodes, **details)


def _episode(reader: Hdf5Reader, name: str) -> Episode:
    group = reader.child(reader.root, name)
    observations, actions = (_flattened(reader, group, part) for part in ("observations", "actions"))
    if len(observations) != len(actions) + 1:
        raise ValueError(
            f"{str(reader.path)!r} must have one observation more than actions, but episode {name!r} has "
            f"{len(observations)} and {len(actions)}."
        )
    infos = reader.child(group, "infos")
    success = None if infos is None or hasattr(infos, "dtype") else reader.child(infos, "success")
    is_success = bool(reader.read(success).any()) if hasattr(success, "dtype") else None
    return Episode(name, observations[:-1].reshape(len(actions), -1), actions, is_success)


def _flattened(reader: Hdf5Reader, group: Any, name: str) -> np.ndarray:
    found = reader.child(group, name) if not hasattr(group, "dtype") else None
    if found is None:
        raise ValueError(f"{str(reader.path)!r} must have `{name}` in every episode, but {group.name!r} has none.")
    array = reader.flattened(found, is_sorted=True)
    if array.ndim == 0:
        raise ValueError(f"{str(reader.path)!r} must have arrays, but `{found.name}` is a number.")
    return array
