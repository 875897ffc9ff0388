"""Summary of the scores of several networks: mean, spread, and a 95% confidence interval with its method."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence
from typing import Any

from .intervals import mean_interval, wilson_interval
from .scoring import EvaluationResult


# Values that differ by less are equal except for rounding.
ROUNDING = 1e-12


def summary(results: Sequence[EvaluationResult]) -> dict[str, float]:
    """Scores of networks, and the mean of `success_at_end` if their task reports it. `std` is the population's."""
    scores = [result.score for result in results]
    metrics = {
        "mean": statistics.fmean(scores),
        "std": statistics.pstdev(scores),
        "min": min(scores),
        "max": max(scores),
        "num_episodes": sum(result.num_episodes for result in results),
    }
    if "success_at_end" in results[0].metrics:
        metrics["success_at_end"] = statistics.fmean(result.metrics["success_at_end"] for result in results)
    return metrics


def with_interval(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """A summary, with the interval of its mean: over architectures if there are several, otherwise over networks."""
    architectures = [result.architecture for result in results]
    if len(set(architectures)) == 1:
        return with_interval_over_networks(results)
    return add_interval(summary(results), [result.score for result in results], architectures)


def with_interval_over_networks(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """A summary, with the interval of its mean over networks, whatever their architectures are."""
    return add_interval(summary(results), [result.score for result in results], unit="num_networks")


def add_interval(
    metrics: dict[str, Any],
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    unit: str = "num_architectures",
) -> dict[str, Any]:
    """Adds the 95% interval of the mean of scores, its method, and the number of values or groups behind it.

    The interval is Student's t interval, widened to contain Wilson's interval over all episodes, and clipped to 0…1.
    Values that are all equal, or a single one, have no t interval: then it is Wilson's alone.

    Parameters:
        metrics (`dict[str, Any]`): A summary with `mean` and `num_episodes`.
        values (`Sequence[float]`): The scores.
        groups (`Sequence[Hashable]`, *optional*): Group of each score; see [`mean_interval`].
        unit (`str`, defaults to `"num_architectures"`): Key of the number of groups: what the interval is over.
    """
    num_groups = len(values) if groups is None else len(set(groups))
    low, high = wilson_interval(round(metrics["mean"] * metrics["num_episodes"]), metrics["num_episodes"])
    method = "wilson"
    if num_groups > 1:
        t_low, t_high = mean_interval(values, groups)
        if t_low < low or t_high > high:
            low, high, method = max(min(low, t_low), 0.0), min(max(high, t_high), 1.0), "student_t"
    return {**metrics, "interval": [low, high], "interval_method": method, unit: num_groups}


def difference_summary(differences: Sequence[float]) -> dict[str, Any]:
    """Mean of one difference per architecture, with Student's t interval.

    Differences that are all equal, or a single one, have no interval; the method is then `"none"`.
    """
    metrics = {"mean": statistics.fmean(differences), "num_architectures": len(differences)}
    if max(differences) - min(differences) < ROUNDING:
        return {**metrics, "interval_method": "none"}
    return {**metrics, "interval": list(mean_interval(differences)), "interval_method": "student_t"}
