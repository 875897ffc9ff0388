"""Generation in one step: the transformer learns where a few of its own steps lead to from the same noise.

At the highest noise level, the best prediction of clean patches is the mean of many networks, which does little. A
second step then decides for one of them. Here a frozen copy of the transformer takes these few steps. The transformer
is trained to predict their end at once, as rectified flow does (https://huggingface.co/papers/2209.03003). The way
from noise to a network becomes straight, so that more steps lead to the same network.

Shape legend: B networks, P patches, p side of a patch.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..flow import NUM_TRAIN_TIMESTEPS
from ..models.patches import WeightPatchBatch
from ..pipelines import NNiTPipeline


# Steps of the frozen copy. Twenty lead to networks that are no better.
NUM_TEACHER_STEPS = 2


class OneStepTeacher:
    """A frozen copy of a pipeline's transformer, which generates networks from given noise.

    Parameters:
        pipeline (`NNiTPipeline`): The pipeline before training. It is not changed.
    """

    def __init__(self, pipeline: NNiTPipeline) -> None:
        transformer = copy.deepcopy(pipeline.transformer).requires_grad_(False).eval()
        self.pipeline = NNiTPipeline(
            transformer=transformer,
            scheduler=copy.deepcopy(pipeline.scheduler),
            architecture_scheduler=pipeline.architecture_scheduler,
            tokenizer=pipeline.tokenizer,
        )
        self.pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(self, noise: torch.Tensor, batch: WeightPatchBatch) -> torch.Tensor:
        """Clean patches `[B, P, p * p]` that initial noise `[B, P, p * p]` leads to, for the networks of a batch."""
        self.pipeline.transformer.to(noise.device)
        return self.pipeline.denoise(noise, batch, NUM_TEACHER_STEPS, generators=[])


def predict_in_one_step(model: nn.Module, noise: torch.Tensor, batch: WeightPatchBatch) -> torch.Tensor:
    """Clean patches `[B, P, p * p]` that the transformer predicts from noise alone, for known architectures."""
    times = torch.full((len(noise),), float(NUM_TRAIN_TIMESTEPS), device=noise.device)
    patches, _ = model(
        noise,
        times,
        batch.architecture_tokens,
        torch.zeros_like(times),
        batch.positions,
        attention_mask=batch.attention_mask,
        return_dict=False,
    )
    return patches
