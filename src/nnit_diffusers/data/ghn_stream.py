"""Endless weight dataset: a GHN samples new networks while the transformer trains."""

from __future__ import annotations

import copy

import torch

from ..architecture import MLPArchitecture
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.patches import num_patches
from ..regions import ArchitectureRegions
from .source import POOL_BATCHES, NetworkBatch


class GHNWeightStream:
    """Networks of the seen region; each has a new latent, so that no network repeats.

    ```python
    batch = tokenizer.encode_state_dicts(*stream.networks(32, generator))
    ```

    Parameters:
        ghn (`GraphHyperNetwork`): Generates the networks; a copy is taken, and the GHN stays as it is.
        regions (`ArchitectureRegions`): Architectures come from its `"seen"` region.
        latents_per_architecture (`int`, defaults to 4): Number of networks per drawn architecture.
        narrow_fraction (`float`, defaults to 0): See [`~ArchitectureRegions.sample_training`].
        patch_size (`int`, defaults to 8): Networks of a batch have similar numbers of patches of this size.
    """

    def __init__(
        self,
        ghn: GraphHyperNetwork,
        regions: ArchitectureRegions,
        latents_per_architecture: int = 4,
        narrow_fraction: float = 0.0,
        patch_size: int = 8,
    ):
        self.ghn = copy.deepcopy(ghn).eval().requires_grad_(False)
        self.regions = regions
        self.latents_per_architecture = latents_per_architecture
        self.narrow_fraction = narrow_fraction
        self.patch_size = patch_size

    def draw_architectures(self, num_networks: int, generator: torch.Generator) -> list[MLPArchitecture]:
        """Draws training architectures of similar size; each is as likely as in a draw without sorting."""
        num_architectures = -(-num_networks // self.latents_per_architecture)
        pool = self.regions.sample_training(num_architectures * POOL_BATCHES, generator, self.narrow_fraction)
        pool.sort(key=lambda architecture: num_patches(architecture, self.patch_size))
        start = num_architectures * int(torch.randint(POOL_BATCHES, (), generator=generator))
        drawn = pool[start : start + num_architectures]
        return [architecture for architecture in drawn for _ in range(self.latents_per_architecture)][:num_networks]

    @torch.no_grad()
    def networks(self, num_networks: int, generator: torch.Generator) -> NetworkBatch:
        """Generates networks of standardised inputs, on the device of the GHN.

        The same state of `generator`, on the CPU, gives the same networks.
        """
        architectures = self.draw_architectures(num_networks, generator)
        latents = torch.randn(num_networks, self.ghn.config.latent_dim, generator=generator).to(self.ghn.device)
        labels = self.draw_labels(num_networks, generator)
        return NetworkBatch(self.ghn(architectures, latents, labels), architectures, True, labels)

    def draw_labels(self, num_networks: int, generator: torch.Generator) -> torch.Tensor | None:
        """Labels `[B]` of tasks, one for all networks of an architecture; `None` if the GHN has one task."""
        if self.ghn.config.task_names is None:
            return None
        num_architectures = -(-num_networks // self.latents_per_architecture)
        drawn = torch.randint(len(self.ghn.config.task_names), (num_architectures,), generator=generator)
        return drawn.repeat_interleave(self.latents_per_architecture)[:num_networks]
