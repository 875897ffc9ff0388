"""Stage 0 of a robot task: records its scripted expert under noise, so that it shows how to recover.

    python examples/collect_demonstrations.py --task pickcube --output_dir outputs/pickcube/demonstrations

An interrupted collection resumes when run again.

    python examples/collect_demonstrations.py --task pickcube --output_dir outputs/pickcube/expert \
        --evaluate_only --num_episodes 200

measures the expert without noise on test episodes instead, and writes `expert.json`.

In Python: `nnit_diffusers.training.collect_demonstrations`, which this script calls.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm.auto import tqdm

from nnit_diffusers.evaluation import wilson_interval
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.training import DemonstrationsConfig, collect_demonstrations
from nnit_diffusers.writing import write_json


logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Arguments(DemonstrationsConfig):
    """Records the scripted expert of a robot task."""

    output_dir: str
    """Folder to write the demonstrations to."""
    task: str = "pickcube"
    """Name of a robot task, or `module:name` for one of your own."""
    num_workers: int | None = None
    """Worker processes; one per CPU by default."""
    evaluate_only: bool = False
    """Measure the expert on test episodes instead."""


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
        "success_at_end": rate(sum(bool(episode.success_at_end) for episode in episodes), len(episodes)),
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
    task = load_task(arguments.task)
    if not isinstance(task, ManiSkillTask):
        raise ValueError(f"`task` must be a robot task, such as 'pickcube', but received {arguments.task!r}.")
    if arguments.evaluate_only:
        evaluate_expert(task, arguments)
    else:
        with tqdm(total=arguments.num_episodes, desc="Episodes") as bar:
            collect_demonstrations(
                task,
                arguments.output_dir,
                DemonstrationsConfig(arguments.seed, arguments.num_episodes, arguments.episodes_per_shard),
                num_workers=arguments.num_workers,
                on_episodes=lambda done, _: bar.update(done - bar.n),
            )
        logger.info(f"Wrote {arguments.output_dir}")
    task.close()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
