"""Patches of weights: how matrices are cut, where each patch is, and batches of them.

Shape legend: B networks, P patches (padded to the longest of the batch), p side of a patch, S slots for hidden layers,
O/I output and input features of a layer, H/W rows and columns of patches of one matrix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..architecture import MLPArchitecture


WEIGHT_PATCH, BIAS_PATCH = 0, 1
POSITION_FIELDS = ("kind", "layer", "layers_behind", "row", "column")


@dataclass
class WeightPatchBatch:
    """Networks of any architectures as one padded batch of patches.

    Attributes:
        patches (`torch.Tensor`): `[B, P, p * p]`, standardised weights; 0 in padding.
        positions (`torch.Tensor`):
            `[B, P, 5]` integers: kind (0 weights, 1 biases), index of the linear layer, number of linear layers behind
            it, row and column of the patch.
        attention_mask (`torch.Tensor`): `[B, P]`, `True` for patches that exist.
        element_mask (`torch.Tensor`): `[B, P, p * p]`, `True` for weights that exist.
        architecture_tokens (`torch.Tensor`): `[B, S]`, as many as the deepest needs; see [`~MLPArchitecture.tokens`].
        architectures (`list[MLPArchitecture]`): The B architectures.
        task_labels (`torch.Tensor`, *optional*): `[B]`, what the networks are for, for a model of several tasks.
    """

    patches: torch.Tensor
    positions: torch.Tensor
    attention_mask: torch.Tensor
    element_mask: torch.Tensor
    architecture_tokens: torch.Tensor
    architectures: list[MLPArchitecture]
    task_labels: torch.Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> WeightPatchBatch:
        """Moves all tensors; a dtype applies only to `patches`."""
        device = torch.empty(0, dtype=torch.uint8).to(*args, **kwargs).device
        return WeightPatchBatch(
            self.patches.to(*args, **kwargs),
            self.positions.to(device),
            self.attention_mask.to(device),
            self.element_mask.to(device),
            self.architecture_tokens.to(device),
            self.architectures,
            None if self.task_labels is None else self.task_labels.to(device),
        )


def computing_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    """Dtype to convert weights or patches in: float64 on the CPU, and elsewhere only if they or the result have it."""
    if tensor.device.type == "cpu":
        return torch.float64
    return torch.promote_types(torch.promote_types(tensor.dtype, dtype), torch.float32)


def num_patches(architecture: MLPArchitecture, patch_size: int) -> int:
    """Number of patches of a network of this architecture."""
    return sum(
        -(-rows // patch_size) * -(-columns // patch_size) + -(-rows // patch_size**2)
        for rows, columns in architecture.layer_shapes
    )


@lru_cache(maxsize=4096)
def patch_layout(architecture: MLPArchitecture, patch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions `[P, 5]` and element mask `[P, p * p]` of one network: per layer first weights, then biases."""
    positions, elements = [], []
    shapes = architecture.layer_shapes
    for layer, (out_features, in_features) in enumerate(shapes):
        weights = cut(torch.ones(1, out_features, in_features), patch_size)
        biases = cut_bias(torch.ones(1, out_features), patch_size)
        columns = -(-in_features // patch_size)
        for kind, patches, per_row in ((WEIGHT_PATCH, weights, columns), (BIAS_PATCH, biases, 1)):
            index = torch.arange(patches.shape[1])
            layer_fields = torch.tensor([kind, layer, len(shapes) - 1 - layer]).expand(len(index), -1)
            positions.append(torch.cat([layer_fields, torch.stack([index // per_row, index % per_row], 1)], dim=1))
            elements.append(patches[0].bool())
    return torch.cat(positions), torch.cat(elements)


def group_by_architecture(architectures: Sequence[MLPArchitecture]) -> dict[MLPArchitecture, list[int]]:
    """Batch indices of the networks of each architecture, which can be stacked."""
    groups: dict[MLPArchitecture, list[int]] = defaultdict(list)
    for index, architecture in enumerate(architectures):
        groups[architecture].append(index)
    return groups


def cut(matrix_BOI: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cuts matrices `[B, O, I]` into zero-padded patches `[B, H * W, p * p]`, row by row."""
    _, out_features, in_features = matrix_BOI.shape
    padding = (0, -in_features % patch_size, 0, -out_features % patch_size)
    padded = nn.functional.pad(matrix_BOI, padding)
    grid_BHpWp = padded.unflatten(2, (-1, patch_size)).unflatten(1, (-1, patch_size))
    return grid_BHpWp.transpose(2, 3).flatten(3).flatten(1, 2)


def join(
    patches: torch.Tensor, out_features: int, in_features: int, patch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of [`cut`] on the first patches; returns matrices `[B, O, I]` and the remaining patches."""
    rows, columns = -(-out_features // patch_size), -(-in_features // patch_size)
    own, remaining = patches.split([rows * columns, patches.shape[1] - rows * columns], dim=1)
    grid_BHWpp = own.unflatten(2, (patch_size, patch_size)).unflatten(1, (rows, columns))
    matrix = grid_BHWpp.transpose(2, 3).flatten(3).flatten(1, 2)
    return matrix[:, :out_features, :in_features], remaining


def cut_bias(bias_BO: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cuts biases `[B, O]` into zero-padded patches of p * p biases each."""
    padded = nn.functional.pad(bias_BO, (0, -bias_BO.shape[1] % patch_size**2))
    return padded.unflatten(1, (-1, patch_size**2))


def join_bias(patches: torch.Tensor, out_features: int, patch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of [`cut_bias`] on the first patches; returns biases `[B, O]` and the remaining patches."""
    count = -(-out_features // patch_size**2)
    own, remaining = patches.split([count, patches.shape[1] - count], dim=1)
    return own.flatten(1)[:, :out_features], remaining
