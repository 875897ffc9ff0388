"""Timesteps of any flow-matching scheduler."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch


def set_timesteps(scheduler: Any, num_inference_steps: int, device: torch.device) -> torch.Tensor:
    """Sets the scheduler's timesteps: evenly spaced noise levels from 1 to 0, before the scheduler's own shift.

    Raises:
        `ValueError`: If the scheduler's configuration leads to timesteps that are not finite.
    """
    accepts_sigmas = "sigmas" in inspect.signature(scheduler.set_timesteps).parameters
    if accepts_sigmas and not scheduler.config.get("use_flow_sigmas", False):
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    else:
        scheduler.set_timesteps(num_inference_steps, device=device)
    scheduler.set_begin_index(0)
    if not scheduler.timesteps.isfinite().all():
        raise ValueError(f"`scheduler` must have finite timesteps, but has {scheduler.timesteps.tolist()}.")
    return scheduler.timesteps
