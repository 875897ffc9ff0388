"""The formats, by name, and the function that writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..networks import MLP
from ..writing import replacing_folder, write_bytes
from .c_header import to_c
from .common import contract_json
from .lerobot import to_lerobot
from .onnx_model import to_onnx
from .ppo import to_cleanrl, to_maniskill_ppo, to_rsl_rl
from .stable_baselines import to_sb3
from .torch_formats import to_safetensors, to_torch_export


@dataclass(frozen=True)
class ExportFormat:
    """One format of [`EXPORT_FORMATS`].

    Parameters:
        suffix (`str`): Suffix of its files; `""` for a folder.
        encode (`Callable[..., bytes | dict[str, bytes]]`):
            Converts a network to the content of a file, or to a dictionary from file names to contents for a folder.
        summary (`str`): The program that reads the format.
        options (`tuple[str, ...]`): Names of further arguments of `encode`.
        holds_contract (`bool`, defaults to `True`):
            If the contract of a network is in the file or folder. Otherwise it is a file beside it; see
            [`contract_path`].
    """

    suffix: str
    encode: Callable[..., bytes | dict[str, bytes]]
    summary: str
    options: tuple[str, ...] = ()
    holds_contract: bool = True


EXPORT_FORMATS: Mapping[str, ExportFormat] = {
    "safetensors": ExportFormat(".safetensors", to_safetensors, "state dict of an `nn.Sequential`"),
    "torch-export": ExportFormat(
        ".pt2", to_torch_export, "`torch.export.load`, without this package", ("clip_actions",)
    ),
    "onnx": ExportFormat(".onnx", to_onnx, "onnxruntime and other ONNX runtimes", ("batch_size", "clip_actions")),
    "c": ExportFormat(
        ".h", to_c, "C99 and C++ on microcontrollers", ("quantize", "prefix", "clip_actions"), holds_contract=False
    ),
    "maniskill-ppo": ExportFormat(
        ".pt", to_maniskill_ppo, "`--checkpoint` of ManiSkill's ppo.py", ("adapted_agent",), holds_contract=False
    ),
    "cleanrl": ExportFormat(
        ".cleanrl_model",
        to_cleanrl,
        "the agent of CleanRL's ppo_continuous_action.py",
        ("adapted_agent",),
        holds_contract=False,
    ),
    "rsl-rl": ExportFormat(".pt", to_rsl_rl, "`OnPolicyRunner.load` of RSL-RL"),
    "sb3": ExportFormat(".zip", to_sb3, "`PPO.load` of Stable-Baselines3", ("clip_actions",)),
    "lerobot": ExportFormat("", to_lerobot, "`--policy.path` of LeRobot, with nnit_diffusers.integrations.lerobot"),
}


def contract_path(path: str | Path) -> Path:
    """Where the contract of an exported network is, if its format has no room for one: `<path>.contract.json`."""
    path = Path(path)
    return path.with_name(f"{path.name}.contract.json")


def export_network(network: MLP, path: str | Path, format: str, **options: Any) -> Path:
    """Exports a network for another program, by an atomic write that replaces a file or folder of that name.

    The contract of a network (`network.contract`) goes with it, as `nnit_contract`: in the file or folder, or in a
    file beside it ([`contract_path`]) where the format has no room. A file beside it from another export is deleted.

    Parameters:
        network ([`MLP`]): The network.
        path (`str` or `Path`): The file, or the folder for `"lerobot"`.
        format (`str`): One of [`EXPORT_FORMATS`].
        options (`Any`):
            Further arguments of the exporter, as [`EXPORT_FORMATS`] lists them: `adapted_agent` for `"maniskill-ppo"`
            and `"cleanrl"`, `batch_size` for `"onnx"`, `quantize` and `prefix` for `"c"`, and `clip_actions`, `True`
            or `(low, high)`, for `"onnx"`, `"torch-export"`, `"c"` and `"sb3"`.

    Returns:
        `Path`: The file or folder.

    Raises:
        `ValueError`:
            If `format` or an option is unknown, the network is not an [`MLP`], or the format does not support it.
        `ImportError`: If the format needs a package that is not installed.
    """
    if format not in EXPORT_FORMATS:
        raise ValueError(f"`format` must be one of {tuple(EXPORT_FORMATS)}, but received {format!r}.")
    chosen = EXPORT_FORMATS[format]
    unknown = sorted(set(options) - set(chosen.options))
    if unknown:
        raise ValueError(
            f"`options` of format {format!r} must be of {chosen.options or 'none'}, but received {unknown}."
        )

    # encode, then write the file or folder
    content, contract = chosen.encode(network, **options), contract_json(network)
    if isinstance(content, bytes):
        write_bytes(path, content)
    else:
        with replacing_folder(path) as folder:
            for name, of_file in content.items():
                (folder / name).write_bytes(of_file)
    # the contract beside it, never that of another network
    beside = contract_path(path)
    if contract is not None and not chosen.holds_contract:
        write_bytes(beside, f"{contract}\n".encode())
    else:
        beside.unlink(missing_ok=True)
    return Path(path)
