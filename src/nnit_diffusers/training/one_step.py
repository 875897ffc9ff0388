"""Generation in one step: the transformer learns where a few of its own steps lead to from the same noise.

At the highest noise level, the best prediction of clean patches is the mean of many networks, which does little. A
second step then decides for one of them. Here a frozen copy of the transformer, the teacher, takes these few steps.
The transformer is trained to predict their end at once, which is the distillation of rectified flow
(https://huggingface.co/papers/2209.03003). What the predicted networks compute counts as well, where it does at lower
noise levels.

Shape legend: B networks, P patches, p side of a patch.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from ..flow import NUM_TRAIN_TIMESTEPS
from ..models.patches import WeightPatchBatch
from ..models.transformer_nnit import NNiTTransformer
from ..pipelines import NNiTPipeline
from .config import NNiTTrainingConfig


# Steps of the frozen copy. Twenty lead to networks that are no better.
NUM_TEACHER_STEPS = 2
# Its folder in that of a run.
TEACHER = "teacher"


def check_teacher(config: NNiTTrainingConfig, is_there: bool) -> None:
    """Raises `ValueError` if networks are to be generated in one step, and there is no teacher to learn it from."""
    if config.one_step_loss_weight and not is_there:
        raise ValueError(
            "`one_step_loss_weight` must be 0 for a transformer that is not pretrained, but received "
            f"{config.one_step_loss_weight}."
        )


class OneStepTeacher:
    """A frozen copy of a pipeline's transformer, which generates networks from given noise.

    Parameters:
        pipeline (`NNiTPipeline`): The pipeline, whose other components the copy shares.
        transformer (`NNiTTransformer`, *optional*): The transformer; by default a copy of the pipeline's as it is now.
    """

    def __init__(self, pipeline: NNiTPipeline, transformer: NNiTTransformer | None = None) -> None:
        transformer = transformer or copy.deepcopy(pipeline.transformer)
        self.pipeline = NNiTPipeline(
            transformer=transformer.requires_grad_(False).eval(),
            scheduler=copy.deepcopy(pipeline.scheduler),
            architecture_scheduler=pipeline.architecture_scheduler,
            tokenizer=pipeline.tokenizer,
        )
        self.pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def of_run(
        cls, pipeline: NNiTPipeline, output_dir: Path, checkpoints: list[Path], accelerator: Accelerator
    ) -> OneStepTeacher:
        """The teacher of a run: saved in its folder, and read from that of its checkpoints if it is resumed."""
        if checkpoints:
            return cls(pipeline, NNiTTransformer.from_pretrained(checkpoints[0].parent / TEACHER))
        if accelerator.is_main_process:
            pipeline.transformer.save_pretrained(output_dir / TEACHER)
        return cls(pipeline)

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
        task_labels=batch.task_labels,
        return_dict=False,
    )
    return patches
