"""Scores of many networks, of any shapes.

Shape legend: B networks, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import logging
from torch import nn

from ..architecture import MLPArchitecture
from ..networks import stack_state_dicts
from ..tasks.base import Score, Task, check_data_split
from ..tasks.classification import ClassificationTask
from .intervals import wilson_interval


# Short evaluations, the common ones, show no progress bar.
_PROGRESS_BAR_DELAY_SECONDS = 5.0


@dataclass(frozen=True)
class EvaluationResult:
    """Result of one network on a task.

    Parameters:
        score (`float`): Share of successful episodes, 0 to 1. For a data set, the share of correct samples.
        num_successes (`int`): Number of successful episodes.
        num_episodes (`int`): Number of episodes the network was scored on.
        confidence_interval (`tuple[float, float]`): 95% interval of `score`; see [`wilson_interval`].
        architecture (`MLPArchitecture`): Shape of the network.
        metrics (`dict[str, float]`):
            Other metrics of the task. A data set reports the number of samples with outputs that are not finite as
            `non_finite`. They count as wrong.
    """

    score: float
    num_successes: int
    num_episodes: int
    confidence_interval: tuple[float, float]
    architecture: MLPArchitecture
    metrics: dict[str, float]

    @classmethod
    def from_score(cls, score: Score, architecture: MLPArchitecture) -> EvaluationResult:
        """Converts a task's [`Score`] of a network."""
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
    """Scores networks on a task. Networks of the same architecture run together.

    Parameters:
        networks (`Sequence[nn.Module]`):
            [`MLP`]s, which may have different shapes, or other modules with an `architecture` and the state dict keys
            of an MLP. They take raw inputs. Half-precision weights are scored in float32.
        task (`Task`): Task to score on; see [`get_task`].
        num_episodes (`int`, *optional*): Episodes (samples) per network; all that the task has by default.
        seed (`int`, defaults to 0): Seed of the episodes, which are the same for every network.
        num_workers (`int`, *optional*): Number of processes, for tasks that run episodes in processes.
        split (`str`, defaults to `"test"`): One of `DATA_SPLITS`. Choose networks on `"validation"`.
        progress_bar (`bool`, defaults to `True`): Show a progress bar if scoring takes longer than a few seconds.

    Returns:
        `list[EvaluationResult]`: One per network, in the order of `networks`.

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
        leave=None,  # keeps the bar, unless it is nested below another
        disable=not progress_bar,
    ) as bar:
        for architecture, indices in batches:
            # run the networks of one architecture as a batch
            scores = task.score_batch(
                _stacked_weights(networks, indices),
                architecture.activation,
                split=split,
                num_episodes=num_episodes,
                seed=seed,
                num_workers=num_workers,
            )
            # store the results at the positions of the networks in the input
            for index, score in zip(indices, scores, strict=True):
                results[index] = EvaluationResult.from_score(score, architecture)
            bar.update(len(indices))
    return [results[index] for index in range(len(networks))]


@torch.no_grad()
def predict(networks: Sequence[nn.Module], task: ClassificationTask, split: str = "test") -> torch.Tensor:
    """Predicted class of each sample of a split, by each network: `[B, N]`, -1 where an output is not finite.

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
    """Indices of networks that can run as one batch, at most `task.networks_per_batch` in each."""
    # group by architecture, then split into batches
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


def select_top(scores: Sequence[float], k: int) -> list[int]:
    """Indices of the `k` best scores, best first. Of equal scores the earlier one comes first.

    Pass scores of the validation split: networks chosen on the test split cannot be reported on it.

    Raises:
        `ValueError`: If there are not `k` scores.
    """
    if not 1 <= k <= len(scores):
        raise ValueError(f"`k` must be 1 to {len(scores)}, the number of scores, but received {k}.")
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:k]
