"""Nested slices: one MLP for each depth, whose first units form a working MLP of every smaller width.

Shape legend: B networks, O/I output and input features of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

from ..architecture import MLPArchitecture, check_activation
from ..loading.hub import NNiTModelMixin
from ..loading.limits import MAX_DEPTH, MAX_PARAMETERS, check_sizes, check_statistics, check_total
from ..networks import MLP, layer_keys
from .network_output import check_architectures, raw_network


# Width at which weights have torch's own initial size. The inputs of other widths are scaled, so that a layer's
# outputs have about the same size at every width.
_REFERENCE_WIDTH = 64


class NestedMLP(NNiTModelMixin, ConfigMixin):
    """MLPs of every width, each a slice of one MLP of the largest width; there is one such MLP for each depth.

    The first units of each hidden layer form the smaller network, as in slimmable networks
    (https://huggingface.co/papers/1903.05134). It is the simplest way to networks of any width, and so the baseline
    of a [`GraphHyperNetwork`]. In exchange, it gives one network of each shape, and no depth but those it was
    trained on.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of every network.
        max_width (`int`, defaults to 64): Largest width.
        min_depth, max_depth (`int`, default to 1 and 3): Fewest and most hidden layers.
        observation_mean, observation_std (`list[float]`, *optional*):
            Statistics that standardise the networks' inputs in training. [`~NestedMLP.generate`] folds them into the
            first layer, so that its networks take raw inputs.
        output_mean, output_std (`list[float]`, *optional*):
            Statistics that standardise the networks' outputs in training. [`~NestedMLP.generate`] folds them into the
            last layer, so that its networks return raw outputs.

    Raises:
        `ValueError`: If a size is not a positive integer or exceeds what `loading.limits` allows, the activation is
            unknown, the depths are no range, or statistics are not finite.
    """

    @register_to_config
    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "relu",
        max_width: int = 64,
        min_depth: int = 1,
        max_depth: int = 3,
        observation_mean: list[float] | None = None,
        observation_std: list[float] | None = None,
        output_mean: list[float] | None = None,
        output_std: list[float] | None = None,
    ):
        super().__init__()
        # check every size before memory is allocated
        check_activation(activation)
        check_sizes(in_features=in_features, out_features=out_features, max_width=max_width)
        check_sizes(min_depth=min_depth, max_depth=max_depth, most=MAX_DEPTH)
        if min_depth > max_depth:
            raise ValueError(f"`min_depth` must be at most `max_depth`, {max_depth}, but received {min_depth}.")
        check_statistics(observation_mean, observation_std, in_features)
        check_statistics(output_mean, output_std, out_features, "output")
        depths = range(min_depth, max_depth + 1)
        widest = [MLPArchitecture(in_features, (max_width,) * depth, out_features) for depth in depths]
        total = sum(architecture.num_parameters for architecture in widest)
        check_total("The parameters of `NestedMLP`", total, MAX_PARAMETERS)
        # layers by depth, with weights of torch's own initialisation
        self.layers = nn.ModuleDict(
            {
                str(architecture.depth): nn.ModuleList(
                    _initial_layer(out_size, in_size, is_first=layer == 0)
                    for layer, (out_size, in_size) in enumerate(architecture.layer_shapes)
                )
                for architecture in widest
            }
        )

    def has(self, hidden_sizes: Sequence[int]) -> bool:
        """Whether there is a network of these hidden sizes."""
        return str(len(hidden_sizes)) in self.layers and max(hidden_sizes) <= self.config.max_width

    def forward(self, architectures: Sequence[MLPArchitecture]) -> list[dict[str, torch.Tensor]]:
        """Slices the weights of B networks, differentiable in the parameters.

        Parameters:
            architectures (`Sequence[MLPArchitecture]`): B architectures of trained depths, at most `max_width` wide.

        Returns:
            `list[dict[str, torch.Tensor]]`:
                State dict of every network, for inputs and outputs standardised with their statistics.

        Raises:
            `ValueError`: If `architectures` is empty, of another task, too wide, or of a depth that is not there.
        """
        check_architectures(architectures, self.config)
        for architecture in architectures:
            if not self.has(architecture.hidden_sizes):
                raise ValueError(
                    f"`architectures` must have {self.config.min_depth} to {self.config.max_depth} hidden layers of "
                    f"at most {self.config.max_width} units, but received {list(architecture.hidden_sizes)}."
                )
        return [self._slice(architecture) for architecture in architectures]

    def _slice(self, architecture: MLPArchitecture) -> dict[str, torch.Tensor]:
        layers: Any = self.layers[str(architecture.depth)]
        shapes, keys = architecture.layer_shapes, layer_keys(architecture.depth + 1)
        state_dict = {}
        for layer, (linear, (out_size, in_size)) in enumerate(zip(layers, shapes, strict=True)):
            # inputs of the task have one size in all networks
            scale = 1.0 if layer == 0 else math.sqrt(_REFERENCE_WIDTH / in_size)
            weight_key, bias_key = keys[layer]
            state_dict[weight_key] = scale * linear.weight[:out_size, :in_size]
            state_dict[bias_key] = linear.bias[:out_size]
        return state_dict

    @torch.no_grad()
    def generate(
        self, architectures: Sequence[MLPArchitecture], generator: torch.Generator | None = None
    ) -> list[MLP]:
        """The network of raw inputs and outputs of each architecture.

        Parameters:
            architectures (`Sequence[MLPArchitecture]`): B architectures of trained depths, at most `max_width` wide.
            generator (`torch.Generator`, *optional*): Not used: there is one network of each shape.

        Raises:
            `ValueError`: See [`~NestedMLP.forward`].
        """
        return [
            raw_network(architecture, state_dict, self.config)
            for architecture, state_dict in zip(architectures, self(architectures), strict=True)
        ]


def _initial_layer(out_features: int, in_features: int, is_first: bool) -> nn.Linear:
    """A layer as torch initialises it, as if it had `_REFERENCE_WIDTH` inputs unless it is the first."""
    linear = nn.Linear(in_features, out_features)
    if not is_first:
        with torch.no_grad():
            linear.weight.mul_(math.sqrt(in_features / _REFERENCE_WIDTH))
    return linear
