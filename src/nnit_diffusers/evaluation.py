"""From networks to figures: scores of many networks, their intervals, and how far they agree.

Shape legend: B, C networks, N samples, K classes, R resamples, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.utils import logging
from torch import nn

from .architecture import MLPArchitecture
from .networks import stack_state_dicts
from .tasks.base import Score, Task, check_data_split
from .tasks.classification import ClassificationTask


_NUM_RESAMPLES = 5000
# Short evaluations, the common ones, show no progress bar.
_PROGRESS_BAR_DELAY_SECONDS = 5.0


@dataclass(frozen=True)
class EvaluationResult:
    """What one network reached on a task.

    Parameters:
        score (`float`): Share of the episodes (samples, for a data set) it got right, 0 to 1.
        num_successes (`int`): Episodes it got right.
        num_episodes (`int`): Episodes it was scored on.
        confidence_interval (`tuple[float, float]`): 95% interval of `score`; see [`wilson_interval`].
        architecture (`MLPArchitecture`): Its shape.
        metrics (`dict[str, float]`):
            What else the task counts. A data set reports as `non_finite` the samples whose outputs were not all
            finite; they count as wrong.
    """

    score: float
    num_successes: int
    num_episodes: int
    confidence_interval: tuple[float, float]
    architecture: MLPArchitecture
    metrics: dict[str, float]

    @classmethod
    def from_score(cls, score: Score, architecture: MLPArchitecture) -> EvaluationResult:
        """The result that a task's [`Score`] of a network amounts to."""
        return cls(
            score.num_successes / score.num_episodes,
            score.num_successes,
            score.num_episodes,
            wilson_interval(score.num_successes, score.num_episodes),
            architecture,
            score.metrics,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "score": self.score,
            "num_successes": self.num_successes,
            "num_episodes": self.num_episodes,
            "confidence_interval": list(self.confidence_interval),
            "architecture": self.architecture.to_dict(),
            "metrics": dict(self.metrics),
        }


@torch.no_grad()
def evaluate(
    networks: Sequence[nn.Module],
    task: Task,
    num_episodes: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    *,
    split: str = "test",
    progress_bar: bool = True,
) -> list[EvaluationResult]:
    """Scores networks on a task, those of the same architecture together.

    Parameters:
        networks (`Sequence[nn.Module]`):
            [`MLP`]s of any mixture of shapes, or other modules with an `architecture` and the state dict keys of an
            MLP. They take raw inputs. Half-precision weights are scored in float32.
        task (`Task`): What to score them on; see [`get_task`].
        num_episodes (`int`, *optional*): Episodes (samples) for each network; all that the task has by default.
        seed (`int`, defaults to 0): Chooses the episodes, the same ones for every network.
        num_workers (`int`, *optional*): Processes to run episodes in, for tasks that use any.
        split (`str`, defaults to `"test"`): One of `DATA_SPLITS`. Select networks on `"validation"`.
        progress_bar (`bool`, defaults to `True`): Show a progress bar when it takes longer than a few seconds.

    Returns:
        `list[EvaluationResult]`: One per network, in their order.

    Raises:
        `ValueError`: If a network has no architecture or does not fit the task, or `split` is unknown.
    """
    check_data_split(split)
    results: dict[int, EvaluationResult] = {}
    batches = _same_shaped_batches(networks, task)
    with logging.tqdm(
        total=len(networks),
        desc=f"Evaluating on {task.name}",
        unit="network",
        delay=_PROGRESS_BAR_DELAY_SECONDS,
        leave=None,  # stays, unless it is one below another
        disable=not progress_bar,
    ) as bar:
        for architecture, indices in batches:
            scores = task.score_batch(
                _stacked_weights(networks, indices),
                architecture.activation,
                split=split,
                num_episodes=num_episodes,
                seed=seed,
                num_workers=num_workers,
            )
            for index, score in zip(indices, scores, strict=True):
                results[index] = EvaluationResult.from_score(score, architecture)
            bar.update(len(indices))
    return [results[index] for index in range(len(networks))]


@torch.no_grad()
def predict(networks: Sequence[nn.Module], task: ClassificationTask, split: str = "test") -> torch.Tensor:
    """The class that each network gives each sample of a split: `[B, N]`, -1 where an output is not finite.

    Raises:
        `ValueError`: As [`evaluate`].
    """
    inputs, _ = task.data(split)
    predictions_BN = torch.empty(len(networks), len(inputs), dtype=torch.long)
    for architecture, indices in _same_shaped_batches(networks, task):
        stacked_state_dict = _stacked_weights(networks, indices)
        predictions_BN[indices] = task.predict_batch(stacked_state_dict, architecture.activation, inputs)
    return predictions_BN


def _same_shaped_batches(networks: Sequence[nn.Module], task: Task) -> list[tuple[MLPArchitecture, list[int]]]:
    """Indices of networks that may run as one, at most `task.networks_per_batch` of them at a time."""
    indices_of: dict[MLPArchitecture, list[int]] = {}
    for index, network in enumerate(networks):
        indices_of.setdefault(_checked_architecture(network, index, task), []).append(index)
    return [
        (architecture, indices[start : start + task.networks_per_batch])
        for architecture, indices in indices_of.items()
        for start in range(0, len(indices), task.networks_per_batch)
    ]


