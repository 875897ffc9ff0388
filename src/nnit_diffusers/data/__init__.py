"""What the transformer learns from: every weight dataset gives batches through `batch(num_networks, generator)`."""

from .ghn_stream import GHNWeightStream


__all__ = ["GHNWeightStream"]
