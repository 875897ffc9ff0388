"""Section `direct`: networks trained directly, of the same architectures as generated ones."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ...architecture import MLPArchitecture
from ..direct import train_directly
from ..summary import with_interval_over_networks
from .base import Evaluator, Part, describe


def direct_parts(evaluator: Evaluator) -> dict[str, Part]:
    """A part for each of the first architectures of both held-out regions, as the section `regions` draws them."""
    config, parts = evaluator.config, {}
    for region in ("held_out_combinations", "held_out_widths"):
        drawn = evaluator.sample(region, config.num_architectures, evaluator.generator("splits", region))
        for architecture in drawn[: config.num_direct_architectures]:
            name = "-".join(map(str, architecture.hidden_sizes))
            parts[f"{region}/{name}"] = Part(0, partial(score_direct, evaluator, region, architecture))
    return parts


def score_direct(evaluator: Evaluator, region: str, architecture: MLPArchitecture) -> dict[str, Any]:
    """Trains networks of one architecture, each with its own seed, and scores them as generated ones are."""
    config = evaluator.config
    start = time.perf_counter()
    networks = train_directly(
        evaluator.task,
        architecture,
        seeds=range(config.seed, config.seed + config.num_direct_networks),
        num_steps=config.direct_steps,
        batch_size=config.direct_batch_size,
        learning_rate=config.direct_learning_rate,
        num_episodes=config.num_episodes,
    )
    seconds = time.perf_counter() - start
    # all generated networks are scored on validation episodes where they are screened
    results = evaluator.screen(networks) if evaluator.is_screened else evaluator.results(networks)
    return {
        **describe(architecture),
        "region": region,
        "direct": with_interval_over_networks(results),
        "num_trained_networks": len(networks),
        "training_seconds_per_network": seconds / len(networks),
    }