def _checked_architecture(network: nn.Module, index: int, task: Task) -> MLPArchitecture:
    architecture = getattr(network, "architecture", None)
    if not isinstance(architecture, MLPArchitecture):
        raise ValueError(
            "`networks` must be a sequence of `MLP`s, or of modules with an `architecture`, but received a "
            f"{type(network).__name__} without one at index {index}."
        )
    if (architecture.in_features, architecture.out_features) != (task.in_features, task.out_features):
        raise ValueError(
            f"`networks` must have {task.in_features} inputs and {task.out_features} outputs for task {task.name!r}, "
            f"but received {architecture.in_features} and {architecture.out_features} at index {index}."
        )
    return architecture


def _stacked_weights(networks: Sequence[nn.Module], indices: list[int]) -> dict[str, torch.Tensor]:
    stacked_state_dict = stack_state_dicts([networks[index].state_dict() for index in indices])
    return {key: tensor.float() for key, tensor in stacked_state_dict.items()}


def agreement(predictions: torch.Tensor, other_predictions: torch.Tensor | None = None) -> torch.Tensor:
    """Share of the samples that two networks put into the same class, for every pair of networks.

    Parameters:
        predictions (`torch.Tensor`): `[B, N]`, from [`predict`]. A -1 agrees with nothing.
        other_predictions (`torch.Tensor`, *optional*): `[C, N]`; `predictions` again by default.

    Returns:
        `torch.Tensor`: `[B, C]`, 0 to 1.
    """
    others = predictions if other_predictions is None else other_predictions
    num_classes = int(max(predictions.max(), others.max())) + 1
    # -1 becomes class 0, which is then left out.
    one_hot_BNK = F.one_hot(predictions + 1, num_classes + 1)[..., 1:].float()
    one_hot_CNK = F.one_hot(others + 1, num_classes + 1)[..., 1:].float()
    return one_hot_BNK.flatten(1) @ one_hot_CNK.flatten(1).mT / predictions.shape[1]


def select_top(scores: Sequence[float], k: int) -> list[int]:
    """Indices of the `k` best scores, best first; of equal ones the earlier.

    Give it scores of the validation split: what is selected on the test split cannot be reported on it.

    Raises:
        `ValueError`: If there are not `k` scores.
    """
    if not 1 <= k <= len(scores):
        raise ValueError(f"`k` must be 1 to {len(scores)}, the number of scores, but received {k}.")
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:k]


def wilson_interval(num_successes: int, num_episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate: sound near 0 and 1 and for few episodes.

    Raises:
        `ValueError`: If there are no episodes, or more successes than episodes.
    """
    if num_episodes < 1 or not 0 <= num_successes <= num_episodes:
        raise ValueError(
            "`num_successes` must lie between 0 and `num_episodes`, which must be 1 or more, but received "
            f"{num_successes} of {num_episodes}."
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, z2_per_episode = num_successes / num_episodes, z * z / num_episodes
    centre = rate + z2_per_episode / 2
    half_width = z * math.sqrt(rate * (1 - rate) / num_episodes + z2_per_episode / (4 * num_episodes))
    low, high = ((centre + sign * half_width) / (1 + z2_per_episode) for sign in (-1, 1))
    # Rounding must not push a bound past 0, 1 or the rate itself.
    return min(max(low, 0.0), rate), max(min(high, 1.0), rate)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean of `values`.

    Networks of one architecture resemble each other: with their architectures as `groups`, whole groups are resampled,
    so that the interval tells how the mean would vary over other architectures, not over other samples of these.

    Parameters:
        values (`Sequence[float]`): One value per network.
        groups (`Sequence[Hashable]`, *optional*): Group of each value; every value by itself by default.
        seed (`int`, defaults to 0): Seed of the resampling.
        confidence (`float`, defaults to 0.95): Coverage aimed at.

    Raises:
        `ValueError`: If `groups` is not as long as `values`, or there are fewer than two groups.
    """
    groups = range(len(values)) if groups is None else groups
    if len(groups) != len(values):
        raise ValueError(f"`groups` must be as long as `values`, {len(values)}, but received {len(groups)}.")
    number_of = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(number_of) < 2:
        raise ValueError(f"`groups` must hold two or more distinct groups, but received {len(number_of)}.")
    numbers = [number_of[group] for group in groups]
    sums_G, counts_G = np.bincount(numbers, weights=values), np.bincount(numbers)
    times_drawn_RG = np.random.default_rng(seed).multinomial(
        len(number_of), np.full(len(number_of), 1 / len(number_of)), size=_NUM_RESAMPLES
    )
    means_R = (times_drawn_RG @ sums_G) / (times_drawn_RG @ counts_G)
    low, high = np.quantile(means_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
