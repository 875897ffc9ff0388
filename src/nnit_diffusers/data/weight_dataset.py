"""Reads weight datasets from a folder or the Hub, a batch at a time."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..architecture import MLPArchitecture
from ..loading.limits import shown
from ..loading.local import find_folder
from ..models.patches import num_patches
from ..networks import MLP
from .index import INDEX_NAME, read_index
from .shards import SHARD_FOLDER, SHARD_PATTERN, open_shard
from .source import POOL_BATCHES, NetworkBatch


class WeightDataset:
    """Networks of a weight dataset, as [`WeightDatasetWriter`] writes it.

    Shards are mapped into memory and only the networks of a batch are read, so a dataset may be larger than memory.

    ```python
    batch = tokenizer.encode_state_dicts(*dataset.networks(32, generator))
    ```

    Parameters:
        path_or_repo (`str` or `Path`): Folder of the dataset, or its repository on the Hub.
        region (`str`, *optional*, defaults to `"seen"`): Use only networks of this region; `None` for all.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): Access token for the Hub; by default that of the logged-in user.
        patch_size (`int`, defaults to 8): Networks of a batch have similar numbers of patches of this size.

    Attributes:
        index (`pyarrow.Table`): A row for every network, in the order of the dataset.
        architectures (`list[MLPArchitecture]`): Architecture of every network, in the same order.

    Raises:
        `OSError`: If the dataset does not exist, or a shard of its index is missing.
        `ValueError`: If the index is damaged, or has no network of the region.
    """

    def __init__(
        self,
        path_or_repo: str | os.PathLike[str],
        region: str | None = "seen",
        revision: str | None = None,
        token: str | None = None,
        patch_size: int = 8,
    ):
        patterns = (INDEX_NAME, f"{SHARD_FOLDER}/*.safetensors")
        folder = find_folder(path_or_repo, patterns, repo_type="dataset", revision=revision, token=token)
        # architectures of the index
        self.index = read_index(folder, region)
        self.architectures = _read_architectures(self.index, folder)
        self._num_patches = torch.tensor([num_patches(a, patch_size) for a in self.architectures])
        # where the weights of every network are
        names = self.index["shard"].to_pylist()
        paths = {name: _checked_shard(folder, name) for name in set(names)}
        self._shards = [paths[name] for name in names]
        self._keys = self.index["key"].to_pylist()
        if None in self._keys:
            raise ValueError(f"`key` of {str(folder / INDEX_NAME)!r} must be set in every row, but is empty in one.")

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> MLP:
        """Network of one row of the index; it takes raw inputs."""
        index = range(len(self))[index]
        return MLP.from_architecture(self.architectures[index], self.state_dicts([index])[0])

    def state_dicts(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Weights of networks that take raw inputs.

        Raises:
            `ValueError`: If a shard is damaged, a network differs from its row, or a weight is not finite.
        """
        members: dict[Path, list[int]] = defaultdict(list)
        for index in indices:
            members[self._shards[index]].append(index)
        read: dict[int, dict[str, torch.Tensor]] = {}
        for path, shard_indices in members.items():
            with open_shard(path) as shard:
                read |= {index: self._read_network(shard, path, index) for index in shard_indices}
        return [read[index] for index in indices]

    def _read_network(self, shard: Any, path: Path, index: int) -> dict[str, torch.Tensor]:
        state_dict = {}
        for key, shape in self.architectures[index].tensor_shapes.items():
            name = self._keys[index] + key
            # A slice reads only the header, so a tensor of unexpected size is never loaded.
            found = shard.get_slice(name)
            received, dtype = tuple(found.get_shape()), found.get_dtype()
            if received != shape or not dtype.startswith(("F", "BF")):
                raise ValueError(
                    f"`{name}` of {str(path)!r} must be floating point of shape {shape}, as in the index, but is "
                    f"{dtype} of shape {received}."
                )
            state_dict[key] = shard.get_tensor(name)
            if not state_dict[key].isfinite().all():
                raise ValueError(
                    f"Network {index} of the dataset has a weight that is not finite, in `{name}` of {str(path)!r}. "
                    "Remove the network, or build the dataset without it."
                )
        return state_dict

    def networks(self, num_networks: int, generator: torch.Generator) -> NetworkBatch:
        """Draws networks of raw inputs and similar size, on the CPU.

        All networks are equally likely, and a network may be drawn more than once. The same state of `generator`, on
        the CPU, gives the same networks.
        """
        pool = torch.randint(len(self), (num_networks * POOL_BATCHES,), generator=generator)
        pool = pool[self._num_patches[pool].argsort(stable=True)]
        start = num_networks * int(torch.randint(POOL_BATCHES, (), generator=generator))
        indices = pool[start : start + num_networks].tolist()
        architectures = [self.architectures[index] for index in indices]
        return NetworkBatch(self.state_dicts(indices), architectures, standardised=False)


def _read_architectures(index: Any, folder: Path) -> list[MLPArchitecture]:
    rows = index.select(["in_features", "hidden_sizes", "out_features", "activation"]).to_pylist()
    try:
        return [MLPArchitecture(**row) for row in rows]
    except ValueError as error:
        raise ValueError(f"{str(folder / INDEX_NAME)!r} names an invalid architecture: {error}") from error


def _checked_shard(folder: Path, name: str | None) -> Path:
    """File of a shard that the index names; files outside the folder of shards are refused."""
    index = str(folder / INDEX_NAME)
    if name is None or not SHARD_PATTERN.fullmatch(name):
        raise ValueError(
            f"`shard` of {index!r} must be a name like 'networks-00000.safetensors', but received {shown(name)}."
        )
    path = folder / SHARD_FOLDER / name
    if not path.is_file():
        raise FileNotFoundError(f"{index!r} names {str(path)!r}, which does not exist.")
    return path
