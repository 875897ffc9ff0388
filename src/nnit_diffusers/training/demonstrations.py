"""Recording of an expert, so that networks can learn from its actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..executors import NumWorkers
from ..loading.local import read_json_object
from ..provenance import provenance
from ..settings import check_ranges
from ..tasks.simulation.rollouts import stack_episodes
from ..tasks.simulation.task import SimulatorTask
from ..writing import write_bytes, write_json


RECORD_NAME = "collection.json"


@dataclass
class DemonstrationsConfig:
    """Settings of the recording of an expert; see [`collect_demonstrations`]."""

    seed: int = 0
    """Seed of the episodes and of the noise."""
    num_episodes: int = 300
    """Episodes to record."""
    episodes_per_shard: int = 50
    """Episodes per file."""

    def __post_init__(self) -> None:
        check_ranges(self, may_be_zero=("seed",))


def shard_path(output_dir: Path, number: int) -> Path:
    """File of the demonstrations of this number."""
    return output_dir / f"demonstrations-{number:05}.safetensors"


def collect_demonstrations(
    task: SimulatorTask,
    output_dir: str | Path,
    config: DemonstrationsConfig | None = None,
    *,
    num_workers: NumWorkers = None,
    on_episodes: Callable[[int, int], None] | None = None,
) -> None:
    """Records a task's expert under noise, so that it shows how to recover.

    Every state is recorded with the action that the expert takes in it without noise. An episode depends only on the
    seed and its number, so any number of processes gives the same data. The same call resumes an interrupted one.

    Parameters:
        task (`SimulatorTask`): The task, with its teacher.
        output_dir (`str` or `Path`): Folder of the files `demonstrations-*.safetensors`, a `data_dir` of the task.
        config (`DemonstrationsConfig`, *optional*): Settings.
        num_workers (`int` or `Executor`, *optional*):
            Processes that run episodes, or a `concurrent.futures.Executor`; one process per CPU by default.
        on_episodes (`Callable`, *optional*): Called with the number of episodes so far, and of those just recorded.

    Raises:
        `ValueError`: If the folder holds demonstrations of another collection.
    """
    config, output_dir = config or DemonstrationsConfig(), Path(output_dir)
    collection = {"task": task.name, **asdict(config)}
    _claim(output_dir, collection)
    for number, start in enumerate(range(0, config.num_episodes, config.episodes_per_shard)):
        numbers = range(start, min(start + config.episodes_per_shard, config.num_episodes))
        num_new = 0
        if not shard_path(output_dir, number).exists():
            # run the expert under noise
            episodes = task.demonstrate(numbers, seed=config.seed, num_workers=num_workers)
            observations, actions = stack_episodes(episodes)
            # write the shard
            tensors = {
                "observations": observations,
                "actions": actions,
                "episode_seeds": torch.tensor([episode.seed for episode in episodes]),
                "success_once": torch.tensor([episode.success_once for episode in episodes]),
            }
            write_bytes(shard_path(output_dir, number), save(tensors))
            num_new = len(episodes)
        if on_episodes is not None:
            on_episodes(numbers.stop, num_new)


def _claim(output_dir: Path, collection: dict[str, Any]) -> None:
    """Records what is collected in a folder; raises `ValueError` if it holds another collection."""
    path = output_dir / RECORD_NAME
    earlier = read_json_object(path).get("collection") if path.exists() else None
    if earlier != collection and (earlier or any(output_dir.glob("demonstrations-*"))):
        raise ValueError(
            f"`output_dir` must be a new folder, or one of the same collection, {collection}, but {str(output_dir)!r} "
            f"holds the demonstrations of {earlier or 'an unknown collection'}."
        )
    write_json(path, {"collection": collection, **provenance()})
