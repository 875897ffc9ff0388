"""The interface of a task.

Shape legend: B networks, N samples, I/O input and output features of the task.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from ..executors import NumWorkers
from ..networks import Network
from ..regions import GRID, ArchitectureRegions
from .metadata import Features, Metric


DATA_SPLITS = ("train", "validation", "test")


def check_data_split(split: str) -> None:
    """Raises `ValueError` unless `split` is one of `DATA_SPLITS`."""
    if split not in DATA_SPLITS:
        raise ValueError(f"`split` must be one of {DATA_SPLITS}, but received {split!r}.")


@dataclass(frozen=True)
class Score:
    """The score of one network: a share of successes, or another number with its interval.

    Parameters:
        num_successes (`int`, *optional*):
            Episodes (samples, for a data set) in which the network succeeded; `None` if the score is another number.
        num_episodes (`int`): Episodes the network was scored on.
        metrics (`dict[str, float]`): Further metrics by name.
        value (`float`, *optional*): The score, where it is no share of successes.
        interval (`tuple[float, float]`, *optional*): 95% confidence interval of `value`.
    """

    num_successes: int | None
    num_episodes: int
    metrics: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    interval: tuple[float, float] | None = None


def metric_title(task: Task) -> str:
    """What the score of a task is called within a sentence."""
    return task.metric.title.lower() if task.metric.is_share else task.metric.title


def output_settings(task: Task) -> dict[str, list[float]]:
    """The settings `output_mean` and `output_std` of models for a task; none if its outputs are not standardised."""
    if task.output_statistics is None:
        return {}
    mean, std = task.output_statistics
    return {"output_mean": mean.tolist(), "output_std": std.tolist()}


class Task(ABC):
    """The problem that networks are generated for: training batches, a loss, and a way to score networks.

    Training uses [`~Task.training_batch`] and [`~Task.loss`] alone. Every reported metric comes from [`~Task.score`].
    Subclass [`ClassificationTask`] for labelled data that fits in memory. Subclass this class for anything else, such
    as a simulator. There `training_batch` draws from demonstrations, and `score` runs `num_episodes` episodes in
    `num_workers` processes. [`NetworkBatch`] runs many networks as one.

    `train`, `validation` and `test` (`DATA_SPLITS`) are disjoint sets of samples or of episode seeds. Networks are
    chosen on `validation`; `test` is for the final evaluation only.

    Attributes:
        name (`str`): Name in the registry; set by [`register_task`].
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of networks in training.
        min_width, max_width (`int`, default to 16 and 64): Inclusive range of widths in training.
        min_depth, max_depth (`int`, default to 1 and 3): Inclusive range of the number of hidden layers.
        networks_per_batch (`int`, defaults to 64): Maximum number of networks that [`evaluate`] scores in one call.
        default_num_episodes (`int`, defaults to 100): Episodes of each network by default.
        has_slow_episodes (`bool`, defaults to `False`):
            Whether an episode takes a noticeable part of a second. A search then plans fewer of them.
        metric ([`Metric`]): What the share of successes is called; the success rate by default.
        hub_task (`str`, *optional*): Task of the Hub that this is an instance of, such as `"robotics"`.
        sample_name (`str`, defaults to `"episode"`): Word for what a network is scored on; its plural adds an s.
        observation_layout (`tuple[Features, ...]`, defaults to `()`): Meaning of the inputs; empty if not described.
        action_layout (`tuple[Features, ...]`, defaults to `()`): Meaning of the outputs; empty if not described.
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
    default_num_episodes: int = 100
    has_slow_episodes: bool = False
    metric: Metric = Metric("success_rate", "Success rate")
    hub_task: str | None = None
    sample_name: str = "episode"

    @property
    def title(self) -> str:
        """Name for people; the name in the registry by default."""
        return self.name

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks that this one consists of, see [`MultiTask`]; none by default."""
        return ()

    def subtask(self, label: int | None) -> Task:
        """The task of an index into [`~Task.task_names`]; the task itself for `None`."""
        return self

    @property
    def description(self) -> str:
        """One or two sentences about the task; the first sentence of the class's docstring by default."""
        documented = " ".join((type(self).__doc__ or "").split())
        return re.split(r"(?<=[.!?]) ", documented, maxsplit=1)[0]

    @property
    def observation_layout(self) -> tuple[Features, ...]:
        return ()

    @property
    def action_layout(self) -> tuple[Features, ...]:
        return ()

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

    @property
    def grid(self) -> dict[str, int]:
        """The ranges of widths and depths in training, by the names in [`GRID`]."""
        return {name: getattr(self, name) for name in GRID}

    def with_grid(self, **grid: int) -> Self:
        """The same task with other ranges of widths and depths in training, any of those in [`GRID`].

        Raises:
            `ValueError`: If a name is unknown, or a minimum is less than 1 or greater than its maximum.
        """
        unknown = sorted(grid.keys() - set(GRID))
        if unknown:
            raise ValueError(f"`grid` must have names of {GRID}, but received {unknown}.")
        task = copy(self)
        for name, value in grid.items():
            setattr(task, name, value)
        # checks the ranges
        task.regions  # noqa: B018
        return task

    def spec(self) -> dict[str, Any] | None:
        """What the task can be made from again, JSON-ready, if it comes from no class of its own; see `specs.py`."""
        return None

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

    @property
    def output_statistics(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean and standard deviation `[O]` of the targets, float32, if networks learn standardised outputs.

        Generated networks return raw outputs all the same, and [`~Task.loss`] receives raw outputs. Targets in units
        of their own, such as prices or joint positions, should be standardised. `None` by default.
        """
        return None

    def raw_outputs(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs `[..., O]` in raw units, from standardised ones where the task has statistics of its targets."""
        if self.output_statistics is None:
            return outputs
        mean_O, std_O = (numbers.to(outputs) for numbers in self.output_statistics)
        return outputs * std_O + mean_O

    @abstractmethod
    def training_batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws a batch of the `train` split; the state of `generator`, on the CPU, determines the batch.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Raw inputs `[N, I]`, float32, and the targets for [`~Task.loss`].
        """

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Differentiable training loss `[B]` of B networks, from their raw outputs `[B, N, O]`."""

    def num_evaluation_samples(self, split: str) -> int:
        """Episodes (samples) of a split that [`~Task.score`] uses by default; `default_num_episodes` for all splits.

        Raises:
            `ValueError`: If `split` is unknown.
        """
        check_data_split(split)
        return self.default_num_episodes

    @abstractmethod
    def score(
        self,
        networks: Sequence[Network],
        *,
        split: str = "validation",
        num_episodes: int | None = None,
        seed: int = 0,
        num_workers: NumWorkers = None,
    ) -> list[Score]:
        """Scores networks, which take raw inputs. [`evaluate`] checks their sizes first, and adds intervals.

        Parameters:
            networks (`Sequence[Network]`):
                [`MLP`]s, other modules, or functions from inputs `[N, I]` to outputs `[N, O]`.
            split (`str`, defaults to `"validation"`): One of `DATA_SPLITS`.
            num_episodes (`int`, *optional*):
                Episodes of each network; [`~Task.num_evaluation_samples`] by default.
            seed (`int`, defaults to 0): Chooses the episodes of the split, the same ones for every network.
            num_workers (`int` or `Executor`, *optional*):
                Processes that run episodes, 0 for this process alone, or a `concurrent.futures.Executor`; ignored by
                tasks without a simulator.

        Returns:
            `list[Score]`: One per network.
        """
