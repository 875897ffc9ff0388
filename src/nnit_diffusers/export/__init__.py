"""Export of networks to the file formats of other programs, listed in [`EXPORT_FORMATS`].

Every exporter takes an [`MLP`] and returns the bytes of a file, or of each file of a folder; [`export_network`] writes
them. Exports are float32; only C code may have 8-bit weights.
"""

from .c_header import Footprint, footprint, to_c
from .formats import EXPORT_FORMATS, ExportFormat, contract_path, export_network
from .lerobot import LEROBOT_PREPROCESSOR, to_lerobot
from .onnx_model import ONNX_IR_VERSION, ONNX_OPSET, to_onnx
from .ppo import (
    CLEANRL_AGENT,
    MANISKILL_AGENT,
    PPOAgent,
    actor_source,
    rsl_rl_settings,
    to_cleanrl,
    to_maniskill_ppo,
    to_ppo_checkpoint,
    to_rsl_rl,
)
from .quantization import QuantizedMLP, quantize
from .stable_baselines import to_sb3
from .torch_formats import to_safetensors, to_torch_export


__all__ = [
    "CLEANRL_AGENT",
    "EXPORT_FORMATS",
    "LEROBOT_PREPROCESSOR",
    "MANISKILL_AGENT",
    "ONNX_IR_VERSION",
    "ONNX_OPSET",
    "ExportFormat",
    "Footprint",
    "PPOAgent",
    "QuantizedMLP",
    "actor_source",
    "contract_path",
    "export_network",
    "footprint",
    "quantize",
    "rsl_rl_settings",
    "to_c",
    "to_cleanrl",
    "to_lerobot",
    "to_maniskill_ppo",
    "to_onnx",
    "to_ppo_checkpoint",
    "to_rsl_rl",
    "to_safetensors",
    "to_sb3",
    "to_torch_export",
]
