"""Classification of labelled data that fits in memory.

Shape legend: B networks, N samples, I/O input features and classes of the task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from ..executors import NumWorkers
from ..network_batch import NetworkBatch
from ..networks import Network
from .base import Score
from .in_memory import SAMPLES_PER_FORWARD, InMemoryTask
from .metadata import Features, Metric


class ClassificationTask(InMemoryTask):
    """Labelled data in memory; an episode is one sample, and a success a correct prediction.

    A subclass sets `in_features` and `out_features` and implements [`~ClassificationTask.load`]:

    ```python
    @register_task("iris")
    class IrisTask(ClassificationTask):
        in_features, out_features = 4, 3

        def load(self, split):
            inputs, labels = sklearn.datasets.load_iris(return_X_y=True)
            rows = np.arange(len(labels)) % 5  # 3 of 5 rows for training, one each for validation and test
            chosen = {"train": rows < 3, "validation": rows == 3, "test": rows == 4}[split]
            return inputs[chosen], labels[chosen]
    ```

    Attributes:
        min_observation_std (`float`, defaults to 1e-3): See [`InMemoryTask`].
        label_smoothing (`float`, defaults to 0):
            Fraction of every training target that is spread over all classes; see
            `torch.nn.functional.cross_entropy`.
    """

    metric = Metric("accuracy", "Accuracy")
    hub_task = "tabular-classification"
    label_smoothing: float = 0.0

    @property
    def action_layout(self) -> tuple[Features, ...]:
        return (Features("class logits", self.out_features),)

    @abstractmethod
    def load(self, split: str) -> tuple[ArrayLike, ArrayLike]:
        """Raw inputs `[N, I]` and labels `[N]` (0…O-1) of one of `DATA_SPLITS`, as tensors or arrays.

        Called once per split; the splits must be disjoint, and the same every time.
        """

    def _checked(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        loaded_inputs, loaded_labels = self.load(split)
        # shapes and range of the labels
        inputs = torch.as_tensor(loaded_inputs).float()
        labels = torch.as_tensor(loaded_labels).long()
        if len(labels) == 0 or inputs.shape != (len(labels), self.in_features) or labels.ndim != 1:
            raise ValueError(
                f"`load({split!r})` must return inputs [N, {self.in_features}] and labels [N] of one sample or "
                f"more, but received shapes {list(inputs.shape)} and {list(labels.shape)}."
            )
        if labels.min() < 0 or labels.max() >= self.out_features:
            raise ValueError(
                f"`load({split!r})` must return labels 0…{self.out_features - 1}, but received "
                f"{int(labels.min())}…{int(labels.max())}."
            )
        return inputs, labels

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy `[B]` of B networks, from outputs `[B, N, O]` and labels `[N]` or `[B, N]`."""
        losses_BN = F.cross_entropy(
            outputs.mT,
            targets.expand(outputs.shape[:2]),
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return losses_BN.mean(dim=1)

    @torch.no_grad()
    def predict(self, networks: Sequence[Network], inputs: torch.Tensor) -> torch.Tensor:
        """Classes `[B, N]` that B networks predict for raw inputs `[N, I]`; -1 where an output is not finite."""
        batch, predictions = NetworkBatch(networks), []
        for chunk in inputs.split(SAMPLES_PER_FORWARD):
            outputs_BNO = batch(chunk)
            finite_BN = outputs_BNO.isfinite().all(dim=-1)
            predictions.append(outputs_BNO.argmax(dim=-1).where(finite_BN, -1).cpu())
        return torch.cat(predictions, dim=1)

    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: NumWorkers = None,
    ) -> list[Score]:
        """Scores networks; see [`~Task.score`].

        With `num_episodes`, `seed` draws that many samples without replacement; otherwise all samples are used.
        `num_workers` is ignored.

        Raises:
            `ValueError`: If `split` is unknown or does not have `num_episodes` samples.
        """
        inputs, labels = self.drawn(split, num_episodes, seed)
        # count correct predictions
        predictions_BN = self.predict(networks, inputs)
        num_correct = (predictions_BN == labels).sum(dim=1).tolist()
        num_non_finite = (predictions_BN == -1).sum(dim=1).tolist()
        return [
            Score(correct, len(labels), {"non_finite": non_finite})
            for correct, non_finite in zip(num_correct, num_non_finite)
        ]
