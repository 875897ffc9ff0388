"""Losses of a GHN: it learns to generate networks that solve the task, and a different one for every latent.

Shape legend: B networks, A architectures, K latents of each (B = A * K), W weights of a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..architecture import MLPArchitecture
from ..evaluation.novelty import spread
from ..network_batch import batched_forward, stack_state_dicts
from ..tasks.base import Task
from .samples import TaskSamples


def fan_in_scaled(stacked_state_dict: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """All weights of B networks, `[B, W]`, scaled so that their size does not depend on the width."""
    weights = [tensor * tensor.shape[-1] ** 0.5 for tensor in stacked_state_dict.values() if tensor.ndim == 3]
    return torch.cat([weight.flatten(1) for weight in weights], dim=1)


def network_losses(
    ghn: torch.nn.Module,
    task: Task,
    architectures: Sequence[MLPArchitecture],
    latents: torch.Tensor,
    samples: TaskSamples,
    latents_per_architecture: int,
    task_labels: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Task losses of all networks of a micro-step, and the spread of the networks of each architecture.

    Parameters:
        ghn (`nn.Module`): Called with architectures and latents.
        task (`Task`): Its loss is minimised.
        architectures (`Sequence[MLPArchitecture]`): B architectures, each repeated K times in a row.
        latents (`torch.Tensor`): `[B, latent_dim]`.
        samples (`TaskSamples`): Standardised inputs and targets, the same for every network of a task.
        latents_per_architecture (`int`): K, two or more.
        task_labels (`torch.Tensor`, *optional*): `[B]`, on the CPU; the same for the K networks of an architecture.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Losses `[B]`, and the [`spread`] of every architecture `[A, K - 1]`.
    """
    state_dicts = ghn(architectures, latents, task_labels)
    # one architecture at a time, its K networks stacked
    losses, spreads = [], []
    for start in range(0, len(architectures), latents_per_architecture):
        stacked = stack_state_dicts(state_dicts[start : start + latents_per_architecture])
        inputs, targets = samples.of(None if task_labels is None else int(task_labels[start]))
        outputs = batched_forward(stacked, inputs, architectures[start].activation)
        losses.append(task.loss(task.raw_outputs(outputs.float()), targets))
        spreads.append(spread(fan_in_scaled(stacked).float()))
    return torch.cat(losses), torch.stack(spreads)
