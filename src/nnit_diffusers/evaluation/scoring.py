"""Scores of many networks, of any shapes.

Shape legend: B networks, N samples, I/O input and output features of the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import logging
from torch import nn

from ..architecture import MLPArchitecture
from ..executors import NumWorkers
from ..intervals import t_interval, wilson_interval
from ..network_batch import NetworkBatch
from ..networks import Network, declared_architecture, mlp_weights
from ..tasks.base import Score, Task, check_data_split
from ..tasks.classification import ClassificationTask


# Short evaluations, the common ones, show no progress bar.
_PROGRESS_BAR_DELAY_SECONDS = 5.0
# More than one input shows whether a network keeps them apart.
_NUM_CHECKED = 2


@dataclass(frozen=True)
class EvaluationResult:
    """Result of one network on a task.

    Parameters:
        score (`float`):
            Share of successful episodes, 0 to 1. For a data set, the share of correct samples, or R².
        num_successes (`int`, *optional*): Number of successful episodes; `None` if the score is no share of them.
        num_episodes (`int`): Number of episodes the network was scored on.
        confidence_interval (`tuple[float, float]`):
            95% interval of `score`; see [`wilson_interval`] and [`r2_interval`].
        architecture (`MLPArchitecture`, *optional*): Shape of the network; `None` if it is no MLP.
        metrics (`dict[str, float]`):
            Other metrics of the task. A data set reports the number of samples with outputs that are not finite as
            `non_finite`. They count as wrong.
    """

    score: float
    num_successes: int | None
    num_episodes: int
    confidence_interval: tuple[float, float]
    architecture: MLPArchitecture | None
    metrics: dict[str, float]

    @classmethod
    def from_score(cls, score: Score, architecture: MLPArchitecture | None) -> EvaluationResult:
        """Converts a task's [`Score`] of a network.

        Raises:
            `ValueError`: If it has neither successes nor a value with its interval.
        """
        if score.num_successes is not None:
            value = score.num_successes / score.num_episodes
            interval = wilson_interval(score.num_successes, score.num_episodes)
        elif score.value is not None and score.interval is not None:
            value, interval = score.value, score.interval
        else:
            raise ValueError(f"A score must have `num_successes`, or `value` and `interval`, but received {score}.")
        return cls(value, score.num_successes, score.num_episodes, interval, architecture, score.metrics)

    @property
    def mean_return_interval(self) -> tuple[float, float] | None:
        """95% Student's t interval of the mean return over episodes, if returns were measured in several."""
        if not {"mean_return", "return_std"} <= self.metrics.keys():
            return None
        return t_interval(self.metrics["mean_return"], self.metrics["return_std"], self.num_episodes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        returns = self.mean_return_interval
        return {
            "score": self.score,
            "num_successes": self.num_successes,
            "num_episodes": self.num_episodes,
            "confidence_interval": list(self.confidence_interval),
            "architecture": None if self.architecture is None else self.architecture.to_dict(),
            "metrics": dict(self.metrics),
            **({} if returns is None else {"mean_return_interval": list(returns)}),
        }


@torch.no_grad()
def evaluate(
    networks: Sequence[Network],
    task: Task,
    num_episodes: int | None = None,
    seed: int = 0,
    num_workers: NumWorkers = None,
    *,
    split: str = "test",
    progress_bar: bool = True,
) -> list[EvaluationResult]:
    """Scores networks on a task. MLPs of the same architecture run together.

    Parameters:
        networks (`Sequence[Network]`):
            Networks that take raw inputs, in any mixture:

            - MLPs, which are scored in float32: [`MLP`]s, `nn.Sequential`s of `nn.Linear` and one activation, and
              modules with an `architecture` and the state dict of an MLP.
            - Other modules, and functions from inputs `[N, I]` to outputs `[N, O]`. Modules are scored in evaluation
              mode. Simulators run networks in processes, so these have to be picklable, or `num_workers` 0.
        task (`Task`): Task to score on; see [`get_task`].
        num_episodes (`int`, *optional*): Episodes (samples) per network; all that the task has by default.
        seed (`int`, defaults to 0): Seed of the episodes, which are the same for every network.
        num_workers (`int` or `Executor`, *optional*):
            For tasks that run episodes: number of processes, 0 for this process, or a `concurrent.futures.Executor`,
            which stays open. The results are the same everywhere.
        split (`str`, defaults to `"test"`): One of `DATA_SPLITS`. Choose networks on `"validation"`.
        progress_bar (`bool`, defaults to `True`): Show a progress bar if scoring takes longer than a few seconds.

    Returns:
        `list[EvaluationResult]`: One per network, in the order of `networks`.

    Raises:
        `ValueError`: If a network does not fit the task, or `split` is unknown.
    """
    check_data_split(split)
    results: dict[int, EvaluationResult] = {}
    with (
        _in_evaluation_mode(networks),
        logging.tqdm(
            total=len(networks),
            desc=f"Evaluating on {task.name}",
            unit="network",
            delay=_PROGRESS_BAR_DELAY_SECONDS,
            leave=None,  # keeps the bar, unless it is nested below another
            disable=not progress_bar,
        ) as bar,
    ):
        architectures = [_checked_architecture(network, index, task) for index, network in enumerate(networks)]
        for indices in _batches(networks, task):
            # run the networks of one architecture as a batch
            scores = task.score(
                [networks[index] for index in indices],
                split=split,
                num_episodes=num_episodes,
                seed=seed,
                num_workers=num_workers,
            )
            # store the results at the positions of the networks in the input
            for index, score in zip(indices, scores, strict=True):
                results[index] = EvaluationResult.from_score(score, architectures[index])
            bar.update(len(indices))
    return [results[index] for index in range(len(networks))]


@torch.no_grad()
def predict(networks: Sequence[Network], task: ClassificationTask, split: str = "test") -> torch.Tensor:
    """Predicted class of each sample of a split, by each network: `[B, N]`, -1 where an output is not finite.

    Takes the networks that [`evaluate`] takes.

    Raises:
        `ValueError`: As [`evaluate`].
    """
    inputs, _ = task.data(split)
    predictions_BN = torch.empty(len(networks), len(inputs), dtype=torch.long)
    with _in_evaluation_mode(networks):
        for index, network in enumerate(networks):
            _checked_architecture(network, index, task)
        for indices in _batches(networks, task):
            predictions_BN[indices] = task.predict([networks[index] for index in indices], inputs)
    return predictions_BN


def _batches(networks: Sequence[Network], task: Task) -> list[list[int]]:
    """Indices of networks that are scored in one call: MLPs of one architecture, or networks that are no MLPs.

    A batch has at most `task.networks_per_batch` networks.
    """
    # group by architecture, then split into batches
    indices_of: dict[MLPArchitecture | None, list[int]] = {}
    for index, network in enumerate(networks):
        found = mlp_weights(network)
        indices_of.setdefault(None if found is None else found[0], []).append(index)
    return [
        indices[start : start + task.networks_per_batch]
        for indices in indices_of.values()
        for start in range(0, len(indices), task.networks_per_batch)
    ]


def _checked_architecture(network: Network, index: int, task: Task) -> MLPArchitecture | None:
    """The architecture of a network, if it has one.

    Raises:
        `ValueError`: If its inputs and outputs are not those of the task.
    """
    found = mlp_weights(network)
    architecture = declared_architecture(network) if found is None else found[0]
    if architecture is None:
        _check_call(network, index, task)
    elif (architecture.in_features, architecture.out_features) != (task.in_features, task.out_features):
        raise ValueError(
            f"`networks` must have {task.in_features} inputs and {task.out_features} outputs for task {task.name!r}, "
            f"but received {architecture.in_features} and {architecture.out_features} at index {index}."
        )
    return architecture


def _check_call(network: Network, index: int, task: Task) -> None:
    """Calls a network of unknown architecture once, with `_NUM_CHECKED` inputs of zeros."""
    given, wanted = [_NUM_CHECKED, task.in_features], [_NUM_CHECKED, task.out_features]
    required = (
        f"`networks` must be MLPs, or functions from inputs {given} to outputs {wanted} for task {task.name!r}, but "
        "received"
    )
    kind = type(network).__name__
    if not callable(network):
        raise ValueError(f"{required} a {kind} at index {index}.")
    try:
        (outputs,) = NetworkBatch([network])(torch.zeros(given))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{required} a {kind} at index {index} that raises {type(error).__name__}: {reason:.200}"
        ) from error
    if list(outputs.shape) != wanted:
        raise ValueError(f"{required} a {kind} at index {index} with outputs {list(outputs.shape)}.")


@contextmanager
def _in_evaluation_mode(networks: Sequence[Network]) -> Iterator[None]:
    """Puts all modules into evaluation mode, and restores the mode of each afterwards."""
    roots = [network for network in networks if isinstance(network, nn.Module)]
    in_training = [module for root in roots for module in root.modules() if module.training]
    for module in in_training:
        module.training = False
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def select_top(scores: Sequence[float], k: int) -> list[int]:
    """Indices of the `k` best scores, best first. Of equal scores the earlier one comes first.

    Pass scores of the validation split: networks chosen on the test split cannot be reported on it.

    Raises:
        `ValueError`: If there are not `k` scores.
    """
    if not 1 <= k <= len(scores):
        raise ValueError(f"`k` must be 1 to {len(scores)}, the number of scores, but received {k}.")
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:k]
