"""The endless weight dataset: networks that a GHN writes while the transformer trains."""

from __future__ import annotations

import torch

from ..architecture import MLPArchitecture
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.weight_patch_tokenizer import WeightPatchBatch, WeightPatchTokenizer
from ..regions import ArchitectureRegions


# Architectures are drawn this many batches at a time and grouped by size, so that little of a batch is padding.
_POOL_BATCHES = 8


class GHNWeightStream:
    """Batches of networks of the seen region, a fresh latent each: nothing ever repeats.

    Parameters:
        ghn (`GraphHyperNetwork`): Writes the networks.
        tokenizer (`WeightPatchTokenizer`): Cuts them into patches.
        regions (`ArchitectureRegions`): Architectures come from its `"seen"` region.
        latents_per_architecture (`int`, defaults to 4): Networks of each architecture drawn.
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
        self.ghn = ghn.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.regions = regions
        self.latents_per_architecture = latents_per_architecture
        self.narrow_fraction = narrow_fraction

    def draw_architectures(self, num_networks: int, generator: torch.Generator) -> list[MLPArchitecture]:
        """Training architectures for `num_networks` networks, of similar size, each as likely as in a plain draw."""
        num_architectures = -(-num_networks // self.latents_per_architecture)
        pool = self.regions.sample_training(num_architectures * _POOL_BATCHES, generator, self.narrow_fraction)
        pool.sort(key=self.tokenizer.num_patches)
        start = num_architectures * int(torch.randint(_POOL_BATCHES, (), generator=generator))
        drawn = pool[start : start + num_architectures]
        return [architecture for architecture in drawn for _ in range(self.latents_per_architecture)][:num_networks]

    @torch.no_grad()
    def batch(self, num_networks: int, generator: torch.Generator) -> WeightPatchBatch:
        """Draws networks, the same ones for the same state of `generator` (a CPU generator)."""
        architectures = self.draw_architectures(num_networks, generator)
        latents = torch.randn(num_networks, self.ghn.config.latent_dim, generator=generator).to(self.ghn.device)
        return self.tokenizer.encode_state_dicts(self.ghn(architectures, latents), architectures)
