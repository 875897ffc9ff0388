"""Trains a Graph HyperNetwork (GHN) to generate working, distinct and aligned networks for a task."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ..architecture import MLPArchitecture
from ..evaluation.novelty import participation_ratio
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..network_batch import stack_state_dicts
from ..tasks.base import Task
from .config import GHNTrainingConfig
from .generator_trainer import VALIDATION_STREAM, GeneratorTrainer
from .hypernetwork_losses import fan_in_scaled, network_losses
from .randomness import step_generator
from .samples import TaskSamples, draw_labels
from .trainer import StepCallback


# Networks of one architecture that the participation ratio is measured on.
MEASURED_LATENTS = 128


class GHNBatch(NamedTuple):
    """A micro-step: B architectures, each repeated for its latents, and the samples of every task that there is.

    Networks of a [`MultiTask`] have labels `[B]`, one for all latents of an architecture.
    """

    architectures: list[MLPArchitecture]
    latents: torch.Tensor
    samples: TaskSamples
    task_labels: torch.Tensor | None


def diversity_target(config: GHNTrainingConfig, step: int) -> float:
    """Cosine similarity allowed between networks of one architecture at this step: 1, then falling linearly."""
    start, end = (fraction * config.max_train_steps for fraction in (config.diversity_start, config.diversity_end))
    fallen = min(max((step - start) / max(end - start, 1), 0.0), 1.0)
    return 1 - fallen * (1 - config.diversity_target)


class GHNTrainer(GeneratorTrainer[GHNTrainingConfig, GHNBatch]):
    """Trains a GHN on a task's loss, plus a diversity penalty that keeps its latent in use.

    The penalty pushes the networks of one architecture apart until their spread reaches a target in every direction.
    Without it, the GHN ignores the latent. At full strength from the start, training stalls, so the target grows over
    the first part of the run.
    """

    model_name = result_name = "ghn"
    run_name = "train_ghn"
    trained: GraphHyperNetwork

    def create_model(self) -> GraphHyperNetwork:
        config = self.config
        return GraphHyperNetwork(
            **self.task_settings,
            latent_dim=config.latent_dim,
            node_dim=config.node_dim,
            num_message_passes=config.num_message_passes,
            map_channels=config.map_channels,
            num_templates=config.num_templates,
            upsampling=config.upsampling,
        )

    def prepare_batch(self, generator: torch.Generator) -> GHNBatch:
        config = self.config
        drawn = self.task.regions.sample_training(config.num_architectures, generator, config.narrow_fraction)
        architectures = [a for a in sorted(drawn, key=str) for _ in range(config.latents_per_architecture)]
        latents = torch.randn(len(architectures), config.latent_dim, generator=generator)
        labels = draw_labels(self.task, config.num_architectures, generator)
        if labels is not None:
            labels = labels.repeat_interleave(config.latents_per_architecture)
        return GHNBatch(architectures, latents, self.training_batch(generator, labels), labels)

    def losses(self, batch: GHNBatch, counts: dict[str, float]) -> dict[str, torch.Tensor]:
        config, device = self.config, self.accelerator.device
        task_losses, spreads = network_losses(
            self.model,
            self.task,
            batch.architectures,
            batch.latents.to(device),
            batch.samples.to(device),
            config.latents_per_architecture,
            batch.task_labels,
        )
        # penalise singular values below the spread that the target cosine allows
        least_spread = (1 - diversity_target(config, self.step)) ** 0.5
        too_alike = torch.relu(least_spread - spreads).mean()
        losses = {
            "loss": task_losses.mean(),
            "diversity": too_alike,
            # The mean square of the spreads is one minus the mean cosine similarity of two networks.
            "cosine": 1 - spreads.detach().square().mean(),
            "least_spread": spreads.detach()[:, 0].mean(),
        }
        return {name: loss / counts["networks"] for name, loss in losses.items()}

    def total_loss(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return losses["loss"] + self.config.diversity_weight * losses["diversity"]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean score of fixed architectures of every region in the grid, and the latents' participation ratio."""
        config, metrics = self.config, self.region_scores()
        # diversity of one architecture
        generator = step_generator(config.seed, 0, stream=VALIDATION_STREAM)
        architecture = self.task.regions.sample("seen", 1, generator)
        latents = torch.randn(MEASURED_LATENTS, config.latent_dim, generator=generator).to(self.trained.device)
        labels = torch.zeros(MEASURED_LATENTS, dtype=torch.long) if self.task.task_names else None
        stacked = stack_state_dicts(self.trained(architecture * MEASURED_LATENTS, latents, labels))
        metrics["validation/participation_ratio"] = participation_ratio(fan_in_scaled(stacked))
        return metrics


def train_ghn(
    task: Task,
    config: GHNTrainingConfig | None = None,
    output_dir: str | Path = "outputs/ghn",
    on_step: StepCallback | None = None,
) -> GraphHyperNetwork:
    """Trains a Graph HyperNetwork for a task.

    Every step draws architectures of the seen region, a few latents for each, and one batch of the task. For a task
    with an expert to imitate, `config.dagger_steps` adds states that the GHN's own policies visit (DAgger).

    Parameters:
        task (`Task`): What the networks are for; see [`get_task`].
        config (`GHNTrainingConfig`, *optional*): Settings of the run.
        output_dir (`str` or `Path`): Folder of checkpoints, logs, the record `training.json`, and the GHN (`ghn/`).
        on_step (`StepCallback`, *optional*): Called after every step; without it, a progress bar is shown.

    Returns:
        `GraphHyperNetwork`: The trained GHN, with averaged weights if `config.use_ema`, in evaluation mode.

    Raises:
        `ValueError`: If a setting is out of range, or `output_dir` holds another run.
        `OSError`: If a checkpoint cannot be written.
        `FloatingPointError`: If the loss is no longer finite.
    """
    trainer = GHNTrainer(task, config or GHNTrainingConfig(), output_dir, on_step)
    trainer.run()
    return trainer.trained.eval()
