"""What an evaluation says of several networks: mean, spread, and an interval that is no narrower than it may be."""

import statistics
from collections.abc import Hashable, Sequence
from typing import Any

from nnit_diffusers import EvaluationResult
from nnit_diffusers.evaluation import mean_interval, wilson_interval


def summary(results: Sequence[EvaluationResult]) -> dict[str, float]:
    """Scores of networks, and the mean of what else their task counts."""
    scores = [result.score for result in results]
    figures = {
        "mean": statistics.fmean(scores),
        "std": statistics.pstdev(scores),
        "min": min(scores),
        "max": max(scores),
        "num_episodes": sum(result.num_episodes for result in results),
    }
    if "success_at_end" in results[0].metrics:
        figures["success_at_end"] = statistics.fmean(result.metrics["success_at_end"] for result in results)
    return figures


def with_interval(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """A summary, with an interval of its mean: over architectures if there are several, else over networks."""
    architectures = [result.architecture for result in results]
    groups = architectures if len(set(architectures)) > 1 else None
    return add_interval(summary(results), [result.score for result in results], groups)


def with_interval_over_networks(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """A summary, with an interval of its mean over other networks, whatever architectures they have."""
    return add_interval(summary(results), [result.score for result in results])


def add_interval(
    figures: dict[str, Any], values: Sequence[float], groups: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Adds the interval of the mean: that of `values`, but no narrower than that of all episodes together.

    Values that happen to be equal, or a single one, say nothing of how others would vary.
    """
    low, high = bootstrap_interval(values, groups)
    episodes = wilson_interval(round(figures["mean"] * figures["num_episodes"]), figures["num_episodes"])
    return {**figures, "interval": [min(low, episodes[0]), max(high, episodes[1])]}


def bootstrap_interval(values: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Interval of the mean of `values`; of one value alone, that value."""
    return mean_interval(values, groups) if len(values) > 1 else (values[0], values[0])
