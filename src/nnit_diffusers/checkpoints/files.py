"""Reading the network in a file of another program, by the suffix of the file."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ..loading.limits import MAX_JSON_BYTES, check_total, shown
from ..loading.local import check_weights, read_json_object
from .archives import MAX_CHECKPOINT_BYTES, damaged, opened_zip
from .onnx_graphs import read_onnx
from .saved import SavedNetwork
from .state_dicts import Options, network_of_checkpoint
from .torch_programs import read_exported


_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".cleanrl_model")
SUFFIXES = (".onnx", ".safetensors", ".pt2", *_CHECKPOINTS, ".zip")
"""Suffixes of files that [`read_network`] reads."""
_WEIGHTS_NAME, _CONFIG_NAME = "model.safetensors", "config.json"
_SB3_ACTIVATIONS = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "GELU": "gelu",
    "SiLU": "silu",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
}


def read_network(
    path: str | os.PathLike[str],
    activation: str | None = None,
    *,
    mean: Any = None,
    std: Any = None,
    ignore_clip: bool = False,
) -> SavedNetwork:
    """The network in a file, or in a folder of this package or of LeRobot's policy `nnit_mlp`.

    Parameters:
        path (`str` or `Path`): The file or folder.
        activation (`str`, *optional*): Activation between the layers, for a file that does not record it.
        mean, std (`Sequence[float]`, *optional*): Statistics of a normaliser that the file lacks; both or none.
        ignore_clip (`bool`, defaults to `False`): Read a network without the clip of its observations or outputs.

    Raises:
        `OSError`: If the file is missing, truncated or altered.
        `ActivationIsRecorded`: If another activation is named than the file records.
        `ValueError`: If the file holds no MLP that can be read.
        `ImportError`: If the file needs a package that is not installed.
    """
    path = Path(path)
    options = Options(activation, has_statistics=mean is not None)
    if path.is_dir():
        saved = _from_safetensors(path / _WEIGHTS_NAME, options)
    else:
        check_suffix(path)
        suffix = path.suffix.lower()
        if suffix == ".onnx":
            saved = read_onnx(path, activation, ignore_clip)
        elif suffix == ".pt2":
            saved = read_exported(path, activation, ignore_clip)
        elif suffix == ".safetensors":
            saved = _from_safetensors(path, options)
        elif suffix == ".zip":
            saved = _from_stable_baselines(path, options, ignore_clip)
        else:
            saved = _from_checkpoint(path, options)
    return saved.with_statistics(mean, std)


def check_suffix(path: Path) -> None:
    """Checks that a file exists, and that its suffix is of [`SUFFIXES`].

    Raises:
        `ValueError`, `FileNotFoundError`: If it is not so.
    """
    suffix = path.suffix.lower()
    if suffix == ".pkl":
        raise ValueError(f"{str(path)!r} is a pickle, which is never loaded. Export the policy to ONNX.")
    if suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r} must end in one of {SUFFIXES}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file named {path.name} in {str(path.parent)!r}.")


def _from_safetensors(path: Path, options: Options) -> SavedNetwork:
    check_weights(path)
    check_total(f"The bytes of {str(path)!r}", path.stat().st_size, MAX_CHECKPOINT_BYTES)
    # the configuration beside the file, or the metadata in it
    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get("architecture")
    recorded: Any = {}
    if text is not None:
        try:
            recorded = {"activation": None, **json.loads(text)}
        except (ValueError, TypeError, RecursionError):
            raise ValueError(
                f"The metadata `architecture` of {str(path)!r} must be JSON with an `activation`."
            ) from None
    elif (path.parent / _CONFIG_NAME).is_file():
        recorded = read_json_object(path.parent / _CONFIG_NAME)
        if recorded.get("type", "nnit_mlp") != "nnit_mlp":
            raise ValueError(
                f"{str(path.parent)!r} must hold an MLP, such as LeRobot's policy 'nnit_mlp', but is of type "
                f"{shown(recorded['type'])}."
            )
    output_activation = recorded.get("output_activation")
    if output_activation not in (None, "tanh"):
        raise ValueError(f"`output_activation` of {str(path)!r} must be 'tanh', but is {shown(output_activation)}.")
    options = Options(
        options.activation,
        recorded.get("activation"),
        bounds=(torch.tensor(-1.0), torch.tensor(1.0)),
        is_squashed=output_activation == "tanh",
        has_statistics=options.has_statistics,
    )
    return network_of_checkpoint(str(path), load_file(path), options)


def _from_checkpoint(path: Path, options: Options) -> SavedNetwork:
    check_total(f"The bytes of {str(path)!r}", path.stat().st_size, MAX_CHECKPOINT_BYTES)
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with opened_zip(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise ValueError(
                    f"{str(path)!r} is a program of TorchScript, which can run code and is never loaded. Give the "
                    "checkpoint of the training run, or export the policy to ONNX."
                )
    return network_of_checkpoint(str(path), _load_tensors(str(path), path), options)


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


def _from_stable_baselines(path: Path, options: Options, ignore_clip: bool) -> SavedNetwork:
    """The policy in a file of Stable-Baselines3: `policy.pth`, and what `data` shows without unpickling it."""
    _check_vec_normalize(path, options.has_statistics, ignore_clip)
    with opened_zip(path) as archive:
        names = archive.namelist()
        if "policy.pth" not in names:
            raise ValueError(
                f"{str(path)!r} must be a zip of Stable-Baselines3 with `policy.pth`, but has {shown(names)}."
            )
        content = archive.read("policy.pth")
        is_readable = "data" in names and archive.getinfo("data").file_size <= MAX_JSON_BYTES
        data = _json(archive.read("data")) if is_readable else {}
    # `policy_kwargs` show the activation as the text of its class, unless it is the default
    kwargs = data.get("policy_kwargs")
    knows_defaults = isinstance(kwargs, dict)
    shown_class = str(kwargs.get("activation_fn", "")) if isinstance(kwargs, dict) else ""
    recorded = shown_class.rstrip("'>").rpartition(".")[2] or None
    return network_of_checkpoint(
        str(path),
        _load_tensors(str(path), io.BytesIO(content)),
        Options(
            options.activation,
            None if recorded is None else _SB3_ACTIVATIONS.get(recorded, recorded),
            knows_defaults,
            _bounds(data.get("action_space")),
            isinstance(kwargs, dict) and kwargs.get("squash_output") is True,
            options.has_statistics,
        ),
    )


def _check_vec_normalize(path: Path, has_statistics: bool, ignore_clip: bool) -> None:
    """Raises `ValueError` if a policy was trained behind VecNormalize, whose statistics are saved beside it."""
    # rl-zoo puts them into a folder of the policy's name
    folders = (path.parent, path.with_suffix(""))
    pickles = sorted(file.name for folder in folders for file in folder.glob("*normalize*.pkl"))
    if not pickles or (has_statistics and ignore_clip):
        return
    if has_statistics:
        raise ValueError(
            f"{str(path)!r} stands beside {pickles[0]!r} of VecNormalize, which also clips normalised observations "
            "(`clip_obs`, 10 by default), and an MLP can't. Pass `ignore_clip=True` if that does not matter."
        )
    raise ValueError(
        f"{str(path)!r} stands beside {pickles[0]!r}, the statistics that normalise its observations, a pickle, which "
        "is never loaded. In Python, `MLP.from_checkpoint(path, observation_mean=v.obs_rms.mean, "
        "observation_std=(v.obs_rms.var + v.epsilon) ** 0.5, ignore_clip=True)` folds them in, where `v` is the "
        "VecNormalize that you load."
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
