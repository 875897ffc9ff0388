"""Reading untrusted files: JSON and safetensors, checked before use, and never pickles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .limits import MAX_JSON_BYTES, shown


if TYPE_CHECKING:
    import torch


_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_GIT_LFS_POINTER = b"version https://git-lfs"


def find_folder(
    path_or_repo: str | os.PathLike[str], allow_patterns: Sequence[str], repo_type: str | None = None, **options: Any
) -> Path:
    """Returns a local folder, or downloads the matching files of a Hub repository unless they are cached.

    Parameters:
        path_or_repo (`str` or `Path`): Folder, or name of a repository.
        allow_patterns (`Sequence[str]`): Patterns of the files to download.
        repo_type (`str`, *optional*): `"dataset"`, or a model by default.
        options (`Any`): `revision`, `cache_dir`, `token`, … of [`~huggingface_hub.snapshot_download`].

    Raises:
        `OSError`: If the repository or revision does not exist or is not accessible, or the Hub cannot be reached and
            nothing is cached.
        `ValueError`: If it is neither a folder nor a valid name of a repository, or if it is a file.
    """
    if os.path.isdir(path_or_repo):
        return Path(path_or_repo)
    if os.path.isfile(path_or_repo):
        raise ValueError(f"{os.fspath(path_or_repo)!r} is a file, where a folder or a Hub repository is expected.")
    # the command line imports this module, and this library only when it needs the Hub
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    name = os.fspath(path_or_repo)
    try:
        return Path(snapshot_download(name, repo_type=repo_type, allow_patterns=list(allow_patterns), **options))
    except HFValidationError:
        raise ValueError(f"{name!r} is neither a folder nor the name of a Hub repository.") from None
    except OSError as error:
        raise unavailable(name, error) from error


def unavailable(repo_id: str, error: BaseException) -> OSError:
    """The error for a repository that could not be downloaded; it includes the reason."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return OSError(f"{repo_id!r} is neither a folder nor cached, and could not be downloaded from the Hub. {reason}")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
        `OSError`: If the file does not exist.
        `ValueError`: If it does not hold a JSON object, or is larger than `MAX_JSON_BYTES`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{str(path)!r} must have at most {MAX_JSON_BYTES:,} bytes, but has {path.stat().st_size:,}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is truncated or not JSON: {error}. {_remedy(path)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold a JSON object, but holds a {type(content).__name__}.")
    return content


def check_name(where: str, name: Any, kind: str = "folders") -> str:
    """Returns the name of a folder, or of another `kind`, that a file lists, if it is beside the file, not elsewhere.

    Raises:
        `ValueError`: If it is no string, or has more than one part. The message begins with `where`.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise ValueError(f"{where} must name {kind} beside it, but names {shown(name)}.")
    return name


def check_weights(path: str | os.PathLike[str]) -> None:
    """Checks that a file is intact safetensors and, in the Hub's cache, the file that was downloaded.

    Raises:
        `OSError`: If the file does not exist, is truncated or altered, or is a Git LFS pointer.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(file.name for file in path.parent.glob("*") if file.suffix in _WEIGHTS_SUFFIXES)
        found = f"; there is {', '.join(others)}, and pickles are never loaded" if others else ""
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}{found}.")

    # opening the file compares its header with its size
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        with path.open("rb") as file:
            if file.read(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER:
                raise OSError(f"{str(path)!r} is a Git LFS pointer, not the file: run `git lfs pull`.") from error
        raise OSError(f"{str(path)!r} is truncated or altered: {error}. {_remedy(path)}") from error

    # the cache names LFS files, such as weights, by their SHA-256
    blob = path.resolve()
    if blob.parent.name == "blobs" and len(blob.name) == 64:
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.name:
            raise OSError(f"{str(path)!r} was altered after the download. {_remedy(path)}")


def tensor_headers(path: str | os.PathLike[str]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of a file that passed [`check_weights`]; only the header is read."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    with safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118, the file is not a dictionary
            tensor = file.get_slice(name)
            found[name] = (tuple(tensor.get_shape()), tensor.get_dtype())
    return found


def check_tensors(paths: Sequence[str | os.PathLike[str]], shapes: Mapping[str, Sequence[int]]) -> None:
    """Checks that the files together hold exactly the tensors of these names and shapes, in floating point.

    Only the headers are read.

    Raises:
        `ValueError`: If a tensor is missing, unknown, or of another shape or type.
    """
    found = {name: header for path in paths for name, header in tensor_headers(path).items()}

    # compare names
    source = " and ".join(repr(str(path)) for path in paths)
    missing, unknown = sorted(shapes.keys() - found.keys()), sorted(found.keys() - shapes.keys())
    if missing or unknown:
        raise ValueError(
            f"{source} must hold exactly the tensors of the configuration, but lacks {_listed(missing)} and holds "
            f"{_listed(unknown)} besides."
        )

    # compare shapes and types
    for name, shape in shapes.items():
        received, dtype = found[name]
        if received != tuple(shape) or not dtype.startswith(("F", "BF")):
            raise ValueError(
                f"`{name}` of {source} must be floating point of shape {tuple(shape)} by the configuration, but is "
                f"{dtype} of shape {received}."
            )


def read_weights(path: str | os.PathLike[str], shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Reads the tensors of these names and shapes, as float32.

    Raises:
        `OSError`: See [`check_weights`].
        `ValueError`: See [`check_tensors`].
    """
    check_weights(path)
    check_tensors([path], shapes)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float() for name in shapes}


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(f"`{name}`" for name in names[:most]) + more) or "nothing"


def _remedy(path: Path) -> str:
    """Advice for a damaged file. In the Hub's cache, the file behind the link has to be deleted."""
    blob = path.resolve()
    if blob.parent.name == "blobs":
        return f"Delete {str(blob)!r} and load again to download it again."
    return "Copy or download it again."
