"""Stage 0 of a robot task: records its scripted expert under noise, so that it shows how to recover.

    python examples/collect_demonstrations.py --task pickcube --output_dir outputs/pickcube/demonstrations

Every state is recorded with the action that the expert takes in it without noise. An episode depends only on the seed
and its number, so any number of processes gives the same data. An interrupted collection resumes when run again.

    python examples/collect_demonstrations.py --task pickcube --output_dir outputs/pickcube/expert \
        --evaluate_only --num_episodes 200

measures the expert without noise on test episodes instead, and writes `expert.json`.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save
from tqdm.auto import tqdm

from nnit_diffusers import get_task, list_tasks
from nnit_diffusers.evaluation import wilson_interval
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.tasks import stack_episodes
from nnit_diffusers.utils import provenance, write_bytes, write_json


logger = logging.getLogger(__name__)


@dataclass
class Arguments:
    """Records the scripted expert of a robot task."""

    output_dir: str
    """Folder to write the demonstrations to."""
    task: str = "pickcube"
    """Name of a robot task."""
    seed: int = 0
    """Seed of the episodes and of the noise."""
    num_episodes: int = 300
    """Episodes to record."""
    episodes_per_shard: int = 50
    """Episodes per file."""
    num_workers: int | None = None
    """Worker processes; one per CPU by default."""
    evaluate_only: bool = False
    """Measure the expert on test episodes instead."""


def shard_path(output_dir: Path, number: int) -> Path:
    return output_dir / f"demonstrations-{number:05}.safetensors"


def check_output_dir(output_dir: Path, collection: dict[str, Any]) -> None:
    """Raises `ValueError` if the folder holds demonstrations of another collection."""
    path = output_dir / "collection.json"
    earlier = json.loads(path.read_text())["collection"] if path.exists() else None
    if earlier != collection and (earlier or any(output_dir.glob("demonstrations-*"))):
        raise ValueError(
            f"`output_dir` must be a new folder, or one of the same collection, {collection}, but {str(output_dir)!r} "
            f"holds the demonstrations of {earlier or 'an unknown collection'}."
        )


def collect(task: ManiSkillTask, arguments: Arguments) -> None:
    """Records the missing shards of a collection."""
    output_dir = Path(arguments.output_dir)
    # record the arguments that determine the demonstrations
    ignored = ("output_dir", "num_workers", "evaluate_only")
    collection = {name: value for name, value in asdict(arguments).items() if name not in ignored}
    check_output_dir(output_dir, collection)
    write_json(output_dir / "collection.json", {"collection": collection, **provenance()})
    starts = range(0, arguments.num_episodes, arguments.episodes_per_shard)
    for number, start in enumerate(tqdm(starts, desc="Shards")):
        if shard_path(output_dir, number).exists():
            continue
        # run the expert under noise
        numbers = range(start, min(start + arguments.episodes_per_shard, arguments.num_episodes))
        episodes = task.demonstrate(numbers, seed=arguments.seed, num_workers=arguments.num_workers)
        # write the shard
        observations, actions = stack_episodes(episodes)
        tensors = {
            "observations": observations,
            "actions": actions,
            "episode_seeds": torch.tensor([episode.seed for episode in episodes]),
            "success_once": torch.tensor([episode.success_once for episode in episodes]),
        }
        write_bytes(shard_path(output_dir, number), save(tensors))
    logger.info(f"Wrote {output_dir}")


def rate(num_successes: int, num_episodes: int) -> dict[str, Any]:
    return {
        "num_successes": num_successes,
        "num_episodes": num_episodes,
        "confidence_interval": wilson_interval(num_successes, num_episodes),
    }


def evaluate_expert(task: ManiSkillTask, arguments: Arguments) -> None:
    """Runs the expert without noise on test episodes and writes `expert.json`."""
    # run
    start = time.perf_counter()
    episodes = task.demonstrate(
        range(arguments.num_episodes),
        seed=arguments.seed,
        split="test",
        noise=False,
        num_workers=arguments.num_workers,
    )
    # report
    report = {
        "task": task.name,
        "env_id": task.env_id,
        "split": "test",
        "seed": arguments.seed,
        "success_once": rate(sum(episode.success_once for episode in episodes), len(episodes)),
        "success_at_end": rate(sum(episode.success_at_end for episode in episodes), len(episodes)),
        "failed_seeds": [episode.seed for episode in episodes if not episode.success_once],
        "seconds": time.perf_counter() - start,
        **provenance(),
    }
    write_json(Path(arguments.output_dir) / "expert.json", report)
    low, high = report["success_once"]["confidence_interval"]
    logger.info(
        f"{task.env_id}: {report['success_once']['num_successes']} of {len(episodes)} episodes succeed "
        f"({low:.1%} to {high:.1%}), {report['success_at_end']['num_successes']} with success at episode end, "
        f"{report['seconds']:.0f} s"
    )


def main(arguments: Arguments) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    task = get_task(arguments.task)
    if not isinstance(task, ManiSkillTask):
        names = [name for name in list_tasks() if isinstance(get_task(name), ManiSkillTask)]
        raise ValueError(f"`task` must be one of {names}, but received {arguments.task!r}.")
    if arguments.evaluate_only:
        evaluate_expert(task, arguments)
    else:
        collect(task, arguments)
    task.close()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
