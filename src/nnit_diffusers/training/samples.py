"""Training samples of a micro-step: one batch of a task, or of each of several tasks that it has networks of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..tasks.base import Task


@dataclass
class TaskSamples:
    """Inputs and targets by the label of their task, which is `None` if there is one task."""

    batches: dict[int | None, tuple[torch.Tensor, Any]]

    def of(self, label: int | None) -> tuple[torch.Tensor, Any]:
        """Inputs `[N, I]` and targets of a task."""
        return self.batches[label]

    def to(self, device: torch.device) -> TaskSamples:
        """The same on a device."""
        return TaskSamples({label: (x.to(device), y.to(device)) for label, (x, y) in self.batches.items()})


def draw_labels(task: Task, num_networks: int, generator: torch.Generator) -> torch.Tensor | None:
    """Labels of as many different tasks as possible `[B]`, on the CPU; `None` for a task that is only one."""
    num_tasks = len(task.task_names)
    if not num_tasks:
        return None
    # round after round over all tasks, so that a step has few networks of the same task
    rounds = [torch.randperm(num_tasks, generator=generator) for _ in range(-(-num_networks // num_tasks))]
    return torch.cat(rounds)[:num_networks]


def drop_labels(
    labels: torch.Tensor | None, num_tasks: int, fraction: float, generator: torch.Generator
) -> torch.Tensor | None:
    """Labels of which a fraction is replaced by that of any task, the number of tasks."""
    if labels is None:
        return None
    is_dropped = torch.rand(len(labels), generator=generator) < fraction
    return torch.where(is_dropped.to(labels.device), num_tasks, labels)


def draw_samples(
    task: Task,
    labels: torch.Tensor | None,
    batch_size: int,
    generator: torch.Generator,
    standardise: Callable[[torch.Tensor], torch.Tensor] = lambda inputs: inputs,
) -> TaskSamples:
    """A batch of `batch_size` samples for each task of the labels, or of the only task."""
    wanted: list[int | None] = [None] if labels is None else sorted(set(labels.tolist()))
    batches = {}
    for label in wanted:
        inputs, targets = task.subtask(label).training_batch(batch_size, generator)
        batches[label] = (standardise(inputs), targets)
    return TaskSamples(batches)
