"""Summary of the scores of several networks: mean, spread, and a 95% confidence interval with its method."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ..intervals import mean_interval, wilson_interval
from .scoring import EvaluationResult


# Values that differ by less are equal except for rounding.
ROUNDING = 1e-12
# Metrics of a task that stand beside its scores, if it reports them. Those of returns have intervals.
AT_END = "success_at_end"
RETURNS = ("mean_return", "return_of_teacher")


def summary(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """Scores of networks, and means of further metrics that their task reports. `std` is the population's.

    Scores that are no shares of successes, such as R², are marked by `is_share` False.
    """
    scores = [result.score for result in results]
    metrics: dict[str, Any] = {
        "mean": statistics.fmean(scores),
        "std": statistics.pstdev(scores),
        "min": min(scores),
        "max": max(scores),
        "num_episodes": sum(result.num_episodes for result in results),
    }
    if any(result.num_successes is None for result in results):
        metrics["is_share"] = False
    for name in (AT_END, *RETURNS):
        if all(name in result.metrics for result in results):
            metrics[name] = statistics.fmean(result.metrics[name] for result in results)
    return metrics


def with_interval(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """A summary, with the interval of its mean: over architectures if there are several, otherwise over networks."""
    architectures = [result.architecture for result in results]
    if len(set(architectures)) == 1:
        return with_interval_over_networks(results)
    metrics = add_interval(summary(results), [result.score for result in results], architectures)
    return add_return_intervals(metrics, [result.metrics for result in results], architectures)


def with_interval_over_networks(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """A summary, with the interval of its mean over networks, whatever their architectures are."""
    metrics = add_interval(summary(results), [result.score for result in results], unit="num_networks")
    return add_return_intervals(metrics, [result.metrics for result in results])


def add_interval(
    metrics: dict[str, Any],
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    unit: str = "num_architectures",
) -> dict[str, Any]:
    """Adds the 95% interval of the mean of scores, its method, and the number of values or groups behind it.

    The interval is Student's t interval, widened to contain Wilson's interval over all episodes, and clipped to 0…1.
    Values that are all equal, or a single one, have no t interval: then it is Wilson's alone. Scores that are no
    shares of successes have the t interval alone, or none.

    Parameters:
        metrics (`dict[str, Any]`): A summary with `mean` and `num_episodes`.
        values (`Sequence[float]`): The scores.
        groups (`Sequence[Hashable]`, *optional*): Group of each score; see [`mean_interval`].
        unit (`str`, defaults to `"num_architectures"`): Key of the number of groups: what the interval is over.
    """
    num_groups = len(values) if groups is None else len(set(groups))
    if not metrics.get("is_share", True):
        if num_groups < 2:
            return {**metrics, "interval_method": "none", unit: num_groups}
        return {
            **metrics,
            "interval": list(mean_interval(values, groups)),
            "interval_method": "student_t",
            unit: num_groups,
        }
    low, high = wilson_interval(round(metrics["mean"] * metrics["num_episodes"]), metrics["num_episodes"])
    method = "wilson"
    if num_groups > 1:
        t_low, t_high = mean_interval(values, groups)
        if t_low < low or t_high > high:
            low, high, method = max(min(low, t_low), 0.0), min(max(high, t_high), 1.0), "student_t"
    return {**metrics, "interval": [low, high], "interval_method": method, unit: num_groups}


def add_return_intervals(
    metrics: dict[str, Any], rows: Sequence[Mapping[str, float]], groups: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Adds Student's t interval of the mean of every kind of return that a summary has, such as
    `mean_return_interval`.

    Parameters:
        metrics (`dict[str, Any]`): A summary.
        rows (`Sequence[Mapping[str, float]]`): What it is the summary of.
        groups (`Sequence[Hashable]`, *optional*): Group of each row; see [`mean_interval`].
    """
    if len(rows if groups is None else set(groups)) < 2:
        return metrics
    intervals = {
        f"{name}_interval": list(mean_interval([row[name] for row in rows], groups))
        for name in RETURNS
        if name in metrics
    }
    return {**metrics, **intervals}


def difference_summary(differences: Sequence[float], unit: str = "num_architectures") -> dict[str, Any]:
    """Mean of one difference per architecture, or other `unit`, with Student's t interval.

    Differences that are all equal, or a single one, have no interval; the method is then `"none"`.
    """
    metrics = {"mean": statistics.fmean(differences), unit: len(differences)}
    if max(differences) - min(differences) < ROUNDING:
        return {**metrics, "interval_method": "none"}
    return {**metrics, "interval": list(mean_interval(differences)), "interval_method": "student_t"}
