"""95% confidence intervals of success rates, of means, and of R².

Shape legend: G groups, N samples, O targets.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np


def wilson_interval(num_successes: int, num_episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate. It is reliable near 0 and 1 and for few episodes.

    Raises:
        `ValueError`: If there are no episodes, or more successes than episodes.
    """
    if num_episodes < 1 or not 0 <= num_successes <= num_episodes:
        raise ValueError(
            "`num_successes` must lie between 0 and `num_episodes`, which must be 1 or more, but received "
            f"{num_successes} of {num_episodes}."
        )
    # solves |rate - p| = z * sqrt(p * (1 - p) / num_episodes) for p
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, z2_per_episode = num_successes / num_episodes, z * z / num_episodes
    centre = rate + z2_per_episode / 2
    half_width = z * math.sqrt(rate * (1 - rate) / num_episodes + z2_per_episode / (4 * num_episodes))
    low, high = ((centre + sign * half_width) / (1 + z2_per_episode) for sign in (-1, 1))
    # keep the bounds within 0 and 1 and around the rate despite rounding
    return min(max(low, 0.0), rate), max(min(high, 1.0), rate)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Student's t interval of the mean of `values`, over groups.

    Networks of one architecture resemble each other. With their architectures as `groups`, the interval describes how
    the mean varies over other architectures, not over other networks of these. With G groups, N values, and n_g values
    of sum S_g in group g:

        variance = G / (G - 1) * sum_g (S_g - n_g * mean)^2 / N^2
        interval = mean ± t(G - 1) * sqrt(variance)

    For groups of equal size this is the t interval of the group means.

    It covers the true mean with probability `confidence` if the group means are normally distributed and the groups
    have equal sizes, for any number of groups. Otherwise this holds only approximately. Scores near 0 or 1 have a
    skewed distribution, for which the interval covers less. If rare groups score far lower than the rest, a small
    sample usually contains none of them, and no interval computed from that sample shows them.

    Parameters:
        values (`Sequence[float]`): One value per network.
        groups (`Sequence[Hashable]`, *optional*): Group of each value; every value is its own group by default.
        confidence (`float`, defaults to 0.95): Coverage of the interval.

    Returns:
        `tuple[float, float]`: Lower and upper bound. They are not clipped, and can lie outside the range of scores.

    Raises:
        `ValueError`: If `groups` is not as long as `values`, or there are fewer than two groups.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    groups = range(len(values)) if groups is None else groups
    if len(groups) != len(values):
        raise ValueError(f"`groups` must be as long as `values`, {len(values)}, but received {len(groups)}.")
    number_of = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    num_groups = len(number_of)
    if num_groups < 2:
        raise ValueError(f"`groups` must hold two or more distinct groups, but received {num_groups}.")

    # sum and size of every group
    numbers = [number_of[group] for group in groups]
    sums_G, counts_G = np.bincount(numbers, weights=values), np.bincount(numbers)

    # cluster-robust variance of the mean
    mean = sums_G.sum() / len(values)
    deviations_G = sums_G - counts_G * mean
    variance = num_groups / (num_groups - 1) * np.square(deviations_G).sum() / len(values) ** 2
    half_width = stdtrit(num_groups - 1, (1 + confidence) / 2) * math.sqrt(variance)
    return float(mean - half_width), float(mean + half_width)


def t_interval(mean: float, std: float, num_values: int, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean, from the sample standard deviation of two values or more."""
    from scipy.special import stdtrit

    half_width = float(stdtrit(num_values - 1, (1 + confidence) / 2)) * std / math.sqrt(num_values)
    return mean - half_width, mean + half_width


def r2_interval(
    errors: np.ndarray, targets: np.ndarray, confidence: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """The coefficient of determination R² of predictions, and its confidence interval.

    R² is 1 - q, where q is the mean squared error divided by the variance of the targets. With several targets, q is
    the mean of theirs. The interval of log q is Student's t, with the standard error of a ratio of two means (delta
    method). It treats the samples as independent draws, and the network as given. It never exceeds 1.

    Parameters:
        errors (`np.ndarray`): `[N, O]`, predictions minus targets, all finite.
        targets (`np.ndarray`): `[N, O]`, their targets.
        confidence (`float`, defaults to 0.95): Coverage of the interval, approximately and for many samples.

    Returns:
        `tuple[float, tuple[float, float]]`: R², and its lower and upper bound. If the targets are all equal, R² is
        not defined: the result is 0, from -1 to 1.

    Raises:
        `ValueError`: If there are fewer than two samples.
    """
    from scipy.special import stdtrit

    num_samples = len(errors)
    if num_samples < 2:
        raise ValueError(f"`errors` must hold two samples or more, but received {num_samples}.")
    errors_NO, deviations_NO = np.square(errors), np.square(targets - targets.mean(axis=0))
    variances_O = deviations_NO.mean(axis=0)
    if not (variances_O > 0).all():
        return 0.0, (-1.0, 1.0)

    # ratio of error and variance, and what each sample contributes to it
    ratios_O = errors_NO.mean(axis=0) / variances_O
    ratio = float(ratios_O.mean())
    if ratio == 0:
        return 1.0, (1.0, 1.0)
    contributions_N = ((errors_NO - ratios_O * deviations_NO) / variances_O).mean(axis=1)
    standard_error = contributions_N.std(ddof=1) / math.sqrt(num_samples) / ratio
    factor = math.exp(float(stdtrit(num_samples - 1, (1 + confidence) / 2)) * standard_error)
    return 1 - ratio, (1 - ratio * factor, 1 - ratio / factor)
