"""Weight datasets on disk: self-contained safetensors shards, and a Parquet index made from them.

index.parquet                        a row for every network; see `index_schema`
shards/networks-00000.safetensors    weights under `{key}0.weight`, `{key}0.bias`, …; the rows as metadata
README.md                            data card
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..models.weight_patch_tokenizer import architecture_of
from ..networks import layer_keys
from ..utils import write_bytes


SHARD_FOLDER = "shards"
SHARD_PATTERN = re.compile(r"networks-(\d{5,})\.safetensors")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path of this process to write to; the file is renamed to `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    yield temporary
    os.replace(temporary, path)


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """Opens a shard mapped into memory: only requested tensors are read.

    Raises:
        `OSError`: If the file does not exist.
        `ValueError`: If it is truncated, or not a shard.
    """
    try:
        with safe_open(path, framework="pt") as shard:
            yield shard
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a complete shard of a weight dataset: {error}.") from error


def shard_path(folder: str | Path, number: int) -> Path:
    """File of the shard of this number, counted from 0."""
    return Path(folder) / SHARD_FOLDER / f"networks-{number:05}.safetensors"


def list_shards(folder: str | Path) -> list[tuple[int, Path]]:
    """Number and file of every shard of a dataset, in order."""
    paths = (Path(folder) / SHARD_FOLDER).glob("*")
    matches = ((SHARD_PATTERN.fullmatch(path.name), path) for path in paths)
    return sorted((int(match[1]), path) for match, path in matches if match)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Index rows of the networks of a shard.

    Raises:
        `ValueError`: If the file is not a complete shard.
    """
    with open_shard(path) as shard:
        metadata = shard.metadata() or {}
    try:
        return [{"shard": path.name, **row} for row in json.loads(metadata["networks"])]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is not a shard of a weight dataset: its metadata does not list its networks."
        ) from error


class ShardWriter:
    """Collects the networks of one shard and writes them to its file atomically.

    Parameters:
        folder (`str` or `Path`): Folder of the dataset.
        number (`int`): Number of the shard.
    """

    def __init__(self, folder: str | Path, number: int):
        self.path = shard_path(folder, number)
        self._tensors: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        network: nn.Sequential,
        *,
        task: str,
        region: str = "seen",
        origin: str = "user",
        latent: Sequence[float] | None = None,
        seed: int | None = None,
        step: int | None = None,
        score: float | None = None,
    ) -> None:
        """Adds a copy of a network that takes raw inputs, with its provenance.

        Parameters:
            network (`nn.Sequential`): An [`MLP`], or your own `nn.Sequential` of `nn.Linear` and activations.
            task (`str`): Name of its task.
            region (`str`, defaults to `"seen"`): Region of its architecture; see [`~ArchitectureRegions.region_of`].
            origin (`str`, defaults to `"user"`): Its source, `"ghn"` or `"sgd"` for instance.
            latent (`Sequence[float]`, *optional*): Latent that a GHN generated it from.
            seed (`int`, *optional*): Random seed that it was trained or generated with.
            step (`int`, *optional*): Training step that it was saved at.
            score (`float`, *optional*): Score on the task's validation data.

        Raises:
            `ValueError`: If it is not such a network, or a weight is not finite.
        """
        # copy the weights under plain keys
        architecture = architecture_of(network)
        key = f"{len(self):05}."
        names = [name for pair in layer_keys(architecture.depth + 1) for name in pair]
        tensors = [tensor.detach().cpu().clone().contiguous() for tensor in network.state_dict().values()]
        for name, tensor in zip(names, tensors, strict=True):
            if not tensor.isfinite().all():
                raise ValueError(f"`network` must have finite weights, but `{name}` of {architecture} is not finite.")
        self._tensors |= {key + name: tensor for name, tensor in zip(names, tensors, strict=True)}
        # row of the index
        self._rows.append(
            {
                "key": key,
                **architecture.to_dict(),
                "num_parameters": architecture.num_parameters,
                "task": task,
                "region": region,
                "origin": origin,
                "latent": None if latent is None else [float(value) for value in latent],
                "seed": seed,
                "step": step,
                "score": score,
            }
        )

    def write(self) -> Path:
        """Writes the file atomically: a killed process leaves no part of it."""
        # One metadata entry only: the order of several varies, so the same shard would give different files.
        # Not `save_file`: a killed process would leave its temporary file behind under another name.
        write_bytes(self.path, save(self._tensors, metadata={"networks": json.dumps(self._rows)}))
        return self.path
