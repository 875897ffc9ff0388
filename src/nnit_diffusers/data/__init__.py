"""Networks that the transformer learns from: every source has a method `networks(num_networks, generator)`."""

from .alignment import Alignment, match_weights, measure_alignment
from .ghn_stream import GHNWeightStream
from .index import write_index
from .shards import ShardWriter, list_shards, shard_path
from .source import NetworkBatch, NetworkSource
from .weight_dataset import WeightDataset
from .weight_dataset_writer import WeightDatasetWriter, push_to_hub


__all__ = [
    "Alignment",
    "GHNWeightStream",
    "NetworkBatch",
    "NetworkSource",
    "ShardWriter",
    "WeightDataset",
    "WeightDatasetWriter",
    "list_shards",
    "match_weights",
    "measure_alignment",
    "push_to_hub",
    "shard_path",
    "write_index",
]
