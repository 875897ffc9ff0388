"""Weight datasets on disk: self-contained safetensors shards, and a Parquet index made from them.

index.parquet                        a row for every network; see `index_schema`
shards/networks-00000.safetensors    weights under `{key}0.weight`, `{key}0.bias`, …; the rows as metadata
README.md                            data card
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..architecture import check_no_output_activation
from ..networks import architecture_of, layer_keys
from ..writing import write_bytes, write_first_free


SHARD_FOLDER = "shards"
SHARD_PATTERN = re.compile(r"networks-(\d{5,})\.safetensors")


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


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a string, but received {value!r}.")
    return value


def _integer(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"`{name}` must be an integer or None, but received {value!r}.") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"`{name}` must fit in 64 bits, but received {number}.")
    return number


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be a number or numbers, but received {value!r}.") from None


class ShardWriter:
    """Collects the networks of one shard and writes them to its file atomically.

    Parameters:
        folder (`str` or `Path`): Folder of the dataset.
        number (`int`): Number of the shard.
    """

    def __init__(self, folder: str | Path, number: int):
        self.folder, self.number = folder, number
        self._tensors: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def path(self) -> Path:
        """The file that is written."""
        return shard_path(self.folder, self.number)

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
            `ValueError`: If it is not such a network, a weight is not finite, or the index cannot hold an argument.
        """
        # what JSON and Parquet hold; NumPy's numbers become Python's
        texts = {name: _text(name, value) for name, value in (("task", task), ("region", region), ("origin", origin))}
        integers = {name: _integer(name, value) for name, value in (("seed", seed), ("step", step))}
        numbers = {"score": None if score is None else _number("score", score)}
        latents = None if latent is None else [_number("latent", value) for value in latent]
        # copy the weights under plain keys
        architecture = architecture_of(network)
        check_no_output_activation("network", architecture)
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
                **texts,
                "latent": latents,
                **integers,
                **numbers,
            }
        )

    def write(self) -> Path:
        """Writes the file atomically, in place of an existing one: a killed process leaves no part of it."""
        write_bytes(self.path, self._content())
        return self.path

    def write_new(self) -> Path:
        """Writes the file atomically, under the next number if another process has written a shard of this one."""
        path = write_first_free((shard_path(self.folder, number) for number in count(self.number)), self._content())
        self.number = int(path.stem.rpartition("-")[2])
        return path

    def _content(self) -> bytes:
        # One metadata entry only: the order of several varies, so the same shard would give different files.
        # Not `save_file`: a killed process would leave its temporary file behind under another name.
        return save(self._tensors, metadata={"networks": json.dumps(self._rows)})
