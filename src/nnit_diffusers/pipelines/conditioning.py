"""What networks are for, in a pipeline of several tasks: names become labels, and an open request draws its task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..loading.limits import MAX_NETWORKS, check_number, check_total, shown
from ..models.embeddings import task_label
from .budget import ArchitectureSpace
from .generators import generator_per_network


TaskLike = str | Sequence[str | None] | None
"""Name of a task, a list of names, or `None` for any task."""
MAX_GUIDANCE_SCALE = 100.0


def tasks_of_requests(
    task: TaskLike, num_requests: int, task_names: Sequence[str] | None
) -> tuple[list[int | None], list[int]]:
    """Pairs tasks with requested architectures; one of either goes with all of the other.

    Parameters:
        task (`str` or `list[str]`, *optional*): The requested tasks.
        num_requests (`int`): Number of requested architectures.
        task_names (`Sequence[str]`, *optional*): Tasks of the model.

    Returns:
        `tuple[list[int | None], list[int]]`: Label of every request, `None` for any task, and index of its
            architecture.

    Raises:
        `ValueError`: If the model has no such task, or there are several of both in different numbers.
    """
    names: list[Any] = list(task) if isinstance(task, (list, tuple)) else [task]
    if not names:
        raise ValueError("`task` must name at least one task, but received an empty list.")
    labels = [None if name is None else task_label(name, task_names) for name in names]
    if len(labels) == 1:
        return labels * num_requests, list(range(num_requests))
    if num_requests == 1:
        return labels, [0] * len(labels)
    if len(labels) != num_requests:
        raise ValueError(
            f"`task` must be one task, or one for each of the {num_requests} architectures of `arch`, but received "
            f"{len(labels)}: {shown(task)}."
        )
    return labels, list(range(num_requests))


def draw_labels(
    labels: Sequence[int | None], task_names: Sequence[str] | None, generators: Sequence[torch.Generator]
) -> torch.Tensor | None:
    """Labels `[B]` of B networks; those of any task are drawn uniformly, each from the generator of its network.

    `None` for a model of one task.
    """
    if not task_names:
        return None
    drawn = [
        int(torch.randint(len(task_names), (), generator=generator, device=generator.device))
        if label is None
        else label
        for label, generator in zip(labels, generators, strict=True)
    ]
    return torch.tensor(drawn)


def spread_request(
    spaces: Sequence[ArchitectureSpace],
    task: TaskLike,
    task_names: Sequence[str] | None,
    num_networks: int,
    generator: torch.Generator | list[torch.Generator] | None,
) -> tuple[list[ArchitectureSpace], torch.Tensor | None, list[torch.Generator]]:
    """Space, label and generator of every network of a request; see [`tasks_of_requests`].

    Raises:
        `ValueError`: If tasks do not fit the model or the architectures, or there are too many networks.
    """
    requested, indices = tasks_of_requests(task, len(spaces), task_names)
    check_total("The networks of a request", len(indices) * num_networks, MAX_NETWORKS)
    of_networks = [spaces[index] for index in indices for _ in range(num_networks)]
    generators = generator_per_network(generator, len(of_networks))
    labels = draw_labels([label for label in requested for _ in range(num_networks)], task_names, generators)
    return of_networks, labels, generators


def check_guidance(guidance_scale: Any, task_names: Sequence[str] | None) -> float:
    """Returns the scale of guidance towards the task, if the model can be guided.

    Raises:
        `ValueError`: If it is out of range, or not 1 for a model of one task.
    """
    check_number("guidance_scale", guidance_scale, 0.0, MAX_GUIDANCE_SCALE)
    if guidance_scale != 1 and not task_names:
        raise ValueError(f"`guidance_scale` must be 1 for a model of one task, but received {guidance_scale}.")
    return float(guidance_scale)
