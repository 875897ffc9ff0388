"""Data that fits in memory, for classification and for regression.

Shape legend: N samples, I input features of the task.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import torch
from numpy.typing import ArrayLike

from .base import Task, check_data_split


# Samples in one forward pass: with `Task.networks_per_batch` networks of width 256, 64 MiB of activations.
SAMPLES_PER_FORWARD = 1024


class InMemoryTask(Task):
    """Inputs and targets in memory. A subclass checks what [`~InMemoryTask.load`] returns, and scores networks.

    Attributes:
        min_observation_std (`float`, defaults to 1e-3):
            Minimum of [`~InMemoryTask.observation_std`], in raw units. Dividing by less would magnify features that
            hardly vary in training.
    """

    sample_name = "sample"
    min_observation_std: float = 1e-3

    @abstractmethod
    def load(self, split: str) -> tuple[ArrayLike, ArrayLike]:
        """Raw inputs `[N, I]` and targets of one of `DATA_SPLITS`, as tensors or arrays.

        Called once per split; the splits must be disjoint, and the same every time.
        """

    @abstractmethod
    def _checked(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Loads a split, as tensors; raises `ValueError` if it does not fit the task."""

    @cached_property
    def _loaded(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {}

    def data(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw inputs `[N, I]` (float32) and targets of one of `DATA_SPLITS`, kept in memory.

        Raises:
            `ValueError`: If `split` is unknown, or the data of [`~InMemoryTask.load`] do not fit the task.
        """
        check_data_split(split)
        if split not in self._loaded:
            self._loaded[split] = self._checked(split)
        return self._loaded[split]

    @cached_property
    def observation_mean(self) -> torch.Tensor:
        return self.data("train")[0].mean(dim=0)

    @cached_property
    def observation_std(self) -> torch.Tensor:
        return self.data("train")[0].std(dim=0, correction=0).clamp(min=self.min_observation_std)

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augments the inputs `[N, I]` of a training batch; returns them unchanged by default."""
        return inputs

    def training_batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = self.data("train")
        indices = torch.randint(len(targets), (batch_size,), generator=generator)
        return self.augment(inputs[indices], generator), targets[indices]

    def num_evaluation_samples(self, split: str) -> int:
        """Samples of a split.

        Raises:
            `ValueError`: If `split` is unknown.
        """
        return len(self.data(split)[1])

    def drawn(self, split: str, num_samples: int | None, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All samples of a split, or `num_samples` of them that `seed` draws without replacement.

        Raises:
            `ValueError`: If `split` is unknown or does not have that many samples.
        """
        inputs, targets = self.data(split)
        if num_samples is None:
            return inputs, targets
        if not 1 <= num_samples <= len(targets):
            raise ValueError(
                f"`num_episodes` must be 1 to {len(targets)}, the size of {split!r}, but received {num_samples}."
            )
        indices = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:num_samples]
        return inputs[indices], targets[indices]
