"""Reading what strangers publish: JSON and safetensors, whole or not at all, and never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open


MAX_JSON_BYTES = 2**24
"""Size of a configuration."""
_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_GIT_LFS_POINTER = b"version https://git-lfs"


def find_folder(
    path_or_repo: str | os.PathLike, allow_patterns: Sequence[str], repo_type: str | None = None, **options: Any
) -> Path:
    """A folder as it is, or the files of a Hub repository that match the patterns, downloaded if need be.

    Parameters:
        path_or_repo (`str` or `Path`): Folder, or name of a repository.
        allow_patterns (`Sequence[str]`): Files to download.
        repo_type (`str`, *optional*): `"dataset"`, or a model by default.
        options (`Any`): `revision`, `cache_dir`, `token`, … of [`~huggingface_hub.snapshot_download`].

    Raises:
        `OSError`: If there is no such repository, no access to it, no such revision, or no network and nothing cached.
        `ValueError`: If it is no folder and cannot be the name of a repository.
    """
    if os.path.isdir(path_or_repo):
        return Path(path_or_repo)
    name = os.fspath(path_or_repo)
    try:
        return Path(snapshot_download(name, repo_type=repo_type, allow_patterns=list(allow_patterns), **options))
    except OSError as error:
        raise unavailable(name, error) from error


def unavailable(repo_id: str, error: BaseException) -> OSError:
    """The error of a repository that could not be downloaded, for whatever reason."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return OSError(f"{repo_id!r} is neither a folder nor cached, and the Hub does not give it. {reason}")


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        `OSError`: If there is no such file.
        `ValueError`: If it holds anything else, or is longer than `MAX_JSON_BYTES`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{str(path)!r} has {path.stat().st_size:,} bytes, and may have {MAX_JSON_BYTES:,}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is truncated or no JSON: {error}. {_remedy(path)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold a JSON object, but holds a {type(content).__name__}.")
    return content


def check_weights(path: str | os.PathLike) -> None:
    """Raises an error unless the file is whole safetensors and, in the Hub's cache, what was downloaded.

    Raises:
        `OSError`: If there is no such file, it is truncated or altered, or only stands for one in Git LFS.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(file.name for file in path.parent.glob("*") if file.suffix in _WEIGHTS_SUFFIXES)
        found = f"; there is {', '.join(others)}, and pickles are never loaded" if others else ""
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}{found}.")
    try:
        with safe_open(path, framework="pt"):
            pass  # which reads the header, and holds it against the size of the file
    except SafetensorError as error:
        with path.open("rb") as file:
            if file.read(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER:
                raise OSError(f"{str(path)!r} only stands for a file in Git LFS: run `git lfs pull`.") from error
        raise OSError(f"{str(path)!r} is truncated or altered: {error}. {_remedy(path)}") from error
    blob = path.resolve()
    # The cache names what came by LFS, as all weights do, after its SHA-256.
    if blob.parent.name == "blobs" and len(blob.name) == 64:
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.name:
            raise OSError(f"{str(path)!r} is not the file that was downloaded: it was altered since. {_remedy(path)}")


def check_tensors(paths: Sequence[str | os.PathLike], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises `ValueError` unless the files together hold floating-point tensors of these names and shapes, no others.

    Nothing but the headers is read.
    """
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no dictionary
                tensor = file.get_slice(name)
                found[name] = (tuple(tensor.get_shape()), tensor.get_dtype())
    source = " and ".join(repr(str(path)) for path in paths)
    missing, unknown = sorted(shapes.keys() - found.keys()), sorted(found.keys() - shapes.keys())
    if missing or unknown:
        raise ValueError(
            f"{source} must hold the tensors that the configuration asks for, but lacks {_listed(missing)} and holds "
            f"{_listed(unknown)} besides."
        )
    for name, shape in shapes.items():
        received, dtype = found[name]
        if received != tuple(shape) or not dtype.startswith(("F", "BF")):
            raise ValueError(
                f"`{name}` of {source} must be floating point of shape {tuple(shape)}, as the configuration says, but "
                f"is {dtype} of shape {received}."
            )


def read_weights(path: str | os.PathLike, shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Tensors of these names and shapes, in single precision.

    Raises:
        `OSError`: See [`check_weights`].
        `ValueError`: If the file holds others.
    """
    check_weights(path)
    check_tensors([path], shapes)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float() for name in shapes}


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(f"`{name}`" for name in names[:most]) + more) or "nothing"


def _remedy(path: Path) -> str:
    """How to get a damaged file whole: in the Hub's cache, what has to go is what its link points to."""
    blob = path.resolve()
    if blob.parent.name == "blobs":
        return f"Delete {str(blob)!r} and load again: it will be downloaded anew."
    return "Copy or download it again."
