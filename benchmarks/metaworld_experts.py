"""Measures the scripted experts of Meta-World, which are the teachers of its tasks: with and without noise.

    python benchmarks/metaworld_experts.py --output_path docs/measurements/metaworld_experts.json

Every expert acts in the same episodes of the validation split, alone and under the noise of recorded demonstrations.
An episode stops at its first success, so that the steps it took give the rate for every time limit. A task that the
file has already is not measured again.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from nnit_diffusers.intervals import wilson_interval
from nnit_diffusers.loading.local import read_json_object
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks.metaworld import ENVIRONMENTS, MetaWorldTask
from nnit_diffusers.tasks.simulation.rollouts import Episode, EpisodeJob
from nnit_diffusers.tasks.simulation.seeds import episode_seeds
from nnit_diffusers.writing import write_json


# Time limits: a short one, and Meta-World's own.
LIMITS = (200, 500)
# Scale of the noise on the expert's actions.
NOISE = {"undisturbed": 0.0, "disturbed": 1.0}
SPLIT = "validation"


@dataclass
class Arguments:
    """Measures the scripted experts of Meta-World."""

    output_path: str = "outputs/metaworld_experts.json"
    """JSON file to write, or to complete."""
    env_ids: tuple[str, ...] = ENVIRONMENTS
    """Environments to measure."""
    num_episodes: int = 50
    """Episodes of each environment, with and without noise."""
    seed: int = 0
    """Chooses the episodes of the split."""


def summary(episodes: list[Episode]) -> dict[str, Any]:
    """Rates of success for every time limit, and the median of the steps to a success."""
    steps = [len(episode.observations) for episode in episodes if episode.observations is not None]
    needed = [number for number, episode in zip(steps, episodes, strict=True) if episode.success_once]
    rates = {}
    for limit in LIMITS:
        num_successes = sum(number <= limit for number in needed)
        rates[f"within_{limit}_steps"] = {
            "num_successes": num_successes,
            "confidence_interval": wilson_interval(num_successes, len(episodes)),
        }
    return {
        **rates,
        "median_steps_to_success": statistics.median(needed) if needed else None,
        "failed_seeds": [episode.seed for episode in episodes if not episode.success_once],
    }


def measure(env_id: str, num_episodes: int, seed: int) -> dict[str, Any]:
    """The expert of one environment, with and without noise, in the same episodes."""
    task, start = MetaWorldTask(env_id), time.perf_counter()
    results = {}
    for name, noise in NOISE.items():
        jobs = [
            # recorded, because an episode has as many observations as it took steps
            EpisodeJob(one, record=True, noise=noise, stop_at_success=True)
            for one in episode_seeds(SPLIT, seed, num_episodes)
        ]
        results[name] = summary(task.run(jobs, num_workers=0))
    task.close()
    return {
        "settings": {"split": SPLIT, "seed": seed, "num_episodes": num_episodes, "noise_scale": NOISE},
        **results,
        "seconds": time.perf_counter() - start,
        "provenance": provenance(),
    }


def main(arguments: Arguments) -> None:
    path = Path(arguments.output_path)
    results = read_json_object(path)["environments"] if path.exists() else {}
    for env_id in arguments.env_ids:
        if env_id in results:
            continue
        results[env_id] = measure(env_id, arguments.num_episodes, arguments.seed)
        write_json(path, {"environments": dict(sorted(results.items()))})
        counts = [
            f"{name} {results[env_id][name][f'within_{limit}_steps']['num_successes']} within {limit} steps"
            for name in NOISE
            for limit in LIMITS
        ]
        print(f"{env_id}: {', '.join(counts)}; {results[env_id]['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
