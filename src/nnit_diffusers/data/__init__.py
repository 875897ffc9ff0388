"""Weight datasets: what the transformer learns from. Every one gives batches through `batch(num_networks, generator)`."""

from .ghn_stream import GHNWeightStream


__all__ = ["GHNWeightStream"]
