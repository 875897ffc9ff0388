"""Trains nested slices: one MLP for each depth, whose slices of every width solve the task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..architecture import MLPArchitecture
from ..models.nested_mlp import NestedMLP
from ..network_batch import batched_forward
from ..regions import ArchitectureRegions
from ..tasks.base import Task
from .config import NestedTrainingConfig
from .generator_trainer import GeneratorTrainer
from .trainer import StepCallback


class NestedBatch(NamedTuple):
    """A micro-step: architectures of one depth, and task samples that every network gets."""

    architectures: list[MLPArchitecture]
    inputs: torch.Tensor
    targets: Any


class NestedTrainer(GeneratorTrainer[NestedTrainingConfig, NestedBatch]):
    """Trains slices by the sandwich rule: the widest and the narrowest network of a depth, and random ones between.

    The widest and the narrowest bound all others, so that all widths improve together, see "Universally Slimmable
    Networks" (https://huggingface.co/papers/1903.05134).
    """

    model_name = result_name = "nested"
    run_name = "train_nested"
    trained: NestedMLP

    def create_model(self) -> NestedMLP:
        if self.task.task_names:
            raise ValueError(f"`task` must be one task for nested slices, but received {list(self.task.task_names)}.")
        return NestedMLP(**self.task_settings, min_depth=self.task.min_depth, max_depth=self.task.max_depth)

    def prepare_batch(self, generator: torch.Generator) -> NestedBatch:
        config, regions = self.config, self.task.regions
        depth = int(torch.randint(regions.min_depth, regions.max_depth + 1, (), generator=generator))
        of_depth = replace(regions, min_depth=depth, max_depth=depth)
        drawn = of_depth.sample_training(config.num_random_architectures, generator, config.narrow_fraction)
        return NestedBatch([*outermost(of_depth), *drawn], *self.training_batch(generator).of(None))

    def losses(self, batch: NestedBatch, counts: dict[str, float]) -> dict[str, torch.Tensor]:
        device = self.accelerator.device
        inputs, targets = batch.inputs.to(device), batch.targets.to(device)
        losses = []
        for architecture, state_dict in zip(batch.architectures, self.model(batch.architectures), strict=True):
            stacked = {key: tensor[None] for key, tensor in state_dict.items()}
            outputs = batched_forward(stacked, inputs, architecture.activation)
            losses.append(self.task.loss(self.task.raw_outputs(outputs.float()), targets).sum())
        return {"loss": torch.stack(losses).mean() / counts["networks"]}

    def total_loss(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return losses["loss"]

    def validate(self) -> dict[str, float]:
        """Mean score of fixed architectures of every region in the grid."""
        return self.region_scores()


def outermost(regions: ArchitectureRegions) -> list[MLPArchitecture]:
    """The widest and the narrowest architecture of the seen region, whose networks all have the same depth.

    Where all layers of the largest width are held out as a combination, the last layer is narrower.
    """
    widths = regions.train_widths
    found = []
    for order in (widths[::-1], widths):
        candidates = ((order[0],) * (regions.max_depth - 1) + (last,) for last in order)
        found.append(next(sizes for sizes in candidates if regions.region_of(sizes) == "seen"))
    return [regions.architecture(sizes) for sizes in found]


def train_nested(
    task: Task,
    config: NestedTrainingConfig | None = None,
    output_dir: str | Path = "outputs/nested",
    on_step: StepCallback | None = None,
) -> NestedMLP:
    """Trains a [`NestedMLP`] for a task, with every depth of the task's grid.

    Every step draws a depth, architectures of the seen region with that depth, and one batch of the task. For a task
    with an expert to imitate, `config.dagger_steps` adds states that the slices' own policies visit (DAgger).

    Parameters:
        task (`Task`): What the networks are for; see [`get_task`].
        config (`NestedTrainingConfig`, *optional*): Settings of the run.
        output_dir (`str` or `Path`):
            Folder of checkpoints, logs, the record `training.json`, and the result (`nested/`).
        on_step (`StepCallback`, *optional*): Called after every step; without it, a progress bar is shown.

    Returns:
        `NestedMLP`: The trained model, with averaged weights if `config.use_ema`, in evaluation mode.

    Raises:
        `ValueError`: If a setting is out of range, or `output_dir` holds another run.
        `OSError`: If a checkpoint cannot be written.
        `FloatingPointError`: If the loss is no longer finite.
    """
    trainer = NestedTrainer(task, config or NestedTrainingConfig(), output_dir, on_step)
    trainer.run()
    return trainer.trained.eval()
