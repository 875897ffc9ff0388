"""The denoising steps that a trained pipeline takes by default: the fewest that score as well as many do."""

from __future__ import annotations

from typing import Any

import torch

from ..evaluation import evaluate
from ..pipelines import NNiTPipeline
from ..tasks.base import Task


FEW_STEPS = (1, 2, 4)
"""Numbers of steps that are tried, in this order."""
MANY_STEPS = 20
"""Steps that they are compared with."""
TOLERANCE = 0.005
"""Part of a score, half a point in percent, that few steps may be behind on validation data."""
NUM_NETWORKS = 2
"""Networks of each architecture, from the same noise for every number of steps."""


def choose_num_steps(
    pipe: NNiTPipeline, task: Task, num_architectures: int = 12, num_episodes: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measures few steps beside many on validation data, and makes the fewest that hold the pipeline's default.

    Parameters:
        pipe (`NNiTPipeline`): The pipeline, whose `default_num_inference_steps` is set.
        task (`Task`): What its networks are for; they have architectures that were trained on.
        num_architectures (`int`, defaults to 12): Architectures of the seen region.
        num_episodes (`int`, *optional*): Validation episodes (samples) of each network; those of the task by default.
        seed (`int`, defaults to 0): Seed of architectures, networks and episodes.

    Returns:
        `dict[str, Any]`: `chosen`, and the mean score of each number of steps that was tried, by its name.
    """
    pipe.set_progress_bar_config(disable=True)
    architectures = task.regions.sample("seen", num_architectures, torch.Generator().manual_seed(seed))
    screened = task.for_screening()

    def mean_score(num_steps: int) -> float:
        generator = torch.Generator().manual_seed(seed + 1)
        made: Any = pipe(architectures, num_networks=NUM_NETWORKS, num_inference_steps=num_steps, generator=generator)
        networks = [network.cpu() for network in made.networks]
        results = evaluate(networks, screened, num_episodes, seed, split="validation", progress_bar=False)
        return sum(result.score for result in results) / len(results)

    # few steps, one number after the other, until one holds
    means = {MANY_STEPS: mean_score(MANY_STEPS)}
    chosen = MANY_STEPS
    for num_steps in FEW_STEPS:
        means[num_steps] = mean_score(num_steps)
        if means[num_steps] >= means[MANY_STEPS] - TOLERANCE:
            chosen = num_steps
            break
    pipe.register_to_config(default_num_inference_steps=chosen)
    return {
        "chosen": chosen,
        "mean_scores": {str(num_steps): mean for num_steps, mean in sorted(means.items())},
        "tolerance": TOLERANCE,
        "split": "validation",
        "num_architectures": num_architectures,
        "num_networks": NUM_NETWORKS,
        "num_episodes": num_episodes or task.num_evaluation_samples("validation"),
        "seed": seed,
    }
