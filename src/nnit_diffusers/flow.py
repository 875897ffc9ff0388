"""What a noise level means, to training and to sampling alike: one path from clean weights to noise.

Flow matching goes from clean patches `x_0` at noise level 0 to noise at noise level 1 on a straight line:

    x_sigma = (1 - sigma) x_0 + sigma noise,    velocity = noise - x_0 = (x_sigma - x_0) / sigma

The transformer is given the noise level as a timestep, 0 to `NUM_TRAIN_TIMESTEPS`. The architecture has a time of its
own on the same scale: the probability that a token is masked.
"""

from __future__ import annotations

from typing import TypeVar

import torch


Level = TypeVar("Level", float, torch.Tensor)

NUM_TRAIN_TIMESTEPS = 1000
# Below this noise level the weight of the velocity loss is constant; it would grow without bound.
MIN_WEIGHTED_SIGMA = 0.1


def timestep_of(sigma: Level) -> Level:
    """The timestep that the transformer is given for a noise level of 0…1."""
    return NUM_TRAIN_TIMESTEPS * sigma


def interpolate(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Noised patches `(1 - sigma) x_0 + sigma noise`; `sigma` broadcasts against both."""
    return (1 - sigma) * clean + sigma * noise


def velocity_of(noised: torch.Tensor, clean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Velocity `(x_sigma - x_0) / sigma`; noise levels under one timestep count as one."""
    return (noised - clean) / sigma.clamp(min=1 / NUM_TRAIN_TIMESTEPS)


def velocity_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Weight `1 / sigma^2` that turns a squared error of clean patches into one of velocities."""
    return 1 / sigma.clamp(min=MIN_WEIGHTED_SIGMA).square()
