"""Loading of teachers, from a Python function or a file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ....checkpoints import SUFFIXES, check_suffix, read_network
from ....loading.limits import shown
from .base import FunctionTeacher, ModuleTeacher, NetworkTeacher, Teacher
from .programs import read_exported, read_onnx


_MODULE_AND_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


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
            Activation of a saved network, for a file that does not record it.

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
    if not path.is_dir():
        if path.suffix.lower() not in (".pkl", *SUFFIXES):
            raise ValueError(
                f"`teacher` must be `module:name`, a folder of a network, or a file that ends in one of {SUFFIXES}, "
                f"but received {str(reference)!r}."
            )
        check_suffix(path)
        # programs run as they are, and may be more than an MLP
        if path.suffix.lower() in (".onnx", ".pt2"):
            return read_onnx(path) if path.suffix.lower() == ".onnx" else read_exported(path)
    return NetworkTeacher(read_network(path, activation))


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
