"""Section `unconditional`: architectures chosen by the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ...architecture import MLPArchitecture
from ..summary import with_interval_over_networks
from .base import Evaluator, Part


def unconditional_parts(evaluator: Evaluator) -> dict[str, Part]:
    config, task = evaluator.config, evaluator.task
    assert config.parameter_range is not None  # derived from the task
    least, most = config.parameter_range
    # what is requested of the architecture, by the name of the part
    requests: dict[str, dict[str, Any]] = {
        "free": {},
        "max_parameters": {"max_parameters": config.max_parameters},
        "parameter_range": {"min_parameters": least, "max_parameters": most},
    }
    # networks of a single layer have no layer to fill in
    if task.max_depth > 1:
        arch = [config.fill_in_width, *[None] * (max(2, task.min_depth) - 1)]
        requests["fill_in"] = {"arch": arch, "max_parameters": config.fill_in_max_parameters}
    parts = {}
    for name, request in requests.items():
        num_networks = config.num_budget_networks if request else config.num_unconditional_networks
        parts[name] = Part(num_networks, partial(score_unconditional, evaluator, name, num_networks, **request))
    return parts


def score_unconditional(
    evaluator: Evaluator,
    name: str,
    num_networks: int,
    arch: list[int | None] | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
) -> dict[str, Any]:
    """Networks whose architectures the model chose, the best ones, and how many violate the request."""
    # generate architectures and weights, then score
    regions, request = evaluator.task.regions, {"min_parameters": min_parameters, "max_parameters": max_parameters}
    networks = evaluator.generate(arch, num_networks, evaluator.generator("joint", name), **request)
    results, selected = evaluator.select(networks)
    # compare the architectures with the request and with the training grid
    architectures = [network.architecture for network in networks]
    return {
        "arch": arch,
        **request,
        **with_interval_over_networks(results),
        "selected": {**with_interval_over_networks(selected), "num_networks": len(selected)},
        "num_violations": sum(
            not meets(architecture, arch, min_parameters, max_parameters) for architecture in architectures
        ),
        "num_distinct": len(set(architectures)),
        **describe_population(architectures),
        "regions": dict(Counter(regions.region_of(architecture.hidden_sizes) for architecture in architectures)),
        # the distribution that the model should reproduce without a request
        "training_grid": describe_population(regions.sample("seen", 2000, evaluator.generator("training grid"))),
        "networks": {
            "hidden_sizes": ["-".join(map(str, architecture.hidden_sizes)) for architecture in architectures],
            "num_parameters": [architecture.num_parameters for architecture in architectures],
            "score": [result.score for result in results],
        },
    }


def meets(
    architecture: MLPArchitecture,
    arch: list[int | None] | None,
    min_parameters: int | None,
    max_parameters: int | None,
) -> bool:
    """Whether an architecture satisfies a request."""
    fits = arch is None or (
        len(arch) == architecture.depth
        and all(wanted in (None, width) for wanted, width in zip(arch, architecture.hidden_sizes))
    )
    least, most = min_parameters or 0, max_parameters or architecture.num_parameters
    return fits and least <= architecture.num_parameters <= most


def describe_population(architectures: Sequence[MLPArchitecture]) -> dict[str, Any]:
    """Share of every depth, and the percentiles 0, 5, …, 100 of the parameter counts."""
    depths = Counter(architecture.depth for architecture in architectures)
    counts = [architecture.num_parameters for architecture in architectures]
    return {
        "depths": {str(depth): depths[depth] / len(architectures) for depth in sorted(depths)},
        "num_parameters": np.percentile(counts, range(0, 101, 5)).tolist(),
    }
