"""The protocol of a task.

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
    """What one network reached.

    Parameters:
        num_successes (`int`): Episodes (samples, for a data set) it got right.
        num_episodes (`int`): Episodes it was scored on.
        metrics (`dict[str, float]`): Anything else worth a column, by name.
    """

    num_successes: int
    num_episodes: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchPlan:
    """What [`search`] spends on a task unless it is told otherwise; its arguments of the same names say more.

    Parameters:
        num_bands (`int`, defaults to 8): Bands of parameter counts.
        networks_per_band (`int`, defaults to 8): Networks generated in each.
        screen_episodes (`tuple[int, ...]`, defaults to (25, 100)): Validation episodes of each round of the screening.
        reduction (`int`, defaults to 4): Of so many networks of a band, one goes on to the next round.
        num_confirm_episodes (`int`, *optional*): Test episodes of each finalist; the task's own number by default.
    """

    num_bands: int = 8
    networks_per_band: int = 8
    screen_episodes: tuple[int, ...] = (25, 100)
    reduction: int = 4
    num_confirm_episodes: int | None = None


class Task(ABC):
    """What networks are generated for: a source of training batches, a loss, and a way to score networks.

    `examples/train_ghn.py` takes its signal from [`~Task.training_batch`] and [`~Task.loss`] alone; everything that
    reports a figure goes through [`~Task.score_batch`]. Subclass [`ClassificationTask`] for labelled data that fits in
    memory, and this class for anything else, a simulator for one: there `training_batch` draws from demonstrations,
    and `score_batch` runs `num_episodes` episodes in `num_workers` processes.

    `train`, `validation` and `test` (`DATA_SPLITS`) are disjoint sets of samples or of episode seeds. Networks are
    selected on `validation`; `test` is for the final evaluation alone.

    Attributes:
        name (`str`): Name in the registry; set by [`register_task`].
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of the networks that are trained.
        min_width, max_width (`int`, default to 16 and 64): Range of the widths trained on, both inclusive.
        min_depth, max_depth (`int`, default to 1 and 3): Range of the numbers of hidden layers, both inclusive.
        networks_per_batch (`int`, defaults to 64): Most networks given to one call of [`~Task.score_batch`].
        search_plan ([`SearchPlan`]): What a search spends, to be lowered where episodes take long.
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
        """The architectures trained on and held out."""
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
        """The same task, scored as cheaply as its success rate alone allows; the task itself by default.

        Scores have the same `num_successes` and `num_episodes`, but may lack metrics: enough to select networks by.
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
        """Draws a batch of the training split, the same one for the same state of `generator` (a CPU generator).

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Raw inputs `[N, I]`, float32, and the targets for [`~Task.loss`].
        """

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Differentiable training loss of each of B networks, from their outputs `[B, N, O]`: `[B]`."""

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
        """Scores B networks of the same shape, which take raw inputs.

        Parameters:
            stacked_state_dict (`Mapping[str, torch.Tensor]`):
                Their weights, every tensor with a leading B; see [`~networks.stack_state_dicts`].
            activation (`str`): Their activation.
            split (`str`, defaults to `"validation"`): One of `DATA_SPLITS`.
            num_episodes (`int`, *optional*): Episodes for each network; the task's own number by default.
            seed (`int`, defaults to 0): Chooses the episodes of the split, the same ones for every network.
            num_workers (`int`, *optional*): Processes to run episodes in, for tasks that use any.

        Returns:
            `list[Score]`: One per network.
        """
