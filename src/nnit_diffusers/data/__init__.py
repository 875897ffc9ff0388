"""Training data of the transformer: every weight dataset has a method `batch(num_networks, generator)`."""

from .ghn_stream import GHNWeightStream
from .index import write_index
from .shards import ShardWriter, list_shards, shard_path
from .weight_dataset import WeightDataset
from .weight_dataset_writer import WeightDatasetWriter, push_to_hub


__all__ = [
    "GHNWeightStream",
    "ShardWriter",
    "WeightDataset",
    "WeightDatasetWriter",
    "list_shards",
    "push_to_hub",
    "shard_path",
    "write_index",
]
