"""Graph HyperNetwork: architecture and latent in, structurally aligned weights out.

Shape legend: B networks, L linear layers of the deepest network, M linear layers of all networks, D node width.
C map channels, T templates, H/W rows and columns of a latent map, O/I output and input features of a layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from ..architecture import MLPArchitecture, check_activation
from ..loading.hub import NNiTModelMixin
from ..loading.limits import MAX_DEPTH, MAX_PARAMETERS, MAX_PATCH_SIZE, check_sizes, check_statistics, check_total
from ..networks import MLP, layer_keys
from .network_output import check_architectures, raw_network


ROLES = ("first", "hidden", "last")
_POSITION_DIM = 32
_POSITION_PERIOD = 64
_EPS = 1e-6
# Longest side of a latent map that is padded to be decoded with others.
_MAX_PADDED_SIDE = 8


def layer_role(layer: int, num_layers: int) -> int:
    """Index into `ROLES` of a linear layer; layers are counted from the input."""
    return 0 if layer == 0 else 2 if layer == num_layers - 1 else 1


class MessagePass(nn.Module):
    """One residual round of messages from every layer to its two neighbours on the chain."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.from_previous = nn.Linear(dim, dim, bias=False)
        self.from_next = nn.Linear(dim, dim, bias=False)
        self.update = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, nodes_BLD: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """`[B, L, D]` embeddings and `[B, L]` mask (1 for existing layers) -> `[B, L, D]`."""
        normed = self.norm(nodes_BLD) * mask_BL[..., None]
        previous = F.pad(self.from_previous(normed)[:, :-1], (0, 0, 1, 0))
        following = F.pad(self.from_next(normed)[:, 1:], (0, 0, 0, 1))
        return nodes_BLD + self.update(torch.cat([normed, previous + following], dim=-1))


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


