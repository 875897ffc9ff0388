"""Scheduler of the architecture tokens; weight patches use a flow-matching scheduler of diffusers."""

from .scheduling_architecture import NNiTArchitectureScheduler, NNiTArchitectureSchedulerOutput


__all__ = ["NNiTArchitectureScheduler", "NNiTArchitectureSchedulerOutput"]
