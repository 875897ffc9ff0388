"""What the training runs of a [`GraphHyperNetwork`] and a [`NestedMLP`] share: rounds of DAgger, and validation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.logging import get_logger

from ..architecture import MLPArchitecture
from ..contract import NetworkContract
from ..evaluation import evaluate
from ..networks import MLP
from ..tasks.base import Task, output_settings
from ..tasks.imitation import ImitationTask
from ..tasks.multi import MultiTask
from .checkpoints import averaged_weights
from .config import GeneratorTrainingConfig
from .dagger import add_round, collect_round, collect_round_of_tasks, list_rounds, round_path
from .randomness import step_generator
from .samples import TaskSamples, draw_samples
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
        if config.dagger_steps and not isinstance(task, (ImitationTask, MultiTask)):
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
    def imitated_task(self) -> ImitationTask | MultiTask:
        """The task, which has an expert wherever there are rounds of DAgger."""
        assert isinstance(self.task, (ImitationTask, MultiTask))
        return self.task

    @property
    def task_settings(self) -> dict[str, Any]:
        """Settings of the model that the task decides."""
        return {
            "in_features": self.task.in_features,
            "out_features": self.task.out_features,
            "activation": self.task.activation,
            "max_width": self.task.max_width,
            **({"task_names": list(self.task.task_names)} if self.task.task_names else {}),
            "observation_mean": self.task.observation_mean.tolist(),
            "observation_std": self.task.observation_std.tolist(),
            **output_settings(self.task),
        }

    def training_batch(self, generator: torch.Generator, labels: torch.Tensor | None = None) -> TaskSamples:
        """Standardised inputs and targets, which every network of a task gets in a micro-step."""
        mean, std = self.statistics
        return draw_samples(
            self.task, labels, self.config.train_batch_size, generator, lambda inputs: (inputs - mean) / std
        )

    @cached_property
    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation `[I]` of the inputs; rounds of DAgger do not change them."""
        return self.task.observation_mean, self.task.observation_std

    def after_step(self) -> None:
        """Runs a round of DAgger where one is due; all processes add what the main process collects."""
        if self.step not in self.config.dagger_steps:
            return
        # collect on the main process
        path = round_path(self.output_dir, self.step)
        if self.accelerator.is_main_process:
            with averaged_weights(self.trained, self.ema):
                self._collect_round(path)
        # add to the demonstrations of every process
        self.accelerator.wait_for_everyone()
        num_states = add_round(self.imitated_task, path)
        logger.info(f"step {self.step}: DAgger added {num_states:,} states")

    def _collect_round(self, path: Path) -> None:
        """Writes the round of this step."""
        config, task = self.config, self.imitated_task
        generator = step_generator(config.seed, self.step, stream=DAGGER_STREAM)
        if isinstance(task, MultiTask):
            num_policies = config.dagger_policies * config.dagger_episodes
            collect_round_of_tasks(task, self.trained, path, num_policies, self.step, generator)
        else:
            sizes = (config.dagger_policies, config.dagger_episodes)
            collect_round(task, self.trained, path, *sizes, self.step, generator)

    @torch.no_grad()
    def region_scores(self) -> dict[str, float]:
        """Mean score of fixed architectures of every region in the grid, on validation data."""
        config, metrics = self.config, {}
        for region in self.task.regions.within_grid:
            generator = step_generator(config.seed, 0, stream=VALIDATION_STREAM)
            architectures = self.task.regions.sample(region, config.validation_architectures, generator)
            results = evaluate(
                self._generated(architectures, generator),
                self.task,
                split="validation",
                num_episodes=config.validation_episodes,
            )
            metrics[f"validation/{region}"] = sum(result.score for result in results) / len(results)
        return metrics

    def _generated(self, architectures: Sequence[MLPArchitecture], generator: torch.Generator) -> list[MLP]:
        """A network of each architecture; of several tasks, each architecture in every task."""
        names = self.task.task_names
        if not names:
            return self.trained.generate(architectures, generator=generator)
        labels = torch.arange(len(names)).repeat(len(architectures))
        spread = [architecture for architecture in architectures for _ in names]
        networks = self.trained.generate(spread, generator=generator, task_labels=labels)
        for network, label in zip(networks, labels.tolist()):
            network.contract = NetworkContract(task=names[label])
        return networks

    def save(self, folder: Path) -> None:
        self.trained.save_pretrained(folder)
