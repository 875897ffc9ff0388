"""What training networks are drawn from: a hypernetwork, or a weight dataset."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from ..architecture import MLPArchitecture


# Networks of this many batches are drawn at once and sorted by size, so that batches have little padding.
POOL_BATCHES = 8


class NetworkBatch(NamedTuple):
    """Networks of a source, in the order of the arguments of [`~WeightPatchTokenizer.encode_state_dicts`].

    Attributes:
        state_dicts (`list[dict[str, torch.Tensor]]`): Weights of every network.
        architectures (`list[MLPArchitecture]`): Architecture of every network.
        standardised (`bool`): Whether the networks take standardised inputs; otherwise they take raw inputs.
        task_labels (`torch.Tensor`, *optional*): `[B]`, what the networks are for, if the source has several tasks.
    """

    state_dicts: list[dict[str, torch.Tensor]]
    architectures: list[MLPArchitecture]
    standardised: bool
    task_labels: torch.Tensor | None = None


class NetworkSource(Protocol):
    """Source of training networks, such as [`GHNWeightStream`] and [`WeightDataset`]."""

    def networks(self, num_networks: int, generator: torch.Generator) -> NetworkBatch:
        """Draws networks of similar size; the same state of `generator`, on the CPU, gives the same networks."""
        ...
