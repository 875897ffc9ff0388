"""What [`NNiTPipeline`] returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput

from ..architecture import MLPArchitecture
from ..networks import MLP


@dataclass
class NNiTPipelineOutput(BaseOutput):
    """Output of [`NNiTPipeline`].

    Attributes:
        networks (`list[MLP]`, `list[dict[str, torch.Tensor]]` or `torch.Tensor`):
            Depends on `output_type`. `"mlp"`: B networks. `"state_dict"`: their state dicts. `"pt"`: `[B, N]`, their
            parameters in the order of the state dict, zero-padded to the longest. `"latent"`: `[B, P, p * p]` patches.
        architectures (`list[MLPArchitecture]`): The architecture of every network.
    """

    networks: list[MLP] | list[dict[str, torch.Tensor]] | torch.Tensor
    architectures: list[MLPArchitecture]
