"""Networks as vectors: all weights in a row, cut into pieces. What generators of weights did before NNiT.

Shape legend: B networks, N weights of a network, P pieces, p * p weights of a piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import nn

from nnit_diffusers import MLPArchitecture, WeightPatchTokenizer
from nnit_diffusers.models.patches import POSITION_FIELDS, WeightPatchBatch, cut, cut_bias


# Pieces of a row of the grid that numbers them: both of its sides are small numbers, as those of a patch are.
_PIECES_PER_ROW = 16


class VectorTokenizer(WeightPatchTokenizer):
    """Cuts the flat vector of all weights and biases, layer by layer, into pieces of p * p numbers.

    A piece has the size of a patch, its weights have the same scales, and padding is masked out as well. But where a
    piece begins in its layer, and whether it holds the end of one layer and the beginning of the next, depends on the
    widths of all layers before. So a piece is known by its number in the vector alone, as in diffusion over flattened
    weights.
    """

    def num_patches(self, architecture: MLPArchitecture) -> int:
        return -(-architecture.num_parameters // self.config.patch_size**2)

    def patch_layout(self, architecture: MLPArchitecture) -> tuple[torch.Tensor, torch.Tensor]:
        num_pieces, length = self.num_patches(architecture), self.config.patch_size**2
        index = torch.arange(num_pieces)
        # kind and layer are always the same, and rows and columns do not repeat in this layer
        positions = torch.zeros(num_pieces, len(POSITION_FIELDS), dtype=torch.long)
        positions[:, 3], positions[:, 4] = index // _PIECES_PER_ROW, index % _PIECES_PER_ROW
        elements = torch.arange(num_pieces * length) < architecture.num_parameters
        return positions, elements.unflatten(0, (num_pieces, length))

    def encode_stacked(
        self, stacked: Mapping[str, torch.Tensor], architecture: MLPArchitecture, standardised: bool = True
    ) -> torch.Tensor:
        patches = super().encode_stacked(stacked, architecture, standardised)
        length = self.config.patch_size**2
        vectors_BN = patches.flatten(1)[:, order_in_patches(architecture, self.config.patch_size)]
        padded = nn.functional.pad(vectors_BN, (0, -vectors_BN.shape[1] % length))
        return padded.unflatten(1, (-1, length))

    def decode_stacked(self, patches: torch.Tensor, architecture: MLPArchitecture) -> dict[str, torch.Tensor]:
        vectors_BN = patches.flatten(1)[:, : architecture.num_parameters]
        length = self.config.patch_size**2
        flat = patches.new_zeros(len(patches), super().num_patches(architecture) * length)
        order = order_in_patches(architecture, self.config.patch_size).to(patches.device)
        return super().decode_stacked(flat.index_copy(1, order, vectors_BN).unflatten(1, (-1, length)), architecture)


def vectors_of(patches: torch.Tensor, batch: WeightPatchBatch) -> torch.Tensor:
    """Numbers of every element of patches `[B, P, p * p]`, in the pieces of a batch of vectors; 0 in padding."""
    vectors = torch.zeros(batch.element_mask.shape)
    for row, architecture in enumerate(batch.architectures):
        order = order_in_patches(architecture, round(patches.shape[-1] ** 0.5))
        vectors[row].flatten()[: len(order)] = patches[row].flatten()[order]
    return vectors


@lru_cache(maxsize=4096)
def order_in_patches(architecture: MLPArchitecture, patch_size: int) -> torch.Tensor:
    """Where every number of the vector is among the flattened patches of a network, `[N]`."""
    numbered, start = [], 1
    for out_features, in_features in architecture.layer_shapes:
        weights = torch.arange(start, start + out_features * in_features).view(1, out_features, in_features)
        start += weights.numel()
        biases = torch.arange(start, start + out_features)[None]
        start += out_features
        numbered += [cut(weights, patch_size), cut_bias(biases, patch_size)]
    # padding has the number 0
    return torch.cat(numbered, dim=1).flatten().argsort()[-architecture.num_parameters :]
