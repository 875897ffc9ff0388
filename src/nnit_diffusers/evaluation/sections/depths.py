"""Section `depths`: more and more hidden layers of widths trained on, also far more than were ever trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ...architecture import MLPArchitecture
from ..summary import with_interval
from .base import Evaluator, Part, describe


def depth_parts(evaluator: Evaluator) -> dict[str, Part]:
    parts = {}
    for depth in evaluator.config.depths or ():
        # a narrow grid has few architectures of one layer
        num_networks = len(architectures_of(evaluator, depth)) * evaluator.config.num_depth_networks
        parts[str(depth)] = Part(num_networks, partial(score_depth, evaluator, depth))
    return parts


def architectures_of(evaluator: Evaluator, depth: int) -> list[MLPArchitecture]:
    """Distinct architectures of that depth, with widths that are trained on: seen ones and held-out combinations."""
    regions, generator = evaluator.task.regions, evaluator.generator("depths", str(depth))
    # where the deepest network has one layer less, networks of this depth are all of one region
    below = replace(regions, min_depth=max(1, depth - 1), max_depth=max(1, depth - 1))
    region = "deeper" if depth > 1 else "seen"
    return below.sample_distinct(region, evaluator.config.num_depth_architectures, generator)


def score_depth(evaluator: Evaluator, depth: int) -> dict[str, Any]:
    """NNiT, the raw GHN, and nested slices where they have that depth, on the same architectures."""
    architectures, num_networks = architectures_of(evaluator, depth), evaluator.config.num_depth_networks
    generator = evaluator.generator("depths", str(depth), "networks")
    nnit = evaluator.generate(architectures, num_networks, generator)
    ghn = [net for each in architectures for net in evaluator.generate_by_ghn(each, num_networks, generator)]
    networks = {"nnit": nnit, "ghn": ghn}
    nested = evaluator.pipe.nested
    if nested is not None and all(nested.has(architecture.hidden_sizes) for architecture in architectures):
        networks["nested"] = nested.generate(architectures)
    return {
        "depth": depth,
        "is_trained": evaluator.task.min_depth <= depth <= evaluator.task.max_depth,
        "architectures": [describe(architecture) for architecture in architectures],
        **{name: with_interval(evaluator.results(found)) for name, found in networks.items()},
    }
