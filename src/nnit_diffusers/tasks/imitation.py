"""Tasks learned by imitating an expert, in states that the expert or the networks visit.

Shape legend: B networks, N samples, I/O observation and action features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ..executors import NumWorkers
from ..loading.local import check_weights
from ..networks import Network
from .base import Task


DEMONSTRATIONS = "demonstrations-*.safetensors"
# Recorded actions may lie this far out of bounds, as rounding leaves them.
_ACTION_TOLERANCE = 1e-3
# Smallest standard deviation of a standardised action: relative to the largest one, and in raw units.
_MIN_RELATIVE_STD, _MIN_ACTION_STD = 0.01, 1e-6
# Error of a standardised action below which its loss is a square.
_SMOOTH_BELOW = 0.1


def read_demonstrations(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads observations `[N, I]` and the expert's actions `[N, O]` from one file.

    Raises:
        `OSError`: If the file is missing, truncated or altered.
        `ValueError`: If it lacks one of both tensors.
    """
    check_weights(path)
    try:
        tensors = load_file(path)
        return tensors["observations"], tensors["actions"]
    except KeyError as error:
        raise ValueError(f"{str(path)!r} must be a safetensors file of `observations` and `actions`.") from error


class ImitationTask(Task):
    """A task whose networks learn an expert's actions, and are scored by acting themselves.

    Demonstrations are read from the files `demonstrations-*.safetensors` of `data_dir`, in the order of their names.
    [`~ImitationTask.add_demonstrations`] adds to the samples that training batches draw from. It does not change the
    observation statistics, because networks in training depend on them. A round of DAgger is

    ```python
    observations, actions = task.collect(networks, seed=round)
    task.add_demonstrations(observations, actions)
    ```

    A resumed training run has to add the same samples in the same order, so save them to a file when collected.

    Parameters:
        data_dir (`str` or `Path`, *optional*): Folder of demonstrations. Only training needs them.

    Attributes:
        min_observation_std (`float`, defaults to 1e-3): Minimum of [`~ImitationTask.observation_std`], in raw units.
        can_label (`bool`, defaults to `True`):
            Whether there is an expert for [`~ImitationTask.collect`]. Without one, a run has no rounds of DAgger.
        standardises_actions (`bool`, defaults to `False`):
            Whether networks learn actions standardised by the demonstrations, which actions beyond -1…1 need.
    """

    hub_task = "robotics"
    min_observation_std: float = 1e-3
    can_label: bool = True
    standardises_actions: bool = False

    def __init__(self, data_dir: str | Path | None = None):
        self.data_dir = None if data_dir is None else Path(data_dir)
        self._added: list[tuple[torch.Tensor, torch.Tensor]] = []

    def separate(self) -> Self:
        """A copy to train on: demonstrations that are added to it are not added to this task."""
        separate = copy(self)
        separate._added = list(self._added)
        return separate

    def read_from(self, data_dir: str | Path) -> None:
        """Reads demonstrations from another folder from now on; those that were added are dropped."""
        self.data_dir, self._added = Path(data_dir), []
        for name in ("_collected", "demonstrations", "observation_mean", "observation_std", "output_statistics"):
            self.__dict__.pop(name, None)

    @cached_property
    def _collected(self) -> tuple[torch.Tensor, torch.Tensor]:
        paths = [] if self.data_dir is None else sorted(self.data_dir.glob(DEMONSTRATIONS))
        if not paths:
            received = None if self.data_dir is None else str(self.data_dir)
            raise ValueError(
                f"`data_dir` must be a folder of demonstrations to train on {self.name!r}, but received {received!r}, "
                "which has none. `nnit train`, without a `data_dir`, records the expert of a robot task. To record it "
                "only, call `nnit_diffusers.training.collect_demonstrations(task, output_dir)`."
            )
        samples = [self._checked(*read_demonstrations(path), f"{str(path)!r} of {self.name!r}") for path in paths]
        observations, actions = zip(*samples)
        return torch.cat(observations), torch.cat(actions)

    @property
    def action_bounds(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Lowest and highest action `[O]` that demonstrations may have; `None` if there are no bounds."""
        return None

    def _checked(
        self, observations: torch.Tensor, actions: torch.Tensor, where: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples as float32; raises `ValueError` if their sizes, a number or an action are wrong."""
        num_samples = len(observations)
        if observations.shape != (num_samples, self.in_features) or actions.shape != (num_samples, self.out_features):
            raise ValueError(
                f"Demonstrations in {where} must be observations [N, {self.in_features}] and actions "
                f"[N, {self.out_features}], but received shapes {list(observations.shape)} and {list(actions.shape)}."
            )
        observations, actions = observations.float(), actions.float()
        for what, values in (("observations", observations), ("actions", actions)):
            if not values.isfinite().all():
                row, column = (~values.isfinite()).nonzero()[0].tolist()
                raise ValueError(
                    f"Demonstrations in {where} must be finite numbers, but number {column} of the {what} in row "
                    f"{row} is {values[row, column]}."
                )
        if self.action_bounds is not None:
            low, high = self.action_bounds
            outside = (actions < low - _ACTION_TOLERANCE) | (actions > high + _ACTION_TOLERANCE)
            if outside.any():
                row, column = outside.nonzero()[0].tolist()
                raise ValueError(
                    f"Demonstrations in {where} must have actions within the bounds, but number {column} of the "
                    f"action in row {row} is {actions[row, column]:.6g}, and its bounds are {low[column]:.6g} and "
                    f"{high[column]:.6g}."
                )
        return observations, actions

    @cached_property
    def demonstrations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw observations `[N, I]` and actions `[N, O]` that training batches draw from, added ones last.

        Raises:
            `ValueError`: If `data_dir` has no demonstrations, or those of another task.
        """
        observations, actions = zip(self._collected, *self._added)
        return torch.cat(observations), torch.cat(actions)

    def add_demonstrations(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """Adds observations `[N, I]` and the expert's actions `[N, O]` to the samples that training batches draw from.

        Raises:
            `ValueError`: If their shapes do not fit the task, or a number is not finite or out of bounds.
        """
        self._added.append(self._checked(observations, actions, f"the samples added to {self.name!r}"))
        # clear the cached property
        self.__dict__.pop("demonstrations", None)

    @cached_property
    def observation_mean(self) -> torch.Tensor:
        return self._collected[0].mean(dim=0)

    @cached_property
    def observation_std(self) -> torch.Tensor:
        return self._collected[0].std(dim=0, correction=0).clamp(min=self.min_observation_std)

    @cached_property
    def output_statistics(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean and standard deviation `[O]` of the recorded actions, if networks learn standardised actions."""
        if not self.standardises_actions:
            return None
        actions = self._collected[1]
        std = actions.std(dim=0, correction=0)
        # an action that hardly varies must not count more than it matters
        return actions.mean(dim=0), std.clamp(min=max(_MIN_RELATIVE_STD * std.max().item(), _MIN_ACTION_STD))

    def training_batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        observations, actions = self.demonstrations
        indices = torch.randint(len(actions), (batch_size,), generator=generator)
        return observations[indices], actions[indices]

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss `[B]` of B networks, from outputs `[B, N, O]` and actions `[N, O]`.

        Mean squared error. Where actions are standardised, the mean absolute error in standard deviations, which is
        smooth below a tenth of one. Such actions are not clipped to what is usual: a policy that gets far out, by
        rounds of DAgger, would otherwise decide all of the loss with what the expert does there.
        """
        if self.output_statistics is None:
            return (outputs - targets).square().mean(dim=(1, 2))
        std_O = self.output_statistics[1].to(outputs)
        outputs_BNO, targets_NO = outputs / std_O, targets / std_O
        losses_BNO = F.smooth_l1_loss(
            outputs_BNO, targets_NO.expand_as(outputs_BNO), reduction="none", beta=_SMOOTH_BELOW
        )
        return losses_BNO.mean(dim=(1, 2))

    @abstractmethod
    def collect(
        self, networks: Sequence[Network], *, seed: int = 0, num_episodes: int = 1, num_workers: NumWorkers = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs networks and labels every observation with the expert's action: the samples of a DAgger round.

        Parameters:
            networks (`Sequence[Network]`): Networks of any shapes; they take raw observations.
            seed (`int`, defaults to 0): Chooses the episodes, different ones for every network.
            num_episodes (`int`, defaults to 1): Episodes of each network.
            num_workers (`int` or `Executor`, *optional*):
                Processes that run episodes, 0 for this process alone, or a `concurrent.futures.Executor`.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Every observation, `[N, I]`, and the expert's action in it, `[N, O]`.
        """
