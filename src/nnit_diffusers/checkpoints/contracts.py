"""The contract in a file that this package exported, or beside it: what the network in it means."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..contract import CONTRACT_KEY, NetworkContract, read_contract
from ..loading.limits import MAX_JSON_BYTES, shown
from .archives import opened_zip


def contract_of_file(path: str | os.PathLike[str]) -> NetworkContract | None:
    """The contract of the network in a file or folder, or `None` if it has none.

    It lies in the metadata of safetensors and ONNX, in an entry of a zip, in the `infos` of RSL-RL, in a file of
    LeRobot's folder, and otherwise in `<path>.contract.json`. The file itself was read before, so it is not damaged.

    Raises:
        `ValueError`: If the contract is damaged.
    """
    path = Path(path)
    find = _FINDERS.get("" if path.is_dir() else path.suffix.lower())
    text = None if find is None else find(path)
    beside = path.with_name(f"{path.name}.contract.json")
    if text is None and beside.is_file():
        path, text = beside, _text_of(beside)
    if text is None:
        return read_contract(path) if path.is_dir() else None
    try:
        if len(text) > MAX_JSON_BYTES:
            raise ValueError(f"it must have {MAX_JSON_BYTES:,} characters at most, but has {len(text):,}")
        return NetworkContract.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must hold the contract of a network: {error}") from error


def _text_of(path: Path) -> str:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{str(path)!r} must have {MAX_JSON_BYTES:,} bytes at most.")
    return path.read_text(encoding="utf-8", errors="replace")


def _in_folder(path: Path) -> str | None:
    """In a folder of LeRobot, whose configuration may hold no other keys."""
    file = path / f"{CONTRACT_KEY}.json"
    return _text_of(file) if file.is_file() else None


def _in_safetensors(path: Path) -> str | None:
    with safe_open(path, framework="np") as file:
        return (file.metadata() or {}).get(CONTRACT_KEY)


def _in_onnx(path: Path) -> str | None:
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return next((entry.value for entry in model.metadata_props if entry.key == CONTRACT_KEY), None)


def _in_zip(path: Path) -> str | None:
    """In an entry of a program of `torch.export`, or of a zip of Stable-Baselines3."""
    with opened_zip(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/extra/{CONTRACT_KEY}") or name == f"{CONTRACT_KEY}.json":
                if archive.getinfo(name).file_size > MAX_JSON_BYTES:
                    raise ValueError(f"The contract in {str(path)!r} must have {MAX_JSON_BYTES:,} bytes at most.")
                return archive.read(name).decode(errors="replace")
    return None


def _in_checkpoint(path: Path) -> str | None:
    """In the `infos` of a checkpoint of RSL-RL."""
    checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    infos = checkpoint.get("infos") if isinstance(checkpoint, dict) else None
    found = infos.get(CONTRACT_KEY) if isinstance(infos, dict) else None
    if found is not None and not isinstance(found, str):
        raise ValueError(f"`{CONTRACT_KEY}` of {str(path)!r} must be JSON, but is {shown(found)}.")
    return found


_FINDERS: dict[str, Callable[[Path], str | None]] = {
    "": _in_folder,
    ".safetensors": _in_safetensors,
    ".onnx": _in_onnx,
    ".pt2": _in_zip,
    ".zip": _in_zip,
    ".pt": _in_checkpoint,
    ".pth": _in_checkpoint,
    ".ckpt": _in_checkpoint,
    ".cleanrl_model": _in_checkpoint,
}
