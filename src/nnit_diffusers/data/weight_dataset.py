"""Weight datasets read back: from a folder or the Hub, a batch at a time."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download

from ..architecture import MLPArchitecture
from ..models.weight_patch_tokenizer import WeightPatchBatch, WeightPatchTokenizer
from ..networks import MLP, layer_keys
from .index import INDEX_NAME, read_index
from .shards import SHARD_FOLDER, SHARD_PATTERN, open_shard


# Networks are drawn this many batches at a time and grouped by size, so that little of a batch is padding.
_POOL_BATCHES = 8


class WeightDataset:
    """Networks of a weight dataset, as [`WeightDatasetWriter`] and `examples/build_weight_dataset.py` write them.

    Shards are mapped into memory and only the networks of a batch are read: a dataset may be larger than memory.

    Parameters:
        path_or_repo (`str` or `Path`): Folder of the dataset, or its repository on the Hub.
        tokenizer (`WeightPatchTokenizer`): Cuts the networks into patches.
        split (`str`, *optional*, defaults to `"train"`): Only networks of this split; `None` for all.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): Access token for the Hub; the one logged in with by default.

    Attributes:
        index (`pyarrow.Table`): Where every network comes from, a row each, in the order of the dataset.

    Raises:
        `OSError`: If there is no such dataset, or a shard of its index is missing.
        `ValueError`: If the index is damaged, has no network of the split, or one that the tokenizer does not take.
    """

    def __init__(
        self,
        path_or_repo: str | os.PathLike,
        tokenizer: WeightPatchTokenizer,
        split: str | None = "train",
        revision: str | None = None,
        token: str | None = None,
    ):
        folder = Path(path_or_repo)
        if not folder.is_dir():
            repo_id = os.fspath(path_or_repo)
            folder = Path(snapshot_download(repo_id, repo_type="dataset", revision=revision, token=token))
        self.tokenizer = tokenizer
        self.index = read_index(folder, split)
        self.architectures = _read_architectures(self.index, folder)
        for architecture in set(self.architectures):
            tokenizer.check_architecture(architecture)
        self._num_patches = torch.tensor([tokenizer.num_patches(a) for a in self.architectures])
        names = self.index["shard"].to_pylist()
        paths = {name: _checked_shard(folder, name) for name in set(names)}
        self._shards = [paths[name] for name in names]
        self._keys = self.index["key"].to_pylist()

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> MLP:
        """The network of one row of the index; it takes raw inputs."""
        index = range(len(self))[index]
        return MLP.from_architecture(self.architectures[index], self.state_dicts([index])[0])

    def state_dicts(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Weights of networks that take raw inputs.

        Raises:
            `ValueError`: If a shard is not whole, or a network not as the index says.
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
        architecture, state_dict = self.architectures[index], {}
        keys = layer_keys(architecture.depth + 1)
        for (weight_key, bias_key), (out_features, in_features) in zip(keys, architecture.layer_shapes, strict=True):
            for key, shape in ((weight_key, (out_features, in_features)), (bias_key, (out_features,))):
                tensor = shard.get_tensor(self._keys[index] + key)
                if tensor.shape != shape:
                    raise ValueError(
                        f"`{self._keys[index]}{key}` of {str(path)!r} must be of shape {shape}, as the index says, "
                        f"but is of shape {tuple(tensor.shape)}."
                    )
                state_dict[key] = tensor
        return state_dict

    def batch(self, num_networks: int, generator: torch.Generator) -> WeightPatchBatch:
        """Draws networks of similar size, the same ones for the same state of `generator` (a CPU generator).

        Every network is as likely as any other, and may come more than once.
        """
        pool = torch.randint(len(self), (num_networks * _POOL_BATCHES,), generator=generator)
        pool = pool[self._num_patches[pool].argsort(stable=True)]
        start = num_networks * int(torch.randint(_POOL_BATCHES, (), generator=generator))
        indices = pool[start : start + num_networks].tolist()
        architectures = [self.architectures[index] for index in indices]
        return self.tokenizer.encode_state_dicts(self.state_dicts(indices), architectures, standardised_inputs=False)


def _read_architectures(index: Any, folder: Path) -> list[MLPArchitecture]:
    rows = index.select(["in_features", "hidden_sizes", "out_features", "activation"]).to_pylist()
    try:
        return [MLPArchitecture(**row) for row in rows]
    except ValueError as error:
        raise ValueError(f"{str(folder / INDEX_NAME)!r} names an architecture that cannot be: {error}") from error


def _checked_shard(folder: Path, name: str | None) -> Path:
    """File of a shard that the index names; it may not lie anywhere else."""
    index = str(folder / INDEX_NAME)
    if name is None or not SHARD_PATTERN.fullmatch(name):
        raise ValueError(
            f"`shard` of {index!r} must be a name like 'networks-00000.safetensors', but received {name!r}."
        )
    path = folder / SHARD_FOLDER / name
    if not path.is_file():
        raise FileNotFoundError(f"{index!r} names {str(path)!r}, which does not exist.")
    return path
