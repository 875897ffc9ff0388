"""What [`NNiTPipeline`] returns.

Shape legend: B networks, P patches, p side of a patch, N parameters of the longest network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch.nn.utils.rnn import pad_sequence

from ..architecture import MLPArchitecture
from ..contract import NetworkContract
from ..models.weight_patch_tokenizer import WeightPatchTokenizer
from ..networks import MLP


OUTPUT_TYPES = ("mlp", "state_dict", "pt", "latent")


@dataclass
class NNiTPipelineOutput(BaseOutput):
    """Output of [`NNiTPipeline`].

    Attributes:
        networks (`list[MLP]`, `list[dict[str, torch.Tensor]]` or `torch.Tensor`):
            Depends on `output_type`. `"mlp"`: B networks. `"state_dict"`: their state dicts. `"pt"`: `[B, N]`, their
            parameters in the order of the state dict, zero-padded to the longest. `"latent"`: `[B, P, p * p]` patches.
        architectures (`list[MLPArchitecture]`): The architecture of every network.
        tasks (`list[str]`, *optional*): The task of every network, if the pipeline has several.
    """

    networks: list[MLP] | Any  # `Any`, for the caller knows its `output_type`
    architectures: list[MLPArchitecture]
    tasks: list[str] | None = None


def decode_latents(
    tokenizer: WeightPatchTokenizer,
    latents: torch.Tensor,
    architectures: Sequence[MLPArchitecture],
    output_type: str = "mlp",
    contracts: Sequence[NetworkContract | None] | None = None,
) -> list[MLP] | list[dict[str, torch.Tensor]] | torch.Tensor:
    """Converts clean patches `[B, P, p * p]` to one of `OUTPUT_TYPES`, on the device of the patches.

    Networks, of `"mlp"`, get their contracts.
    """
    if output_type == "latent":
        return latents
    # on the CPU, where the tokenizer computes in float64, so that networks are the same whatever the device
    state_dicts = [
        {key: tensor.to(latents.device) for key, tensor in state_dict.items()}
        for state_dict in tokenizer.decode(latents.cpu(), architectures)
    ]
    if output_type == "state_dict":
        return state_dicts
    if output_type == "pt":
        vectors = [torch.cat([tensor.flatten() for tensor in state_dict.values()]) for state_dict in state_dicts]
        return pad_sequence(vectors, batch_first=True)
    networks = [
        MLP.from_architecture(architecture, state_dict).eval()
        for architecture, state_dict in zip(architectures, state_dicts, strict=True)
    ]
    for network, contract in zip(networks, contracts or (), strict=contracts is not None):
        network.contract = contract
    return networks
