"""What a GHN is trained to do: write networks that work, and a different one for every latent.

Shape legend: B networks, A architectures, K latents of each (B = A * K), W weights of a network.
"""

from collections.abc import Sequence

import torch

from nnit_diffusers import MLPArchitecture, Task
from nnit_diffusers.networks import batched_forward, stack_state_dicts


def fan_in_scaled(stacked_state_dict: dict[str, torch.Tensor]) -> torch.Tensor:
    """`[B, W]`: all weights of B networks, scaled to a size that does not depend on the width."""
    weights = [tensor * tensor.shape[-1] ** 0.5 for tensor in stacked_state_dict.values() if tensor.ndim == 3]
    return torch.cat([weight.flatten(1) for weight in weights], dim=1)


def spread(weights_KW: torch.Tensor) -> torch.Tensor:
    """How far K networks of one architecture lie apart, in every direction: `[K - 1]` singular values, smallest first.

    Of their normalised weights, around their mean. For two networks it is their distance over the root of two; for
    more, pairs may all lie apart and the smallest singular value still be 0, for they may share a line or a plane.
    """
    unit_KW = weights_KW / weights_KW.norm(dim=1, keepdim=True)
    centred_KW = unit_KW - unit_KW.mean(dim=0)
    # Of weights that are not finite there is no decomposition, and their task loss is what should be heard of.
    gram_KK = (centred_KW @ centred_KW.mT).nan_to_num()
    # The first eigenvalue, 0, is that of the mean.
    return torch.linalg.eigvalsh(gram_KK)[1:].clamp(min=1e-8).sqrt()


def participation_ratio(weights_KW: torch.Tensor) -> float:
    """In how many directions K networks of one architecture vary, 1 to K - 1.

    The sum of the variances along their principal directions, squared, over the sum of the squares.
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
        architectures (`Sequence[MLPArchitecture]`): B architectures, each K times in a row.
        latents (`torch.Tensor`): `[B, latent_dim]`.
        inputs (`torch.Tensor`): Standardised inputs, the same for every network.
        targets (`torch.Tensor`): What [`Task.loss`] takes.
        latents_per_architecture (`int`): K, two or more.

    Returns:
        `dict[str, torch.Tensor]`:
            `task`, the loss of every network `[B]`; `spread`, the singular values of every architecture
            `[A, K - 1]`: their mean square is one less the mean cosine of two networks.
    """
    state_dicts = ghn(architectures, latents)
    losses, spreads = [], []
    for start in range(0, len(architectures), latents_per_architecture):
        stacked = stack_state_dicts(state_dicts[start : start + latents_per_architecture])
        outputs = batched_forward(stacked, inputs, architectures[start].activation)
        losses.append(task.loss(outputs.float(), targets))
        spreads.append(spread(fan_in_scaled(stacked).float()))
    return {"task": torch.cat(losses), "spread": torch.stack(spreads)}
