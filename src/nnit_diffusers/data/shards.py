"""Weight datasets on disk: shards of safetensors, each complete in itself, and a parquet index made from them.

index.parquet                        where every network comes from, a row each; see `INDEX_COLUMNS`
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
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, this process's own, whose file becomes `path` once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    yield temporary
    os.replace(temporary, path)


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """The shard, mapped into memory: only the tensors asked for are read.

    Raises:
        `OSError`: If there is no such file.
        `ValueError`: If it is truncated, or anything but a shard.
    """
    try:
        with safe_open(path, framework="pt") as shard:
            yield shard
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a whole shard of a weight dataset: {error}.") from error


def shard_path(folder: str | Path, number: int) -> Path:
    """File of the shard of this number, 0 being the first."""
    return Path(folder) / SHARD_FOLDER / f"networks-{number:05}.safetensors"


def list_shards(folder: str | Path) -> list[tuple[int, Path]]:
    """Number and file of every shard there is, in order."""
    paths = (Path(folder) / SHARD_FOLDER).glob("*")
    matches = ((SHARD_PATTERN.fullmatch(path.name), path) for path in paths)
    return sorted((int(match[1]), path) for match, path in matches if match)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that a shard adds to the index.

    Raises:
        `ValueError`: If the file is no whole shard.
    """
    with open_shard(path) as shard:
        metadata = shard.metadata() or {}
    try:
        return [{"shard": path.name, **row} for row in json.loads(metadata["networks"])]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is not a shard of a weight dataset: it does not say which networks it holds."
        ) from error


class ShardWriter:
    """Collects the networks of one shard and writes it whole, or not at all.

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
        """Takes a copy of a network that takes raw inputs, and where it comes from.

        Parameters:
            network (`nn.Sequential`): An [`MLP`], or your own `nn.Sequential` of `nn.Linear` and activations.
            task (`str`): Name of the task it is for.
            region (`str`, defaults to `"seen"`): Region of its architecture; see [`~ArchitectureRegions.region_of`].
            origin (`str`, defaults to `"user"`): What made it, `"ghn"` or `"sgd"` for instance.
            latent (`Sequence[float]`, *optional*): Latent that a GHN made it from.
            seed (`int`, *optional*): Seed that it was made from.
            step (`int`, *optional*): Step of the training that it was taken at.
            score (`float`, *optional*): What it reached on the task's validation data.

        Raises:
            `ValueError`: If it is no such network, or a weight is not finite.
        """
        architecture = architecture_of(network)
        key = f"{len(self):05}."
        names = [name for pair in layer_keys(architecture.depth + 1) for name in pair]
        tensors = [tensor.detach().cpu().clone().contiguous() for tensor in network.state_dict().values()]
        for name, tensor in zip(names, tensors, strict=True):
            if not tensor.isfinite().all():
                raise ValueError(f"`network` must have finite weights, but `{name}` of a {architecture} has not.")
        self._tensors |= {key + name: tensor for name, tensor in zip(names, tensors, strict=True)}
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
        """Writes the file; a process killed before the end leaves none."""
        # One entry alone: several would stand in another order every time, and the same shard be another file.
        # `save_file` would make a temporary file of its own, which a killed process leaves behind under another name.
        write_bytes(self.path, save(self._tensors, metadata={"networks": json.dumps(self._rows)}))
        return self.path