class GraphHyperNetwork(NNiTModelMixin, ConfigMixin):
    """Generates the weights of MLPs of any width and depth, aligned across architectures.

    Implements the structurally aligned GHN of NNiT (https://huggingface.co/papers/2603.00180). An architecture is a
    chain graph with a node per linear layer, described by its log widths and role. Nodes exchange messages, and a
    spatial CNN decoder turns each node into a weight matrix. Every latent gives a distinct network, and all networks
    share one alignment: unit j of a layer means the same in all of them. The RMS of a weight matrix is its learned
    gain, in units of `sqrt(2 / fan_in)`.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of every network.
        max_width (`int`, defaults to 64): Units of the full-resolution templates, which repeat in wider layers.
        latent_dim (`int`, defaults to 16): Size of a latent.
        node_dim (`int`, defaults to 64): Width of the layer embeddings.
        num_message_passes (`int`, defaults to 1):
            Rounds of messages between neighbouring layers. After one round a layer depends only on its direct
            neighbours, so a network deeper than those in training still consists of known neighbourhoods. After two
            rounds it does not.
        map_channels (`int`, defaults to 48): Channels of the latent maps.
        num_convolutions (`int`, defaults to 2): Convolutions at low resolution.
        num_templates (`int`, defaults to 16): Learned full-resolution templates per role.
        upsampling (`int`, defaults to 8): Side of the block of weights decoded from one entry of a latent map.
        observation_mean, observation_std (`list[float]`, *optional*):
            Statistics that standardise the networks' inputs in training. [`~GraphHyperNetwork.generate`] folds them
            into the first layer, so that its networks take raw inputs.
        output_mean, output_std (`list[float]`, *optional*):
            Statistics that standardise the networks' outputs in training. [`~GraphHyperNetwork.generate`] folds them
            into the last layer, so that its networks return raw outputs.

    Raises:
        `ValueError`: If a size is not a positive integer or exceeds what `loading.limits` allows, the activation is
            unknown, or statistics are not finite.
    """

    @register_to_config
    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "relu",
        max_width: int = 64,
        latent_dim: int = 16,
        node_dim: int = 64,
        num_message_passes: int = 1,
        map_channels: int = 48,
        num_convolutions: int = 2,
        num_templates: int = 16,
        upsampling: int = 8,
        observation_mean: list[float] | None = None,
        observation_std: list[float] | None = None,
        output_mean: list[float] | None = None,
        output_std: list[float] | None = None,
    ):
        super().__init__()
        # check every size before memory is allocated
        check_activation(activation)
        check_sizes(in_features=in_features, out_features=out_features, max_width=max_width, latent_dim=latent_dim)
        check_sizes(node_dim=node_dim, map_channels=map_channels, num_templates=num_templates)
        check_sizes(num_message_passes=num_message_passes, num_convolutions=num_convolutions, most=MAX_DEPTH, least=0)
        check_sizes(upsampling=upsampling, most=MAX_PATCH_SIZE)
        check_statistics(observation_mean, observation_std, in_features)
        check_statistics(output_mean, output_std, out_features, "output")
        # bound the total number of parameters
        templates = num_templates * max_width * (in_features + max_width + out_features)
        nodes = node_dim * ((8 * num_message_passes + 1) * node_dim + latent_dim + 2 * num_templates)
        maps = map_channels * (num_convolutions * (9 * map_channels + 2 * node_dim) + 2 * node_dim + 9 * upsampling**2)
        check_total("The parameters of `GraphHyperNetwork`", templates + nodes + maps, MAX_PARAMETERS)
        # layer embeddings
        self.node_embedding = nn.Sequential(nn.Linear(4, node_dim), nn.SiLU(), nn.Linear(node_dim, node_dim))
        self.latent_embedding = nn.Linear(latent_dim, node_dim)
        self.message_passes = nn.ModuleList(MessagePass(node_dim) for _ in range(num_message_passes))
        self.norm = nn.LayerNorm(node_dim)
        # weights
        self.decoder = SpatialDecoder(
            in_features,
            out_features,
            max_width,
            node_dim,
            map_channels,
            num_convolutions,
            num_templates,
            upsampling,
        )

    def embed(self, architectures: Sequence[MLPArchitecture], latents: torch.Tensor) -> torch.Tensor:
        """`[B, L, D]` embeddings of the linear layers of B networks, padded to the deepest one."""
        shapes = [architecture.layer_shapes for architecture in architectures]
        num_layers = max(map(len, shapes))
        # node features: log2 of both widths, is it the first layer, is it the last
        features, mask = torch.zeros(len(shapes), num_layers, 4), torch.zeros(len(shapes), num_layers)
        for network, layers in enumerate(shapes):
            sizes = torch.tensor(layers, dtype=torch.float32)
            features[network, : len(layers), :2] = torch.log2(sizes) / 4 - 1
            features[network, 0, 2] = features[network, len(layers) - 1, 3] = 1
            mask[network, : len(layers)] = 1
        features, mask = features.to(latents), mask.to(latents)
        # messages along the chain
        nodes_BLD = self.node_embedding(features) + self.latent_embedding(latents)[:, None]
        for message_pass in self.message_passes:
            nodes_BLD = message_pass(nodes_BLD, mask)
        return self.norm(nodes_BLD)

    def forward(
        self, architectures: Sequence[MLPArchitecture], latents: torch.Tensor
    ) -> list[dict[str, torch.Tensor]]:
        """Generates the weights of B networks, differentiable in the parameters and the latents.

        Parameters:
            architectures (`Sequence[MLPArchitecture]`): B architectures of any widths and depths.
            latents (`torch.Tensor`): `[B, latent_dim]`, standard normal.

        Returns:
            `list[dict[str, torch.Tensor]]`:
                State dict of every network, for inputs and outputs standardised with their statistics.

        Raises:
            `ValueError`: If `architectures` is empty or of another task, or `latents` has another shape.
        """
        self.check_inputs(architectures, latents)
        nodes_BLD = self.embed(architectures, latents)
        # the linear layers of all networks
        members, shapes = [], []
        for network, architecture in enumerate(architectures):
            for layer, shape in enumerate(architecture.layer_shapes):
                members.append((network, layer))
                shapes.append((layer_role(layer, architecture.depth + 1), *shape))
        networks, layers = torch.tensor(members, device=nodes_BLD.device).unbind(1)
        decoded = iter(self.decoder(nodes_BLD[networks, layers], shapes))
        # as state dicts
        state_dicts = []
        for architecture in architectures:
            keys = layer_keys(architecture.depth + 1)
            state_dicts.append({key: tensor for pair in keys for key, tensor in zip(pair, next(decoded), strict=True)})
        return state_dicts

    def check_inputs(self, architectures: Sequence[MLPArchitecture], latents: torch.Tensor) -> None:
        """Raises `ValueError` if `architectures` is empty or of another task, or `latents` has another shape."""
        check_architectures(architectures, self.config)
        if latents.shape != (len(architectures), self.config.latent_dim):
            raise ValueError(
                f"`latents` must be of shape {(len(architectures), self.config.latent_dim)} (networks, latent_dim), "
                f"but received {tuple(latents.shape)}."
            )

    @torch.no_grad()
    def generate(
        self,
        architectures: Sequence[MLPArchitecture],
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
    ) -> list[MLP]:
        """Generates a network of raw inputs and outputs for each architecture.

        Parameters:
            architectures (`Sequence[MLPArchitecture]`): B architectures of any widths and depths.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): Draws the latents; one, or one each.
            latents (`torch.Tensor`, *optional*): `[B, latent_dim]`, instead of drawing them.

        Raises:
            `ValueError`: See [`~GraphHyperNetwork.forward`].
        """
        if latents is None:
            shape = (len(architectures), self.config.latent_dim)
            latents = randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype)
        return [
            raw_network(architecture, state_dict, self.config)
            for architecture, state_dict in zip(architectures, self(architectures, latents), strict=True)
        ]
