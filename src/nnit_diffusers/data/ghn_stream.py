"""Endless weight dataset: a GHN samples new networks while the transformer trains."""

from __future__ import annotations

import copy

import torch

from ..architecture import MLPArchitecture
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.weight_patch_tokenizer import WeightPatchBatch, WeightPatchTokenizer
from ..regions import ArchitectureRegions


# Architectures of this many batches are drawn at once and sorted by size, so that batches have little padding.
_POOL_BATCHES = 8


class GHNWeightStream:
    """Batches of networks of the seen region; each has a new latent, so that no network repeats.

    Parameters:
        ghn (`GraphHyperNetwork`): Generates the networks; a copy is taken, and the GHN stays as it is.
        tokenizer (`WeightPatchTokenizer`): Cuts them into patches.
        regions (`ArchitectureRegions`): Architectures come from its `"seen"` region.
        latents_per_architecture (`int`, defaults to 4): Number of networks per drawn architecture.
        narrow_fraction (`float`, defaults to 0): See [`~ArchitectureRegions.sample_training`].
    """

    def __init__(
        self,
        ghn: GraphHyperNetwork,
        tokenizer: WeightPatchTokenizer,
        regions: ArchitectureRegions,
        latents_per_architecture: int = 4,
        narrow_fraction: float = 0.0,
    ):
        self.ghn = copy.deepcopy(ghn).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.regions = regions
        self.latents_per_architecture = latents_per_architecture
        self.narrow_fraction = narrow_fraction

    def draw_architectures(self, num_networks: int, generator: torch.Generator) -> list[MLPArchitecture]:
        """Draws training architectures of similar size; each is as likely as in a draw without sorting."""
        num_architectures = -(-num_networks // self.latents_per_architecture)
        pool = self.regions.sample_training(num_architectures * _POOL_BATCHES, generator, self.narrow_fraction)
        pool.sort(key=self.tokenizer.num_patches)
        start = num_architectures * int(torch.randint(_POOL_BATCHES, (), generator=generator))
        drawn = pool[start : start + num_architectures]
        return [architecture for architecture in drawn for _ in range(self.latents_per_architecture)][:num_networks]

    @torch.no_grad()
    def batch(self, num_networks: int, generator: torch.Generator) -> WeightPatchBatch:
        """Generates a batch of networks; the same state of `generator`, on the CPU, gives the same batch."""
        architectures = self.draw_architectures(num_networks, generator)
        latents = torch.randn(num_networks, self.ghn.config.latent_dim, generator=generator).to(self.ghn.device)
        return self.tokenizer.encode_state_dicts(self.ghn(architectures, latents), architectures)
