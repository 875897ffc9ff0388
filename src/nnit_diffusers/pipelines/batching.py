"""Requests of any size, in parts that fit into memory."""

from __future__ import annotations

from typing import Any

import torch

from ..models.weight_patch_tokenizer import WeightPatchBatch


MAX_PATCHES_PER_FORWARD = 16384
"""Patches that the transformer is given at once, padding included."""


def split_batch(
    batch: WeightPatchBatch, max_patches: int = MAX_PATCHES_PER_FORWARD
) -> list[tuple[list[int], dict[str, Any]]]:
    """Parts of a batch that the transformer is given one after the other: their rows, and their conditions.

    Networks of similar size share a part, so that little of it is padding.

    Parameters:
        batch (`WeightPatchBatch`): B networks with known architectures.
        max_patches (`int`): Patches of a part, padding included, unless a single network has more.
    """
    num_patches = batch.attention_mask.sum(dim=1).tolist()
    parts: list[list[int]] = []
    for row in sorted(range(len(num_patches)), key=lambda row: num_patches[row]):
        if not parts or (len(parts[-1]) + 1) * num_patches[row] > max_patches:
            parts.append([])
        parts[-1].append(row)
    return [(rows, _conditions(batch, rows, num_patches[rows[0]], num_patches[rows[-1]])) for rows in parts]


def _conditions(batch: WeightPatchBatch, rows: list[int], shortest: int, longest: int) -> dict[str, Any]:
    """What the transformer is told of these networks: all but their noisy patches and the timestep."""
    return {
        "architecture_tokens": batch.architecture_tokens[rows],
        "architecture_timestep": torch.zeros(len(rows), device=batch.patches.device),
        "patch_positions": batch.positions[rows, :longest],
        # Without padding no mask is needed, and every attention backend will do.
        "attention_mask": batch.attention_mask[rows, :longest] if shortest < longest else None,
    }
