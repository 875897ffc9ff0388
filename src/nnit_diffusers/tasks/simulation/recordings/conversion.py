"""Conversion of a recording to the files of an imitation task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ....loading.local import read_json_object
from ....provenance import provenance
from ....writing import write_bytes, write_json
from ...imitation import DEMONSTRATIONS
from ..contract import Contract
from .checks import check_recording
from .reading import read_recording


RECORD_NAME = "collection.json"
STEPS_PER_FILE = 2**18


def convert_recording(
    path: str | Path,
    output_dir: str | Path,
    contract: Contract,
    *,
    robot_uids: str | None = None,
    only_success: bool = True,
) -> None:
    """Reads and checks recorded demonstrations, and writes them as a `data_dir` of an imitation task.

    The folder gets files `demonstrations-*.safetensors`, and `collection.json`, which names the source, its SHA-256
    and how many episodes were left out. The same call again does nothing, or continues one that was interrupted.

    Parameters:
        path (`str` or `Path`): The recording; see [`read_recording`].
        output_dir (`str` or `Path`): Folder to write.
        contract ([`Contract`]): Sizes, bounds, environment and control mode that the recording has to fit.
        robot_uids (`str`, *optional*): Robot that a recording of ManiSkill has to be of.
        only_success (`bool`, defaults to `True`): Leave out episodes that failed.

    Raises:
        `ValueError`: If the recording can't be read, does not fit, or the folder holds other demonstrations.
        `OSError`: If a file is missing or damaged.
        `ImportError`: If the format needs a package that is not installed.
    """
    output_dir = Path(output_dir)
    recorded = {"env_id": contract.env_id, "control_mode": contract.control_mode, "robot_uids": robot_uids}
    request = {"path": str(path), **recorded, "only_success": only_success}
    record = output_dir / RECORD_NAME
    earlier = read_json_object(record) if record.exists() else {}
    if earlier.get("request") == request and _is_complete(earlier, output_dir):
        return

    # read and check
    recording = read_recording(path, **recorded, only_success=only_success)
    sizes = (contract.in_features, contract.out_features)
    bounds = (contract.action_low, contract.action_high)
    recording = check_recording(recording, *sizes, *bounds, contract.is_discrete)
    files = {str(file): _sha256(file) for file in recording.files}
    collection = {
        "source": Path(recording.source).name,
        "kind": recording.kind,
        **recording.details,
        "sha256": list(files.values()),
        "only_success": only_success,
        "num_episodes": len(recording.episodes),
        "num_episodes_dropped": recording.num_dropped,
        "num_steps": sum(recording.lengths),
    }

    # claim the folder before the first file is in it
    if earlier.get("collection") != collection and (earlier or any(output_dir.glob(DEMONSTRATIONS))):
        raise ValueError(
            f"`output_dir` must be a new folder, or one of the same recording, {collection}, but {str(output_dir)!r} "
            f"holds the demonstrations of {earlier.get('collection') or 'an unknown collection'}."
        )
    written = {"collection": collection, "request": request, **provenance()}
    write_json(record, written)
    observations, actions = recording.observations, recording.actions
    index = np.repeat(np.arange(len(recording.episodes)), recording.lengths)
    starts = range(0, len(actions), STEPS_PER_FILE)
    for number, start in enumerate(starts):
        steps = slice(start, start + STEPS_PER_FILE)
        tensors = {"observations": observations[steps], "actions": actions[steps], "episode_index": index[steps]}
        write_bytes(output_dir / DEMONSTRATIONS.replace("*", f"{number:05}"), save(tensors))
    write_json(record, {**written, "files": files, "num_shards": len(starts)})


def _is_complete(record: Mapping[str, Any], output_dir: Path) -> bool:
    """Whether a folder has all that it was to get, from files that have not changed since."""
    files = record.get("files")
    if not isinstance(files, dict) or len(list(output_dir.glob(DEMONSTRATIONS))) != record.get("num_shards"):
        return False
    return all(Path(file).is_file() and _sha256(Path(file)) == digest for file, digest in files.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
