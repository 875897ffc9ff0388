"""Regression on data that fits in memory.

Shape legend: B networks, N samples, I/O input features and target numbers of the task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from numpy.typing import ArrayLike

from ..executors import NumWorkers
from ..intervals import r2_interval
from ..network_batch import NetworkBatch
from ..networks import Network
from .base import Score
from .in_memory import SAMPLES_PER_FORWARD, InMemoryTask
from .metadata import Features, Metric


class RegressionTask(InMemoryTask):
    """Numbers to predict, of data in memory; the score is the coefficient of determination R².

    R² is the share of the targets' variance that the predictions explain: 1 is perfect, 0 is as good as always
    predicting the mean of the scored samples, and below 0 is inferior to that. With several target numbers it is the
    mean of their R². A subclass sets `in_features` and `out_features` and implements [`~RegressionTask.load`].

    Networks learn targets that are standardised, and return predictions in raw units.
    """

    metric = Metric("r2", "R²", is_share=False)
    hub_task = "tabular-regression"

    @property
    def action_layout(self) -> tuple[Features, ...]:
        return (Features("prediction", self.out_features),)

    @abstractmethod
    def load(self, split: str) -> tuple[ArrayLike, ArrayLike]:
        """Raw inputs `[N, I]` and targets `[N, O]` of one of `DATA_SPLITS`, as tensors or arrays.

        Called once per split; the splits must be disjoint, and the same every time.
        """

    def _checked(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = (torch.as_tensor(loaded).float() for loaded in self.load(split))
        # R² and its interval need two targets that differ
        if (
            len(targets) < 2
            or inputs.shape != (len(targets), self.in_features)
            or targets.shape != (len(targets), self.out_features)
        ):
            raise ValueError(
                f"`load({split!r})` must return inputs [N, {self.in_features}] and targets "
                f"[N, {self.out_features}] of two samples or more, but received shapes {list(inputs.shape)} and "
                f"{list(targets.shape)}."
            )
        if not targets.isfinite().all():
            raise ValueError(f"`load({split!r})` must return finite targets, but received NaN or infinity.")
        if (targets == targets[0]).all(dim=0).any():
            raise ValueError(f"`load({split!r})` must return targets that vary, but received a constant.")
        return inputs, targets

    @cached_property
    def output_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation `[O]` of the training targets."""
        targets = self.data("train")[1].double()
        return targets.mean(dim=0).float(), targets.std(dim=0, correction=0).float()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error `[B]`, in variances of the training targets, from outputs `[B, N, O]`."""
        std_O = self.output_statistics[1].to(outputs)
        return ((outputs - targets) / std_O).square().mean(dim=(1, 2))

    @torch.no_grad()
    def predict(self, networks: Sequence[Network], inputs: torch.Tensor) -> torch.Tensor:
        """Predictions `[B, N, O]` of B networks for raw inputs `[N, I]`."""
        batch = NetworkBatch(networks)
        return torch.cat([batch(chunk).cpu() for chunk in inputs.split(SAMPLES_PER_FORWARD)], dim=1)

    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: NumWorkers = None,
    ) -> list[Score]:
        """Scores networks by R², with its interval; see [`~Task.score`].

        With `num_episodes`, `seed` draws that many samples without replacement; otherwise all samples are used.
        `num_workers` is ignored. Predictions that are not finite are replaced by the mean of the training targets and
        counted as `non_finite`. The metric `rmse` is the root mean squared error, in units of the target.

        Raises:
            `ValueError`: If `split` is unknown or does not have `num_episodes` samples.
        """
        if num_episodes == 1:
            raise ValueError("`num_episodes` must be 2 or more, because R² needs two samples, but received 1.")
        inputs, targets = self.drawn(split, num_episodes, seed)
        # one score per network
        scores = []
        for predictions_NO in self.predict(networks, inputs):
            finite_NO = predictions_NO.isfinite()
            kept_NO = torch.where(finite_NO, predictions_NO, self.output_statistics[0])
            errors_NO = (kept_NO - targets).double()
            value, interval = r2_interval(errors_NO.numpy(), targets.double().numpy())
            metrics = {
                "rmse": errors_NO.square().mean().sqrt().item(),
                "non_finite": float((~finite_NO).any(dim=1).sum()),
            }
            scores.append(Score(None, len(targets), metrics, value, interval))
        return scores
