"""The decoder of a hypernetwork: an embedding of a layer in, its weight matrix out.

Shape legend: M linear layers of all networks, D node width, C map channels, T templates, H/W rows and columns of a
latent map, O/I output and input features of a layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn


_POSITION_DIM = 32
_POSITION_PERIOD = 64
_EPS = 1e-6
# Longest side of a latent map that is padded to be decoded with others.
_MAX_PADDED_SIDE = 8


class FiLMConv(nn.Module):
    """Residual 3 x 3 convolution; the layer's embedding scales and shifts its channels."""

    def __init__(self, channels: int, node_dim: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(node_dim, 2 * channels)

    def forward(self, maps_MCHW: torch.Tensor, nodes_MD: torch.Tensor) -> torch.Tensor:
        scale, shift = self.film(nodes_MD)[..., None, None].chunk(2, dim=1)
        maps = self.conv(maps_MCHW)
        maps = maps * torch.rsqrt(maps.square().mean(dim=1, keepdim=True) + _EPS)
        return maps_MCHW + F.silu(maps * (1 + scale) + shift)


class SpatialDecoder(nn.Module):
    """Decodes layer embeddings into weight matrices: a low-resolution latent map, convolutions, a pixel shuffle.

    Convolutions give the part that varies smoothly over rows and columns. The rest comes from learned full-resolution
    templates, a bank per role, which the embedding mixes. Templates repeat beyond `max_width`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_width: int,
        node_dim: int,
        map_channels: int,
        num_convolutions: int,
        num_templates: int,
        upsampling: int,
    ):
        super().__init__()
        self.upsampling = upsampling
        # latent map
        self.position_embedding = nn.Linear(2 * _POSITION_DIM, map_channels)
        self.input_film = nn.Linear(node_dim, 2 * map_channels)
        self.convolutions = nn.ModuleList(FiLMConv(map_channels, node_dim) for _ in range(num_convolutions))
        # output heads
        self.to_weight = nn.Conv2d(map_channels, upsampling**2, 3, padding=1)
        self.to_bias = nn.Linear(map_channels, upsampling)
        self.to_mixture = nn.Linear(node_dim, 2 * num_templates)
        self.to_gain = nn.Linear(node_dim, 1)
        # templates per role; created empty, then filled: while a checkpoint loads, they stay on the meta device
        sizes = ((max_width, in_features), (max_width, max_width), (out_features, max_width))
        self.weight_templates = nn.ParameterList(torch.empty(num_templates, *size) for size in sizes)
        self.bias_templates = nn.ParameterList(torch.empty(num_templates, size[0]) for size in sizes)
        for weight_template in self.weight_templates:
            nn.init.normal_(weight_template)
        for bias_template in self.bias_templates:
            nn.init.normal_(bias_template, std=0.1)
        nn.init.zeros_(self.to_gain.weight)
        nn.init.zeros_(self.to_gain.bias)

    def _position_features(self, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
        """`[rows, columns, 2 * _POSITION_DIM]` sinusoidal features, with the dtype and device of `like`."""
        index = torch.arange(max(rows, columns), device=like.device)
        features = get_timestep_embedding(index, _POSITION_DIM, max_period=_POSITION_PERIOD).to(like.dtype)
        grid = [features[:rows, None].expand(-1, columns, -1), features[None, :columns].expand(rows, -1, -1)]
        return torch.cat(grid, dim=-1)

    def map_size(self, out_features: int, in_features: int) -> tuple[int, int]:
        """Rows and columns of the latent map of a layer."""
        return -(-out_features // self.upsampling), -(-in_features // self.upsampling)

    def smooth_part(
        self, nodes_MD: torch.Tensor, sizes: Sequence[tuple[int, int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the latent maps of M layers give to their weights and biases, padded to the largest map.

        Outside of its own map a layer has zeros before every convolution, as at the border of a map without padding.
        So a layer does not depend on the others.

        Parameters:
            nodes_MD (`torch.Tensor`): `[M, D]` embeddings of the layers.
            sizes (`Sequence[tuple[int, int]]`): Rows and columns of each latent map.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: `[M, rows * upsampling, columns * upsampling]` and
                `[M, rows * upsampling]`.
        """
        sizes_M2 = torch.tensor(sizes, device=nodes_MD.device)
        rows, columns = map(max, zip(*sizes))
        mask_M1HW = None if len(set(sizes)) == 1 else _mask(sizes_M2, rows, columns).to(nodes_MD.dtype)
        # latent maps
        scale, shift = self.input_film(nodes_MD)[:, None, None].chunk(2, dim=-1)
        positions_HWC = self.position_embedding(self._position_features(rows, columns, nodes_MD))
        maps_MCHW = (positions_HWC * (1 + scale) + shift).permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            maps_MCHW = convolution(maps_MCHW if mask_M1HW is None else maps_MCHW * mask_M1HW, nodes_MD)
        if mask_M1HW is not None:
            maps_MCHW = maps_MCHW * mask_M1HW
        # weights and biases
        weight = F.pixel_shuffle(self.to_weight(maps_MCHW), self.upsampling)[:, 0]
        means_MCH = maps_MCHW.sum(dim=3) / sizes_M2[:, 1:, None].to(nodes_MD.dtype)
        return weight, self.to_bias(means_MCH.mT).flatten(1)

    def forward(
        self, nodes_MD: torch.Tensor, shapes: Sequence[tuple[int, int, int]]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight `[O, I]` and bias `[O]` of M layers.

        Parameters:
            nodes_MD (`torch.Tensor`): `[M, D]` embeddings of the layers.
            shapes (`Sequence[tuple[int, int, int]]`): Role, outputs and inputs of each layer.
        """
        # Small maps are padded and decoded at once, because many small convolutions take longer than one. Large ones
        # are decoded by size, because padding would cost more.
        sizes = [self.map_size(*shape[1:]) for shape in shapes]
        batches: dict[tuple[int, int], list[int]] = defaultdict(list)
        for layer, (rows, columns) in enumerate(sizes):
            batches[(0, 0) if max(rows, columns) <= _MAX_PADDED_SIDE else (rows, columns)].append(layer)
        decoded: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for batch in batches.values():
            weights, biases = self.smooth_part(nodes_MD[batch], [sizes[layer] for layer in batch])
            # layers of the same role and shape
            groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
            for index, layer in enumerate(batch):
                groups[shapes[layer]].append(index)
            for (role, out_features, in_features), members in groups.items():
                layers = [batch[index] for index in members]
                own, own_biases = (weights, biases) if len(groups) == 1 else (weights[members], biases[members])
                cropped = own[:, :out_features, :in_features], own_biases[:, :out_features]
                finished = self.add_templates(nodes_MD[layers], role, *cropped)
                decoded |= zip(layers, zip(*finished, strict=True), strict=True)
        return [decoded[layer] for layer in range(len(shapes))]

    def add_templates(
        self, nodes_MD: torch.Tensor, role: int, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the templates of a role to weights `[M, O, I]` and biases `[M, O]`, and scales the weights."""
        out_features, in_features = weight.shape[1:]
        # add the mixture of templates
        weight_mixture, bias_mixture = self.to_mixture(nodes_MD).chunk(2, dim=-1)
        templates = _repeat_to(_repeat_to(self.weight_templates[role], 1, out_features), 2, in_features)
        weight = weight + torch.einsum("mt,toi->moi", weight_mixture, templates)
        bias = bias + bias_mixture @ _repeat_to(self.bias_templates[role], 1, out_features)

        # scale each matrix to its learned RMS
        gain = torch.exp(self.to_gain(nodes_MD))[..., None] * (2 / in_features) ** 0.5
        return gain * weight * torch.rsqrt(weight.square().mean(dim=(1, 2), keepdim=True) + _EPS), bias


def _mask(sizes_M2: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """`[M, 1, rows, columns]`: whether an entry is within the first rows and columns that each map has."""
    in_rows = torch.arange(rows, device=sizes_M2.device) < sizes_M2[:, :1]
    in_columns = torch.arange(columns, device=sizes_M2.device) < sizes_M2[:, 1:]
    return (in_rows[:, :, None] & in_columns[:, None])[:, None]


def _repeat_to(templates: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """The first `size` entries along `dim`; the templates repeat where they are too small."""
    if size <= templates.shape[dim]:
        return templates.narrow(dim, 0, size)
    return templates.index_select(dim, torch.arange(size, device=templates.device) % templates.shape[dim])
