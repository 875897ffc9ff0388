"""Writes weight datasets of any networks, in one run or several."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from huggingface_hub import create_repo, upload_folder
from torch import nn

from .index import write_index
from .shards import ShardWriter, list_shards, read_rows


class WeightDatasetWriter:
    """Writes networks into a weight dataset; creates it, or resumes where an earlier writer stopped.

    ```python
    with WeightDatasetWriter("outputs/my_networks") as writer:
        for seed in range(writer.num_networks, 1000):
            writer.add(train_my_network(seed), task="digits", origin="sgd", seed=seed)
    ```

    Every shard is written atomically, and the index after the last shard. A killed process loses only the networks of
    its unfinished shard. The same script, run again, resumes after the last complete shard. Writers that share a
    folder never replace each other's shards.

    Parameters:
        output_dir (`str` or `Path`): Folder of the dataset.
        networks_per_shard (`int`, defaults to 256): Number of networks in a file.

    Attributes:
        num_networks (`int`): Number of networks in the dataset, including those just added.

    Raises:
        `ValueError`: If an existing shard is damaged, or `networks_per_shard` is less than 1.
    """

    def __init__(self, output_dir: str | Path, networks_per_shard: int = 256):
        if networks_per_shard < 1:
            raise ValueError(f"`networks_per_shard` must be 1 or more, but received {networks_per_shard}.")
        self.output_dir = Path(output_dir)
        self.networks_per_shard = networks_per_shard
        shards = list_shards(output_dir)
        self.num_networks = sum(len(read_rows(path)) for _, path in shards)
        self._shard = ShardWriter(output_dir, shards[-1][0] + 1 if shards else 0)

    def add(self, network: nn.Sequential, **provenance: Any) -> None:
        """Adds a copy of a network, with the arguments of [`~ShardWriter.add`] as its `provenance`."""
        self._shard.add(network, **provenance)
        self.num_networks += 1
        if len(self._shard) == self.networks_per_shard:
            self._write_shard()

    def _write_shard(self) -> None:
        self._shard.write_new()
        self._shard = ShardWriter(self.output_dir, self._shard.number + 1)

    def __enter__(self) -> WeightDatasetWriter:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error_type is None:
            if len(self._shard):
                self._write_shard()
            write_index(self.output_dir)


def push_to_hub(folder: str | Path, repo_id: str, private: bool | None = None, token: str | None = None) -> str:
    """Uploads a dataset to the Hub; the repository is created if it does not exist.

    Parameters:
        folder (`str` or `Path`): Folder of the dataset.
        repo_id (`str`): Name of the repository.
        private (`bool`, *optional*): Make a new repository private.
        token (`str`, *optional*): Access token; by default that of the logged-in user.

    Returns:
        `str`: URL of the commit.
    """
    repo_id = create_repo(repo_id, repo_type="dataset", private=private, token=token, exist_ok=True).repo_id
    commit = upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=folder,
        ignore_patterns=["*.tmp", "*.tmp/*"],  # what a killed process leaves
        commit_message="Weights of neural networks",
        token=token,
    )
    return commit.commit_url
