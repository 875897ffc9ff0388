"""Plain arrays: `.npz` and safetensors files of observations and actions."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from ....loading.local import check_weights, tensor_headers
from .base import Episode, Recording, check_numbers_of, recording_of


_NAMES = {"observations": ("observations", "obs", "states"), "actions": ("actions", "action", "acts")}
_EPISODES = ("episode_ends", "episode_index", "dones")


def read_npz(path: Path) -> Recording:
    """Reads `observations` and `actions`; see [`_episodes`] for where episodes end.

    Raises:
        `OSError`: If the file is missing or damaged.
        `ValueError`: If arrays are missing, of objects or too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            numbers = sum(_npy_size(archive, name) for name in archive.namelist())
            check_numbers_of(path, numbers)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in (*sum(_NAMES.values(), ()), *_EPISODES)}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError) as error:
        reason = " ".join(str(error).split())
        raise OSError(f"{str(path)!r} is truncated or no `.npz`: {reason}. Copy or download it again.") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} must hold arrays of numbers: {error}") from error
    return recording_of(path, "npz", [path], _episodes(path, arrays))


def _npy_size(archive: zipfile.ZipFile, name: str) -> int:
    """Numbers that an array claims to have, and at least as many as its bytes could hold."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name.removesuffix('.npy')!r} is of type {dtype}.")
    return max(math.prod(shape), archive.getinfo(name).file_size // 8)


def read_safetensors(paths: Sequence[Path], source: Path) -> Recording:
    """Reads `observations` and `actions` of one file or several, as [`read_npz`].

    Raises:
        `OSError`: If a file is missing or damaged.
        `ValueError`: If tensors are missing or too large.
    """
    episodes: list[Episode] = []
    numbers = 0
    for path in paths:
        check_weights(path)
        numbers += sum(math.prod(shape) for shape, _ in tensor_headers(path).values())
        check_numbers_of(path, numbers)
        tensors = {name: tensor for name, tensor in load_file(path).items() if not tensor.is_complex()}
        arrays = {
            name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
            for name, tensor in tensors.items()
        }
        episodes += [
            replace(episode, name=f"{path.stem}/{episode.name}") if len(paths) > 1 else episode
            for episode in _episodes(path, arrays)
        ]
    return recording_of(source, "safetensors", paths, episodes)


def _episodes(path: Path, arrays: Mapping[str, np.ndarray]) -> list[Episode]:
    """Cuts arrays into episodes.

    `episode_ends` are the numbers of steps up to the end of each episode, `episode_index` is the episode of every
    step, and `dones` is true for the last step of each. Without any of them, there is one episode.
    """
    found = {}
    for name, aliases in _NAMES.items():
        known = [alias for alias in aliases if alias in arrays]
        if len(known) != 1:
            raise ValueError(
                f"{str(path)!r} must have one array of {list(aliases)}, but has {known or sorted(arrays)[:10]}."
            )
        found[name] = arrays[known[0]]
    observations, actions = found["observations"], found["actions"]
    if not observations.ndim or not actions.ndim or len(observations) != len(actions):
        raise ValueError(
            f"{str(path)!r} must have an observation for every action, but has shapes {list(observations.shape)} and "
            f"{list(actions.shape)}."
        )
    ends = _ends(path, arrays, len(actions))
    return [
        Episode(f"episode_{number}", observations[start:stop], actions[start:stop])
        for number, (start, stop) in enumerate(zip([0, *ends[:-1]], ends))
    ]


def _ends(path: Path, arrays: Mapping[str, np.ndarray], num_steps: int) -> list[int]:
    name = next((name for name in _EPISODES if name in arrays), None)
    if name is None:
        return [num_steps]
    values = arrays[name].reshape(-1)
    if name == "episode_ends":
        ends = [int(end) for end in values] if values.dtype.kind in "iu" else []
    elif len(values) != num_steps:
        ends = []
    elif name == "episode_index":
        ends = [*(np.flatnonzero(np.diff(values.astype(np.int64))) + 1).tolist(), num_steps]
    else:
        # steps after the last `done` are an episode that was cut
        ends = sorted({*(np.flatnonzero(values) + 1).tolist(), num_steps})
    if not ends or ends[-1] != num_steps or any(stop <= start for start, stop in zip([0, *ends], ends)):
        raise ValueError(
            f"`{name}` of {str(path)!r} must divide {num_steps} steps into episodes, but does not; it has "
            f"{len(values)} values."
        )
    return ends
