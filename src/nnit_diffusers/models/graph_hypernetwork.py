"""Graph HyperNetwork: architecture and latent in, structurally aligned weights out.

Shape legend: B networks, L linear layers of the deepest network, D node width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from ..architecture import MLPArchitecture, check_activation
from ..loading.hub import NNiTModelMixin
from ..loading.limits import MAX_DEPTH, MAX_PARAMETERS, MAX_PATCH_SIZE, check_sizes, check_statistics, check_total
from ..networks import MLP, layer_keys
from .embeddings import TaskEmbedding, check_labels, check_task_names
from .network_output import check_architectures, raw_network
from .spatial_decoder import SpatialDecoder


ROLES = ("first", "hidden", "last")


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
        task_names (`list[str]`, *optional*): Tasks that it generates networks for; `None` for one task.

    Raises:
        `ValueError`: If a size is not a positive integer or exceeds what `loading.limits` allows, the activation is
            unknown, statistics are not finite, or `task_names` are not distinct names.
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
        task_names: list[str] | None = None,
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
        num_tasks = check_task_names(task_names)
        # bound the total number of parameters
        templates = num_templates * max_width * (in_features + max_width + out_features)
        nodes = node_dim * ((8 * num_message_passes + 1) * node_dim + latent_dim + num_tasks + 2 * num_templates)
        maps = map_channels * (num_convolutions * (9 * map_channels + 2 * node_dim) + 2 * node_dim + 9 * upsampling**2)
        check_total("The parameters of `GraphHyperNetwork`", templates + nodes + maps, MAX_PARAMETERS)
        # layer embeddings
        self.node_embedding = nn.Sequential(nn.Linear(4, node_dim), nn.SiLU(), nn.Linear(node_dim, node_dim))
        self.latent_embedding = nn.Linear(latent_dim, node_dim)
        self.task_embedding = TaskEmbedding(num_tasks, node_dim) if num_tasks else None
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

    def embed(
        self,
        architectures: Sequence[MLPArchitecture],
        latents: torch.Tensor,
        task_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
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
        if self.task_embedding is not None:
            nodes_BLD = nodes_BLD + self.task_embedding(task_labels, len(shapes))[:, None]
        for message_pass in self.message_passes:
            nodes_BLD = message_pass(nodes_BLD, mask)
        return self.norm(nodes_BLD)

    def forward(
        self,
        architectures: Sequence[MLPArchitecture],
        latents: torch.Tensor,
        task_labels: torch.Tensor | None = None,
    ) -> list[dict[str, torch.Tensor]]:
        """Generates the weights of B networks, differentiable in the parameters and the latents.

        Parameters:
            architectures (`Sequence[MLPArchitecture]`): B architectures of any widths and depths.
            latents (`torch.Tensor`): `[B, latent_dim]`, standard normal.
            task_labels (`torch.Tensor`, *optional*): `[B]`, indices into `task_names`, if there are any.

        Returns:
            `list[dict[str, torch.Tensor]]`:
                State dict of every network, for inputs and outputs standardised with their statistics.

        Raises:
            `ValueError`: If `architectures` is empty or of another task, `latents` has another shape, or `task_labels`
                do not fit.
        """
        self.check_inputs(architectures, latents, task_labels)
        nodes_BLD = self.embed(architectures, latents, task_labels)
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

    def check_inputs(
        self, architectures: Sequence[MLPArchitecture], latents: torch.Tensor, task_labels: torch.Tensor | None
    ) -> None:
        """Raises `ValueError` if an argument of [`~GraphHyperNetwork.forward`] does not fit the model."""
        check_architectures(architectures, self.config)
        check_labels(task_labels, self.config.task_names, len(architectures), may_be_any=False)
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
        task_labels: torch.Tensor | None = None,
    ) -> list[MLP]:
        """Generates a network of raw inputs and outputs for each architecture.

        Parameters:
            architectures (`Sequence[MLPArchitecture]`): B architectures of any widths and depths.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): Draws the latents; one, or one each.
            latents (`torch.Tensor`, *optional*): `[B, latent_dim]`, instead of drawing them.
            task_labels (`torch.Tensor`, *optional*): `[B]`, indices into `task_names`, if there are any.

        Raises:
            `ValueError`: See [`~GraphHyperNetwork.forward`].
        """
        if latents is None:
            shape = (len(architectures), self.config.latent_dim)
            latents = randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype)
        return [
            raw_network(architecture, state_dict, self.config)
            for architecture, state_dict in zip(architectures, self(architectures, latents, task_labels), strict=True)
        ]
