"""What a hypernetwork and nested slices share: which architectures they take, and networks of raw inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..architecture import MLPArchitecture, check_no_output_activation
from ..folding import fold_observation_statistics, fold_output_statistics
from ..networks import MLP


def check_architectures(architectures: Sequence[MLPArchitecture], config: Any) -> None:
    """Raises `ValueError` if `architectures` is empty, or of another task than that of a model's configuration."""
    if not architectures:
        raise ValueError("`architectures` must hold at least one `MLPArchitecture`, but received none.")
    wanted = (config.in_features, config.out_features, config.activation)
    for architecture in architectures:
        received = (architecture.in_features, architecture.out_features, architecture.activation)
        if received != wanted:
            raise ValueError(
                f"`architectures` must have (in_features, out_features, activation) = {wanted}, but received "
                f"{received}."
            )
        check_no_output_activation("architectures", architecture)


def raw_network(architecture: MLPArchitecture, state_dict: Mapping[str, torch.Tensor], config: Any) -> MLP:
    """The network of raw inputs and outputs: the statistics of a model's configuration are folded into its layers."""
    # copies: networks must not share memory with each other, nor with the model
    folded = {key: tensor.float().clone(memory_format=torch.contiguous_format) for key, tensor in state_dict.items()}
    if config.observation_mean is not None:
        folded = fold_observation_statistics(folded, config.observation_mean, config.observation_std)
    if config.output_mean is not None:
        folded = fold_output_statistics(folded, config.output_mean, config.output_std)
    return MLP.from_architecture(architecture, folded)
