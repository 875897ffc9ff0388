"""Noise schedules: the architecture tokens' own; the weights use diffusers' flow matching."""

from .scheduling_architecture import NNiTArchitectureScheduler, NNiTArchitectureSchedulerOutput


__all__ = ["NNiTArchitectureScheduler", "NNiTArchitectureSchedulerOutput"]
