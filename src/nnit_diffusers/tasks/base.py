"""The interface of a task.

Shape legend: B networks, N samples, I/O input and output features of the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..regions import ArchitectureRegions


DATA_SPLITS = ("train", "validation", "test")


def check_data_split(split: str) -> None:
    """Raises `ValueError` unless `split` is one of `DATA_SPLITS`."""
    if split not in DATA_SPLITS:
        raise ValueError(f"`split` must be one of {DATA_SPLITS}, but received {split!r}.")


@dataclass(frozen=True)
class Score:
    """The score of one network.

    Parameters:
        num_successes (`int`): Episodes (samples, for a data set) in which the network succeeded.
        num_episodes (`int`): Episodes the network was scored on.
        metrics (`dict[str, float]`): Further metrics by name.
    """

    num_successes: int
    num_episodes: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchPlan:
    """Defaults of a task for the arguments of the same names of [`search`].

    Parameters:
        num_bands (`int`, defaults to 8): Bands of parameter counts.
        networks_per_band (`int`, defaults to 8): Networks generated in each band.
        screen_episodes (`tuple[int, ...]`, defaults to (25, 100)): Validation episodes in each screening round.
        reduction (`int`, defaults to 4): A screening round keeps one network in `reduction` of each band.
        num_confirm_episodes (`int`, *optional*): Test episodes of each finalist; the task's own number by default.
    """

    num_bands: int = 8
    networks_per_band: int = 8
    screen_episodes: tuple[int, ...] = (25, 100)
    reduction: int = 4
    num_confirm_episodes: int | None = None


class Task(ABC):
    """The problem that networks are generated for: training batches, a loss, and a way to score networks.

    `examples/train_ghn.py` trains on [`~Task.training_batch`] and [`~Task.loss`] alone. Every reported metric comes
    from [`~Task.score_batch`]. Subclass [`ClassificationTask`] for labelled data that fits in memory. Subclass this
    class for anything else, such as a simulator. There `training_batch` draws from demonstrations, and `score_batch`
    runs `num_episodes` episodes in `num_workers` processes.

    `train`, `validation` and `test` (`DATA_SPLITS`) are disjoint sets of samples or of episode seeds. Networks are
    chosen on `validation`; `test` is for the final evaluation only.

    Attributes:
        name (`str`): Name in the registry; set by [`register_task`].
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of networks in training.
        min_width, max_width (`int`, default to 16 and 64): Inclusive range of widths in training.
        min_depth, max_depth (`int`, default to 1 and 3): Inclusive range of the number of hidden layers.
        networks_per_batch (`int`, defaults to 64): Maximum number of networks in one call of [`~Task.score_batch`].
        search_plan ([`SearchPlan`]): Defaults of a search, lower for tasks with slow episodes.
    """

    name: str
    in_features: int
    out_features: int
    activation: str = "relu"
    min_width: int = 16
    max_width: int = 64
    min_depth: int = 1
    max_depth: int = 3
    networks_per_batch: int = 64
    search_plan: SearchPlan = SearchPlan()

    @property
    def regions(self) -> ArchitectureRegions:
        """The regions of architectures that are trained on and held out."""
        return ArchitectureRegions(
            self.in_features,
            self.out_features,
            self.activation,
            min_width=self.min_width,
            max_width=self.max_width,
            min_depth=self.min_depth,
            max_depth=self.max_depth,
        )

    def for_screening(self) -> Task:
        """Returns a cheaper version of the task for comparing networks by success rate; the task itself by default.

        Its scores have the same `num_successes` and `num_episodes`, but may lack metrics.
        """
        return self

    @property
    @abstractmethod
    def observation_mean(self) -> torch.Tensor:
        """`[I]`: mean of the raw training inputs, float32."""

    @property
    @abstractmethod
    def observation_std(self) -> torch.Tensor:
        """`[I]`: standard deviation of the raw training inputs, float32, never zero."""

    @abstractmethod
    def training_batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws a batch of the `train` split; the state of `generator`, on the CPU, determines the batch.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Raw inputs `[N, I]`, float32, and the targets for [`~Task.loss`].
        """

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Differentiable training loss `[B]` of B networks, from their outputs `[B, N, O]`."""

    @abstractmethod
    def score_batch(
        self,
        stacked_state_dict: Mapping[str, torch.Tensor],
        activation: str,
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> list[Score]:
        """Scores B networks of the same shape; they take raw inputs.

        Parameters:
            stacked_state_dict (`Mapping[str, torch.Tensor]`):
                Weights of the networks, every tensor with a leading B; see [`~networks.stack_state_dicts`].
            activation (`str`): Activation of the networks.
            split (`str`, defaults to `"validation"`): One of `DATA_SPLITS`.
            num_episodes (`int`, *optional*): Episodes for each network; the task's own number by default.
            seed (`int`, defaults to 0): Chooses the episodes of the split, the same ones for every network.
            num_workers (`int`, *optional*): Processes that run episodes; ignored by tasks without a simulator.

        Returns:
            `list[Score]`: One per network.
        """
