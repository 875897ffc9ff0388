"""Section `steps`: fewer and more denoising steps."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ..summary import summary, with_interval
from .base import Evaluator, Part, describe


REGIONS_OF_STEPS = ("held_out_combinations", "held_out_widths")


def step_parts(evaluator: Evaluator) -> dict[str, Part]:
    """A part for every number of steps; none if both regions are empty."""
    config = evaluator.config
    num_architectures = sum(
        len(evaluator.sample(region, config.num_step_architectures, evaluator.generator("steps", region)))
        for region in REGIONS_OF_STEPS
    )
    if num_architectures == 0:
        return {}
    num_networks = num_architectures * config.num_step_networks
    return {str(steps): Part(num_networks, partial(score_steps, evaluator, steps)) for steps in config.steps}


def score_steps(evaluator: Evaluator, num_steps: int) -> dict[str, Any]:
    """Scores and generation time of both regions after `num_steps` denoising steps."""
    config = evaluator.config
    result: dict[str, Any] = {}
    for region in REGIONS_OF_STEPS:
        # the same architectures and noise for every number of steps
        generator = evaluator.generator("steps", region)
        architectures = evaluator.sample(region, config.num_step_architectures, generator)
        if not architectures:  # an empty region
            continue
        # generate, timed
        start = time.perf_counter()
        networks = evaluator.generate(architectures, config.num_step_networks, generator, num_steps)
        seconds = time.perf_counter() - start
        # score, and summarise every architecture
        results = evaluator.results(networks)
        rows = [
            {**describe(architecture), **summary([r for r in results if r.architecture == architecture])}
            for architecture in architectures
        ]
        result[region] = {
            **with_interval(results),
            "seconds_per_network": seconds / len(networks),
            "architectures": rows,
        }
    return result
