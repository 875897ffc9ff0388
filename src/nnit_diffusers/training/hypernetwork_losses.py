"""Losses of a GHN: it learns to generate networks that solve the task, and a different one for every latent.

Shape legend: B networks, A architectures, K latents of each (B = A * K), W weights of a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..architecture import MLPArchitecture
from ..networks import batched_forward, stack_state_dicts
from ..tasks.base import Task


def fan_in_scaled(stacked_state_dict: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """All weights of B networks, `[B, W]`, scaled so that their size does not depend on the width."""
    weights = [tensor * tensor.shape[-1] ** 0.5 for tensor in stacked_state_dict.values() if tensor.ndim == 3]
    return torch.cat([weight.flatten(1) for weight in weights], dim=1)


def spread(weights_KW: torch.Tensor) -> torch.Tensor:
    """Spread of K networks of one architecture in every direction, `[K - 1]`, smallest first.

    These are the singular values of the normalised weights, centred on their mean. For two networks, the value is
    their distance divided by the square root of two. For more networks, all pairs may be apart while the smallest
    singular value is 0, because the networks may lie on a line or in a plane.
    """
    unit_KW = weights_KW / weights_KW.norm(dim=1, keepdim=True)
    centred_KW = unit_KW - unit_KW.mean(dim=0)
    # Weights that are not finite have no decomposition. The task loss reports them instead.
    gram_KK = (centred_KW @ centred_KW.mT).nan_to_num()
    # The first eigenvalue is 0, because the weights are centred.
    return torch.linalg.eigvalsh(gram_KK)[1:].clamp(min=1e-8).sqrt()


def participation_ratio(weights_KW: torch.Tensor) -> float:
    """Effective dimensionality (participation ratio) of K networks of one architecture, from 1 to K - 1.

    Of the variances along the principal directions, the squared sum divided by the sum of squares.
    """
    variances = spread(weights_KW).square()
    return (variances.sum().square() / variances.square().sum()).item()


def network_losses(
    ghn: torch.nn.Module,
    task: Task,
    architectures: Sequence[MLPArchitecture],
    latents: torch.Tensor,
    inputs: torch.Tensor,
    targets: Any,
    latents_per_architecture: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Task losses of all networks of a micro-step, and the spread of the networks of each architecture.

    Parameters:
        ghn (`nn.Module`): Called with architectures and latents.
        task (`Task`): Its loss is minimised.
        architectures (`Sequence[MLPArchitecture]`): B architectures, each repeated K times in a row.
        latents (`torch.Tensor`): `[B, latent_dim]`.
        inputs (`torch.Tensor`): Standardised inputs, the same for every network.
        targets (`torch.Tensor`): Targets for [`Task.loss`].
        latents_per_architecture (`int`): K, two or more.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Losses `[B]`, and the [`spread`] of every architecture `[A, K - 1]`.
    """
    state_dicts = ghn(architectures, latents)
    # one architecture at a time, its K networks stacked
    losses, spreads = [], []
    for start in range(0, len(architectures), latents_per_architecture):
        stacked = stack_state_dicts(state_dicts[start : start + latents_per_architecture])
        outputs = batched_forward(stacked, inputs, architectures[start].activation)
        losses.append(task.loss(outputs.float(), targets))
        spreads.append(spread(fan_in_scaled(stacked).float()))
    return torch.cat(losses), torch.stack(spreads)
