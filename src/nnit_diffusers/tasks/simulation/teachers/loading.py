"""Loading of teachers, from a Python function or a file."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from ....loading.limits import MAX_JSON_BYTES, check_total, shown
from ....loading.local import check_weights, read_json_object
from .archives import MAX_TEACHER_BYTES, damaged, opened_zip
from .base import FunctionTeacher, ModuleTeacher, Teacher
from .checkpoints import NORMALISED, teacher_of_checkpoint
from .programs import read_exported, read_onnx


_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".cleanrl_model")
SUFFIXES = (".onnx", ".safetensors", ".pt2", *_CHECKPOINTS, ".zip")
"""Suffixes of files that [`load_teacher`] reads."""
_MODULE_AND_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SB3_ACTIVATIONS = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "GELU": "gelu",
    "SiLU": "silu",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
}


def load_teacher(
    reference: str | Path | Callable[[np.ndarray], Any] | nn.Module, activation: str | None = None
) -> Teacher:
    """The policy to imitate: a Python function, or a saved network.

    Parameters:
        reference (`str`, `Path`, `Callable` or `nn.Module`): One of

            - a function from observations `[N, I]` to actions `[N, O]`, numpy arrays; or a torch module;
            - `"module:name"` of such a function; the module may be in the working directory;
            - an ONNX file, or a program of `torch.export` (`.pt2`);
            - a network of this package: its folder, or a safetensors file;
            - a checkpoint of CleanRL, ManiSkill or RSL-RL (`.pt`, `.pth`, `.ckpt`, `.cleanrl_model`), or of
              Stable-Baselines3 (`.zip`). Only tensors are read from it.
        activation (`str`, *optional*):
            Activation of a saved network, for a file that does not record it, or records another than is wanted.

    Returns:
        `Teacher`: A function from observations `[N, I]` to actions `[N, O]`, with `in_features` and `out_features`
            where they are known.

    Raises:
        `ValueError`: If there is no such function, or the file holds no policy that can be read.
        `OSError`: If the file is missing or damaged.
        `ImportError`: If the file needs a package that is not installed.
    """
    if isinstance(reference, Teacher):
        return reference
    if isinstance(reference, nn.Module):
        return ModuleTeacher(reference)
    if not isinstance(reference, str | Path):
        if not callable(reference) or isinstance(reference, type):
            raise ValueError(f"`teacher` must be a function or the path of a file, but received {shown(reference)}.")
        return FunctionTeacher(reference)
    path = Path(reference)
    if not path.exists() and _MODULE_AND_NAME.fullmatch(str(reference)):
        return _from_module(str(reference))
    if path.is_dir():
        return _from_safetensors(path / "model.safetensors", activation)
    suffix = path.suffix.lower()
    if suffix == ".pkl":
        raise ValueError(f"{str(path)!r} is a pickle, which is never loaded. Export the policy to ONNX.")
    if suffix not in SUFFIXES:
        raise ValueError(
            f"`teacher` must be `module:name`, a folder of a network, or a file that ends in one of {SUFFIXES}, but "
            f"received {str(reference)!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")
    if suffix == ".onnx":
        return read_onnx(path)
    if suffix == ".pt2":
        return read_exported(path)
    if suffix == ".safetensors":
        return _from_safetensors(path, activation)
    return _from_stable_baselines(path, activation) if suffix == ".zip" else _from_checkpoint(path, activation)


def _from_module(reference: str) -> Teacher:
    module_name, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(import_module(module_name), name, None)
    except ImportError as error:
        raise ValueError(
            f"`teacher` must name a module that can be imported, but received {reference!r}: {error}."
        ) from error
    if not callable(found) or isinstance(found, type):
        raise ValueError(
            f"`teacher` must name a function of the module {module_name!r}, but received {reference!r}, which is "
            f"{shown(found)}."
        )
    return load_teacher(found)


def _from_safetensors(path: Path, activation: str | None) -> Teacher:
    check_weights(path)
    check_total(f"The bytes of {str(path)!r}", path.stat().st_size, MAX_TEACHER_BYTES)
    recorded: Any = None
    # the configuration beside the file, or the metadata in it
    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get("architecture")
    if text is not None:
        try:
            recorded = json.loads(text)["activation"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError(
                f"The metadata `architecture` of {str(path)!r} must be JSON with an `activation`."
            ) from None
    elif (path.parent / "config.json").is_file():
        recorded = read_json_object(path.parent / "config.json").get("activation")
    return teacher_of_checkpoint(str(path), load_file(path), activation, recorded)


def _load_tensors(name: str, content: io.BytesIO | Path) -> Any:
    """What `torch.load` reads without ever running a pickle's code."""
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # the message of torch proposes to load it nevertheless; only the name of the object is of use
        match = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        found = f", such as `{match[1]}`" if match else ""
        raise ValueError(
            f"{name!r} holds Python objects besides tensors{found}, and pickles are never loaded, or it is damaged. "
            "Save only the state dict, or export the policy to ONNX."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged(name, error) from error


def _from_checkpoint(path: Path, activation: str | None) -> Teacher:
    check_total(f"The bytes of {str(path)!r}", path.stat().st_size, MAX_TEACHER_BYTES)
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with opened_zip(path):
            pass
    return teacher_of_checkpoint(str(path), _load_tensors(str(path), path), activation)


def _from_stable_baselines(path: Path, activation: str | None) -> Teacher:
    """The policy in a file of Stable-Baselines3: `policy.pth`, and what `data` shows without unpickling it."""
    # statistics of VecNormalize are saved beside it, as a pickle
    folders = (path.parent, path.with_suffix(""))
    statistics = sorted(file.name for folder in folders for file in folder.glob("*normalize*.pkl"))
    if statistics:
        raise ValueError(f"{str(path)!r} stands beside {statistics[0]!r}, which {NORMALISED}")
    with opened_zip(path) as archive:
        names = archive.namelist()
        if "policy.pth" not in names:
            raise ValueError(
                f"{str(path)!r} must be a zip of Stable-Baselines3 with `policy.pth`, but has {shown(names)}."
            )
        content = archive.read("policy.pth")
        is_readable = "data" in names and archive.getinfo("data").file_size <= MAX_JSON_BYTES
        data = _json(archive.read("data")) if is_readable else {}
    kwargs = data.get("policy_kwargs")
    shown_class = str(kwargs.get("activation_fn", "")) if isinstance(kwargs, dict) else ""
    recorded = shown_class.rstrip("'>").rpartition(".")[2] or None
    return teacher_of_checkpoint(
        str(path),
        _load_tensors(str(path), io.BytesIO(content)),
        activation,
        None if recorded is None else _SB3_ACTIVATIONS.get(recorded, recorded),
        _bounds(data.get("action_space")),
    )


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _bounds(space: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Lowest and highest actions, which Stable-Baselines3 stores as the text of an array: `[-1. -1.]`."""
    if not isinstance(space, dict):
        return None
    low, high = (
        [float(number) for number in re.findall(r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?", str(space.get(name, "")))]
        for name in ("low", "high")
    )
    if not low or len(low) != len(high):
        return None
    return torch.tensor(low), torch.tensor(high)
