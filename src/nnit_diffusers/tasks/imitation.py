"""Tasks learned by imitation: actions of an expert, in the states that it and the networks get into.

Shape legend: B networks, N samples, I/O observation and action features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..networks import MLP
from .base import Task


DEMONSTRATIONS = "demonstrations-*.safetensors"


def read_demonstrations(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations `[N, I]` and the expert's actions `[N, O]` of one file.

    Raises:
        `ValueError`: If it is no such file.
    """
    try:
        tensors = load_file(path)
        return tensors["observations"], tensors["actions"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{str(path)!r} must be a safetensors file of `observations` and `actions`.") from error


class ImitationTask(Task):
    """Networks learn from what an expert would do, and are scored by doing it themselves.

    Demonstrations come from the files `demonstrations-*.safetensors` of `data_dir`, in the order of their names.
    What [`~ImitationTask.add_demonstrations`] adds to them is drawn in training batches from then on, but does not
    change the observation statistics, which networks under training have been built on. DAgger is

    ```python
    observations, actions = task.collect(networks, seed=round)
    task.add_demonstrations(observations, actions)
    ```

    and a training that resumes adds the same, in the same order: write it to a file when it is collected.

    Parameters:
        data_dir (`str` or `Path`, *optional*): Folder of demonstrations. Only training needs them.

    Attributes:
        min_observation_std (`float`, defaults to 1e-3): Floor of [`~ImitationTask.observation_std`], in raw units.
    """

    min_observation_std: float = 1e-3

    def __init__(self, data_dir: str | Path | None = None):
        self.data_dir = None if data_dir is None else Path(data_dir)
        self._added: list[tuple[torch.Tensor, torch.Tensor]] = []

    @cached_property
    def _collected(self) -> tuple[torch.Tensor, torch.Tensor]:
        paths = [] if self.data_dir is None else sorted(self.data_dir.glob(DEMONSTRATIONS))
        if not paths:
            received = None if self.data_dir is None else str(self.data_dir)
            raise ValueError(
                f"`data_dir` must be a folder of demonstrations to train on {self.name!r}, but received {received!r}, "
                f"which holds none: `python examples/collect_demonstrations.py --task {self.name} --output_dir "
                f"{received or f'outputs/{self.name}/demonstrations'}` collects them."
            )
        observations, actions = zip(*map(read_demonstrations, paths))
        return self._checked(torch.cat(observations), torch.cat(actions))

    def _checked(self, observations: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        num_samples = len(observations)
        if observations.shape != (num_samples, self.in_features) or actions.shape != (num_samples, self.out_features):
            raise ValueError(
                f"Demonstrations of {self.name!r} must be observations [N, {self.in_features}] and actions "
                f"[N, {self.out_features}], but received shapes {list(observations.shape)} and {list(actions.shape)}."
            )
        return observations.float(), actions.float()

    @cached_property
    def demonstrations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw observations `[N, I]` and actions `[N, O]` that training batches are drawn from, added ones last.

        Raises:
            `ValueError`: If there are none in `data_dir`, or they are of another task.
        """
        observations, actions = zip(self._collected, *self._added)
        return torch.cat(observations), torch.cat(actions)

    def add_demonstrations(self, observations: torch.Tensor, actions: torch.Tensor) -> None:
        """Adds observations `[N, I]` and the expert's actions in them `[N, O]` to what training batches hold.

        Raises:
            `ValueError`: If their shapes are not those of the task.
        """
        self._added.append(self._checked(observations, actions))
        self.__dict__.pop("demonstrations", None)

    @cached_property
    def observation_mean(self) -> torch.Tensor:
        return self._collected[0].mean(dim=0)

    @cached_property
    def observation_std(self) -> torch.Tensor:
        return self._collected[0].std(dim=0, correction=0).clamp(min=self.min_observation_std)

    def training_batch(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        observations, actions = self.demonstrations
        indices = torch.randint(len(actions), (batch_size,), generator=generator)
        return observations[indices], actions[indices]

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each of B networks: outputs `[B, N, O]`, actions `[N, O]` -> `[B]`."""
        return (outputs - targets).square().mean(dim=(1, 2))

    @abstractmethod
    def collect(
        self, networks: Sequence[MLP], *, seed: int = 0, num_episodes: int = 1, num_workers: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lets networks act, and asks the expert what it would have done: what a round of DAgger adds.

        Parameters:
            networks (`Sequence[MLP]`): Of any mixture of shapes; they take raw observations.
            seed (`int`, defaults to 0): Chooses the episodes, other ones for every network.
            num_episodes (`int`, defaults to 1): Episodes of each network.
            num_workers (`int`, *optional*): Processes to run episodes in.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Every observation, `[N, I]`, and the expert's action in it, `[N, O]`.
        """
