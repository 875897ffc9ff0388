"""What the training runs of a [`GraphHyperNetwork`] and a [`NestedMLP`] share: rounds of DAgger, and validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.logging import get_logger

from ..evaluation import evaluate
from ..tasks.base import Task, output_settings
from ..tasks.imitation import ImitationTask
from .checkpoints import averaged_weights
from .config import GeneratorTrainingConfig
from .dagger import add_round, collect_round, list_rounds, round_path
from .randomness import step_generator
from .trainer import Batch, StepCallback, Trainer


logger = get_logger(__name__)

GeneratorConfig = TypeVar("GeneratorConfig", bound=GeneratorTrainingConfig)
# Random streams of a step beside that of its batch.
VALIDATION_STREAM, DAGGER_STREAM = 3, 4


class GeneratorTrainer(Trainer[GeneratorConfig, Batch]):
    """Trains a hypernetwork or nested slices on the task's own loss.

    For a task with an expert to imitate, `config.dagger_steps` adds states that the generated policies visit (DAgger).
    """

    def __init__(
        self, task: Task, config: GeneratorConfig, output_dir: str | Path, on_step: StepCallback | None = None
    ) -> None:
        if config.dagger_steps and not isinstance(task, ImitationTask):
            raise ValueError(
                f"`dagger_steps` must be empty for task {task.name!r}, which has no expert, but received "
                f"{config.dagger_steps}."
            )
        super().__init__(task, config, output_dir, on_step)
        # rounds of another run in this folder
        if config.resume_from_checkpoint is None and self.accelerator.is_main_process:
            for path in list_rounds(self.output_dir):
                path.unlink()
        # the rounds of DAgger that the checkpoint was trained on
        for step in sorted(config.dagger_steps):
            if step < self.step:
                add_round(self.imitated_task, round_path(self.output_dir, step))

    @property
    def imitated_task(self) -> ImitationTask:
        """The task, which has an expert wherever there are rounds of DAgger."""
        assert isinstance(self.task, ImitationTask)
        return self.task

    @property
    def task_settings(self) -> dict[str, Any]:
        """Settings of the model that the task decides."""
        return {
            "in_features": self.task.in_features,
            "out_features": self.task.out_features,
            "activation": self.task.activation,
            "max_width": self.task.max_width,
            "observation_mean": self.task.observation_mean.tolist(),
            "observation_std": self.task.observation_std.tolist(),
            **output_settings(self.task),
        }

    def training_batch(self, generator: torch.Generator) -> tuple[torch.Tensor, Any]:
        """Standardised inputs and targets, which every network of a micro-step gets."""
        inputs, targets = self.task.training_batch(self.config.train_batch_size, generator)
        return (inputs - self.task.observation_mean) / self.task.observation_std, targets

    def after_step(self) -> None:
        """Runs a round of DAgger where one is due; all processes add what the main process collects."""
        if self.step not in self.config.dagger_steps:
            return
        # collect on the main process
        path = round_path(self.output_dir, self.step)
        if self.accelerator.is_main_process:
            with averaged_weights(self.trained, self.ema):
                collect_round(
                    self.imitated_task,
                    self.trained,
                    path,
                    self.config.dagger_policies,
                    self.config.dagger_episodes,
                    self.step,
                    step_generator(self.config.seed, self.step, stream=DAGGER_STREAM),
                )
        # add to the demonstrations of every process
        self.accelerator.wait_for_everyone()
        num_states = add_round(self.imitated_task, path)
        logger.info(f"step {self.step}: DAgger added {num_states:,} states")

    @torch.no_grad()
    def region_scores(self) -> dict[str, float]:
        """Mean score of fixed architectures of every region in the grid, on validation data."""
        config, metrics = self.config, {}
        for region in self.task.regions.within_grid:
            generator = step_generator(config.seed, 0, stream=VALIDATION_STREAM)
            architectures = self.task.regions.sample(region, config.validation_architectures, generator)
            results = evaluate(
                self.trained.generate(architectures, generator=generator),
                self.task,
                split="validation",
                num_episodes=config.validation_episodes,
            )
            metrics[f"validation/{region}"] = sum(result.score for result in results) / len(results)
        return metrics

    def save(self, folder: Path) -> None:
        self.trained.save_pretrained(folder)
