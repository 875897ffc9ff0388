"""Losses of a GHN: it learns to generate networks that solve the task, and a different one for every latent.

Shape legend: B networks, A architectures, K latents of each (B = A * K), W weights of a network.
"""

from collections.abc import Sequence

import torch

from nnit_diffusers import MLPArchitecture, Task
from nnit_diffusers.networks import batched_forward, stack_state_dicts


def fan_in_scaled(stacked_state_dict: dict[str, torch.Tensor]) -> torch.Tensor:
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


def training_losses(
    ghn: torch.nn.Module,
    task: Task,
    architectures: Sequence[MLPArchitecture],
    latents: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    latents_per_architecture: int,
) -> dict[str, torch.Tensor]:
    """Losses of one micro-step.

    Parameters:
        architectures (`Sequence[MLPArchitecture]`): B architectures, each repeated K times in a row.
        latents (`torch.Tensor`): `[B, latent_dim]`.
        inputs (`torch.Tensor`): Standardised inputs, the same for every network.
        targets (`torch.Tensor`): Targets for [`Task.loss`].
        latents_per_architecture (`int`): K, two or more.

    Returns:
        `dict[str, torch.Tensor]`:
            `task`, the loss of every network, `[B]`, and `spread`, the singular values of every architecture,
            `[A, K - 1]`. The mean square of these is one minus the mean cosine similarity of two networks.
    """
    state_dicts = ghn(architectures, latents)
    # one architecture at a time, its K networks stacked
    losses, spreads = [], []
    for start in range(0, len(architectures), latents_per_architecture):
        stacked = stack_state_dicts(state_dicts[start : start + latents_per_architecture])
        outputs = batched_forward(stacked, inputs, architectures[start].activation)
        losses.append(task.loss(outputs.float(), targets))
        spreads.append(spread(fan_in_scaled(stacked).float()))
    return {"task": torch.cat(losses), "spread": torch.stack(spreads)}
