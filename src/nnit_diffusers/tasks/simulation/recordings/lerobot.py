"""Data sets of LeRobot, layouts 2.0 to 3.0: `meta/info.json`, and Parquet files of steps in `data/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....loading.local import read_json_object
from .base import Episode, Recording, check_numbers_of, recording_of


INFO_NAME = "meta/info.json"
PATTERNS = ("meta/info.json", "data/*")
"""Files of a repository that are read; videos are not downloaded."""
_ROWS = 2**14
_STATES = ("observation.state", "observation.environment_state")


def read_lerobot(folder: Path, source: str | None = None) -> Recording:
    """Reads a data set of LeRobot: the state of the robot, followed by that of the environment if it is recorded.

    Parameters:
        folder (`Path`): Folder of the data set.
        source (`str`, *optional*): Name of the data set, for messages; by default the folder.

    Raises:
        `OSError`: If a file is missing or damaged.
        `ValueError`: If there is no state or action.
        `ImportError`: If pyarrow is not installed.
    """
    info = read_json_object(folder / INFO_NAME)
    paths = sorted((folder / "data").glob("*/*.parquet"))
    if not paths:
        raise ValueError(f"{str(folder)!r} must have Parquet files in `data/chunk-*/`, but has none.")
    features = info.get("features")
    names = list(features) if isinstance(features, dict) else []
    states = [name for name in _STATES if name in names]
    if not states or "action" not in names:
        vectors = [name for name in names if name.startswith(("observation", "action"))]
        raise ValueError(f"{str(folder)!r} must have `observation.state` and `action`, but has {vectors[:10]}.")
    extra = ["next.success"] if "next.success" in names else []
    columns = _read(paths, [*states, "action", "episode_index", "frame_index", *extra])

    # steps of an episode are in the order of their index, whatever file they are in
    order = np.lexsort((columns["frame_index"][:, 0], columns["episode_index"][:, 0]))
    columns = {name: column[order] for name, column in columns.items()}
    indices, starts = np.unique(columns["episode_index"][:, 0], return_index=True)
    observations = np.concatenate([columns[name] for name in states], axis=1)
    episodes = []
    for index, start, stop in zip(indices, starts, [*starts[1:], len(observations)]):
        success = bool(columns["next.success"][start:stop].any()) if extra else None
        episodes.append(
            Episode(f"episode_{int(index)}", observations[start:stop], columns["action"][start:stop], success)
        )
    version = info.get("codebase_version")
    files = (folder / INFO_NAME, *paths)
    return recording_of(source or folder, "lerobot", files, episodes, version=str(version)[:20])


def _read(paths: Sequence[Path], names: list[str]) -> dict[str, np.ndarray]:
    """Columns `[N, I]` of all files, in the order of the files."""
    try:
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException
    except ImportError as error:
        raise ImportError("Data sets of LeRobot need pyarrow: `pip install nnit-diffusers[recordings]`.") from error
    numbers, parts = 0, []
    for path in paths:
        try:
            with parquet.ParquetFile(path) as file:
                lacking = sorted(set(names) - set(file.schema_arrow.names))
                # compression may have made them small, so numbers are counted as they are read
                for batch in file.iter_batches(_ROWS, columns=names) if not lacking else ():
                    part = {name: _matrix(path, name, batch.column(name)) for name in names}
                    numbers += sum(column.size for column in part.values())
                    check_numbers_of(path.parents[2], numbers)
                    parts.append(part)
        except (ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise OSError(f"{str(path)!r} is truncated or no Parquet: {reason}. Copy or download it again.") from error
        if lacking:
            raise ValueError(f"{str(path)!r} must have the columns {names}, but lacks {lacking}.")
    if not parts:
        raise ValueError(f"{str(paths[0].parents[2])!r} must have steps, but has none.")
    for name in names:
        sizes = {part[name].shape[1] for part in parts}
        if len(sizes) > 1:
            raise ValueError(
                f"`{name}` must have one size in all files of {str(paths[0].parents[2])!r}, but has {sorted(sizes)}."
            )
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _matrix(path: Path, name: str, array: Any) -> np.ndarray:
    """A column `[N, I]` of numbers, or of lists of the same length."""
    import pyarrow as pa

    is_list = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    values = array.flatten() if is_list else array
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
    if array.null_count or values.null_count or not any(is_kind(values.type) for is_kind in kinds):
        raise ValueError(f"`{name}` of {str(path)!r} must be numbers without gaps, but is {array.type} with some.")
    lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False)) if is_list else np.ones(1)
    if len(lengths) > 1:
        raise ValueError(f"`{name}` of {str(path)!r} must have one size, but has {lengths[:3].tolist()}.")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), -1)
