"""Exports for torch: a state dict in safetensors, and a program of `torch.export`."""

from __future__ import annotations

import io
import json
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ..contract import CONTRACT_KEY
from ..networks import MLP
from .common import (
    action_bounds,
    contract_json,
    exported_architecture,
    float32_state_dict,
    inference_copy,
)


def to_safetensors(network: MLP) -> bytes:
    """The state dict, with keys `0.weight`, `0.bias`, `2.weight`, …, and the architecture as JSON in the metadata."""
    metadata = {"architecture": json.dumps(exported_architecture(network).to_dict())}
    contract = contract_json(network)
    if contract is not None:
        metadata[CONTRACT_KEY] = contract
    return _with_sorted_metadata(save(float32_state_dict(network), metadata=metadata))


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with its metadata in order: safetensors writes it in random order, so bytes would differ."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


class _Clipped(nn.Module):
    """A network whose outputs are clipped."""

    def __init__(self, network: nn.Module, low: torch.Tensor, high: torch.Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.network(observations).clamp(self.low, self.high)


def to_torch_export(network: MLP, clip_actions: Any = None) -> bytes:
    """A program for `torch.export.load(path).module()`, which needs torch but not this package.

    Inputs are `[N, I]` for any N. A contract is the extra file `nnit_contract`:
    `torch.export.load(path, extra_files=files)` with `files = {"nnit_contract": ""}`.

    Parameters:
        network ([`MLP`]): The network.
        clip_actions (`bool` or `tuple`, *optional*): Bounds of the outputs; see [`action_bounds`].
    """
    bounds, contract = action_bounds(network, clip_actions), contract_json(network)
    network = inference_copy(network)
    module: nn.Module = network
    if bounds is not None:
        module = _Clipped(network, *map(torch.from_numpy, bounds)).eval()
    example = torch.zeros(2, network.architecture.in_features)
    # Two rows, because torch would treat a dimension of size 1 as constant.
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=None if contract is None else {CONTRACT_KEY: contract})
    return content.getvalue()
