"""Splits requests of any size into parts that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..models.patches import WeightPatchBatch


MAX_PATCHES_PER_FORWARD = 16384
"""Maximum number of patches in a forward pass of the transformer, padding included."""


def split_batch(
    batch: WeightPatchBatch, max_patches: int = MAX_PATCHES_PER_FORWARD, num_slots: Sequence[int] | None = None
) -> list[tuple[list[int], dict[str, Any]]]:
    """Splits a batch into parts for separate forward passes of the transformer.

    Networks of similar size share a part, so that parts have little padding. A part has one number of
    architecture tokens, since padding would change what the transformer predicts.

    Parameters:
        batch (`WeightPatchBatch`): B networks with known architectures.
        max_patches (`int`): Maximum number of patches of a part, padding included, unless a single network has more.
        num_slots (`Sequence[int]`, *optional*):
            Number of architecture tokens of each network; all of the batch by default.

    Returns:
        `list[tuple[list[int], dict[str, Any]]]`:
            For each part its rows in the batch, and the inputs of the transformer that stay the same in all steps.
    """
    slots = num_slots or [batch.architecture_tokens.shape[1]] * len(batch.architectures)
    num_patches = batch.attention_mask.sum(dim=1).tolist()
    parts: list[list[int]] = []
    for row in sorted(range(len(num_patches)), key=lambda row: (slots[row], num_patches[row])):
        is_full = parts and (len(parts[-1]) + 1) * num_patches[row] > max_patches
        if not parts or is_full or slots[row] != slots[parts[-1][0]]:
            parts.append([])
        parts[-1].append(row)
    return [
        (rows, _conditions(batch, rows, slots[rows[0]], num_patches[rows[0]], num_patches[rows[-1]])) for rows in parts
    ]


def _conditions(
    batch: WeightPatchBatch, rows: list[int], num_slots: int, shortest: int, longest: int
) -> dict[str, Any]:
    """Inputs of the transformer for these networks, except noisy patches and timestep."""
    return {
        "architecture_tokens": batch.architecture_tokens[rows, :num_slots],
        "task_labels": None if batch.task_labels is None else batch.task_labels[rows],
        "architecture_timestep": torch.zeros(len(rows), device=batch.patches.device),
        "patch_positions": batch.positions[rows, :longest],
        # Without padding no mask is needed, so every attention backend works.
        "attention_mask": batch.attention_mask[rows, :longest] if shortest < longest else None,
    }
