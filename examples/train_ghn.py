"""Stage 1: trains a Graph HyperNetwork (GHN) to generate working, distinct and aligned networks for a task.

    accelerate launch examples/train_ghn.py --task digits --output_dir outputs/digits/ghn

Every step draws architectures of the seen region, a few latents for each, and one batch of the task. The loss is the
task's own plus a diversity penalty. It pushes the networks of one architecture apart until their spread reaches a
target in every direction. Without the penalty, the GHN ignores the latent. At full strength from the start, training
stalls, so the target grows over the first half of the training run.

For a task with an expert to imitate, `--dagger_steps` adds states that the GHN's own policies visit (DAgger).
"""

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from ghn_dagger import add_round, collect_round, round_path
from ghn_loss import fan_in_scaled, participation_ratio, training_losses
from tqdm.auto import tqdm

from nnit_diffusers import GraphHyperNetwork, MLPArchitecture, Task, evaluate, get_task
from nnit_diffusers.networks import stack_state_dicts
from nnit_diffusers.tasks.imitation import ImitationTask
from nnit_diffusers.training_utils import (
    TrainingRecord,
    averaged_weights,
    checkpoint_step,
    find_checkpoint,
    push_to_hub,
    register_model_hooks,
    save_checkpoint,
    step_generator,
)


logger = get_logger(__name__)

# Networks of one architecture that the participation ratio is measured on.
MEASURED_LATENTS = 128


@dataclass
class Arguments:
    """Trains a Graph HyperNetwork."""

    output_dir: str
    """Folder for checkpoints, logs and the final GHN (`ghn/`)."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Folder of the task's data, or where to download it, if the task needs any."""
    seed: int = 0
    """Seed of initialisation, architectures, latents and batches."""

    train_batch_size: int = 128
    """Task samples per step; every network of the step gets all of them."""
    num_architectures: int = 8
    """Architectures per step, on each process."""
    narrow_fraction: float = 0.0
    """Fraction of these architectures drawn with log-uniform widths, since narrow networks are the hardest."""
    latents_per_architecture: int = 6
    """Networks of each architecture, at least 2, that the diversity penalty pushes apart."""
    max_train_steps: int = 6000
    """Optimisation steps."""
    gradient_accumulation_steps: int = 1
    """Micro-steps per optimisation step."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the forward pass."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    lr_scheduler: str = "cosine"
    """Any schedule of `diffusers.optimization.get_scheduler`."""
    lr_warmup_steps: int = 100
    """Steps of linear warm-up."""
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    adam_weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    use_ema: bool = True
    """Ship the exponential moving average of the parameters."""
    ema_decay: float = 0.998

    diversity_target: float = 0.6
    """Cosine similarity above which networks of one architecture are pushed apart, in every direction."""
    diversity_weight: float = 2.0
    """Weight of the diversity penalty in the loss."""
    diversity_start: float = 0.0
    """Fraction of the training run at which the target begins to fall from 1."""
    diversity_end: float = 0.5
    """Fraction of the training run at which the target reaches `diversity_target`."""

    dagger_steps: tuple[int, ...] = ()
    """Steps after which the GHN's policies are run, and their states join the data with the expert's actions."""
    dagger_policies: int = 40
    """Policies run in each DAgger round."""
    dagger_episodes: int = 2
    """Episodes of each policy in a DAgger round."""

    latent_dim: int = 16
    node_dim: int = 64
    num_message_passes: int = 1
    map_channels: int = 48
    num_templates: int = 16
    upsampling: int = 8
    """Side of the block of weights that one entry of a latent map is upsampled to."""

    checkpointing_steps: int = 1000
    """Steps between checkpoints."""
    checkpoints_total_limit: int | None = 2
    """Number of checkpoints to keep; the oldest are removed."""
    resume_from_checkpoint: str | None = None
    """`latest`, or the name or path of a checkpoint."""
    validation_steps: int = 1000
    """Steps between evaluations on the validation split."""
    validation_architectures: int = 12
    """Architectures of each region scored in validation."""
    validation_episodes: int | None = None
    """Episodes or samples per network; the task's own number by default."""
    report_to: Literal["tensorboard", "none"] = "tensorboard"
    """Tracker that metrics are logged to."""
    push_to_hub: bool = False
    """Upload the trained GHN."""
    hub_model_id: str | None = None
    """Repository to upload to; the name of `output_dir` by default."""


def check_arguments(arguments: Arguments, task: Task) -> None:
    """Raises `ValueError` for fewer than two latents per architecture, or for DAgger on a task without an expert."""
    if arguments.latents_per_architecture < 2:
        raise ValueError(
            f"`latents_per_architecture` must be 2 or more, but received {arguments.latents_per_architecture}."
        )
    if arguments.dagger_steps and not isinstance(task, ImitationTask):
        raise ValueError(
            f"`dagger_steps` must be empty for task {arguments.task!r}, which has no expert, but received "
            f"{arguments.dagger_steps}."
        )


def diversity_target(arguments: Arguments, step: int) -> float:
    """Cosine similarity allowed between networks of one architecture at this step: 1, then falling linearly."""
    start, end = (
        fraction * arguments.max_train_steps for fraction in (arguments.diversity_start, arguments.diversity_end)
    )
    fallen = min(max((step - start) / max(end - start, 1), 0.0), 1.0)
    return 1 - fallen * (1 - arguments.diversity_target)


@torch.no_grad()
def validate(ghn: GraphHyperNetwork, task: Task, arguments: Arguments) -> dict[str, float]:
    """Mean validation score over fixed architectures of three regions, and the participation ratio of the latents."""
    metrics = {}
    # mean score of each region
    for region in ("seen", "held_out_combinations", "held_out_widths"):
        generator = step_generator(arguments.seed, 0, stream=3)
        architectures = task.regions.sample(region, arguments.validation_architectures, generator)
        results = evaluate(
            ghn.generate(architectures, generator=generator),
            task,
            split="validation",
            num_episodes=arguments.validation_episodes,
        )
        metrics[f"validation/{region}"] = sum(result.score for result in results) / len(results)
    # diversity of one architecture
    latents = torch.randn(MEASURED_LATENTS, arguments.latent_dim, generator=generator).to(ghn.device)
    stacked = stack_state_dicts(ghn(architectures[:1] * MEASURED_LATENTS, latents))
    metrics["validation/participation_ratio"] = participation_ratio(fan_in_scaled(stacked))
    return metrics


def create_ghn(task: Task, arguments: Arguments) -> GraphHyperNetwork:
    """A freshly initialised GHN for the task."""
    return GraphHyperNetwork(
        in_features=task.in_features,
        out_features=task.out_features,
        activation=task.activation,
        max_width=task.max_width,
        latent_dim=arguments.latent_dim,
        node_dim=arguments.node_dim,
        num_message_passes=arguments.num_message_passes,
        map_channels=arguments.map_channels,
        num_templates=arguments.num_templates,
        upsampling=arguments.upsampling,
        observation_mean=task.observation_mean.tolist(),
        observation_std=task.observation_std.tolist(),
    )


def create_accelerator(arguments: Arguments) -> Accelerator:
    """An accelerator with the requested precision, gradient accumulation and tracker."""
    output_dir = Path(arguments.output_dir)
    return Accelerator(
        # Without `cpu`, accelerate treats each CPU process of torchrun as the only one.
        cpu=not torch.accelerator.is_available(),
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        mixed_precision=arguments.mixed_precision,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_config=ProjectConfiguration(project_dir=str(output_dir), logging_dir=str(output_dir / "logs")),
        # A step that draws only single-layer networks leaves the templates between hidden layers unused.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


class Training:
    """A training run, from its first step or from a checkpoint to its last step."""

    def __init__(self, arguments: Arguments):
        self.arguments = arguments
        self.output_dir = Path(arguments.output_dir)
        checkpoint = find_checkpoint(self.output_dir, arguments.resume_from_checkpoint)
        # task, accelerator and models
        self.task = get_task(arguments.task, **({"data_dir": arguments.data_dir} if arguments.data_dir else {}))
        check_arguments(arguments, self.task)
        self.accelerator = create_accelerator(arguments)
        set_seed(arguments.seed)
        self.ghn = create_ghn(self.task, arguments)
        self.ema = None
        if arguments.use_ema:
            self.ema = EMAModel(
                self.ghn.parameters(),
                decay=arguments.ema_decay,
                model_cls=GraphHyperNetwork,
                model_config=self.ghn.config,
            )
            self.ema.to(self.accelerator.device)
        register_model_hooks(self.accelerator, {"ghn": self.ghn}, {"ghn": self.ema} if self.ema else {})
        # optimizer and learning rate schedule
        optimizer = torch.optim.AdamW(
            self.ghn.parameters(),
            lr=arguments.learning_rate,
            betas=(arguments.adam_beta1, arguments.adam_beta2),
            weight_decay=arguments.adam_weight_decay,
            eps=arguments.adam_epsilon,
        )
        # accelerate advances the schedule once for every process
        lr_scheduler = get_scheduler(
            arguments.lr_scheduler,
            optimizer,
            num_warmup_steps=arguments.lr_warmup_steps * self.accelerator.num_processes,
            num_training_steps=arguments.max_train_steps * self.accelerator.num_processes,
        )
        self.model, self.optimizer, self.lr_scheduler = self.accelerator.prepare(self.ghn, optimizer, lr_scheduler)
        # resume, with the DAgger rounds collected so far
        self.step = 0
        if checkpoint is not None:
            self.accelerator.load_state(str(checkpoint))
            self.step = checkpoint_step(checkpoint)
            logger.info(f"Resumed from {checkpoint}")
        for step in sorted(arguments.dagger_steps):
            if step <= self.step:
                add_round(self.task, round_path(self.output_dir, step))

    def draw(self, generator: torch.Generator) -> tuple[list[MLPArchitecture], torch.Tensor, torch.Tensor, Any]:
        """Architectures, each repeated for its latents; latents; standardised inputs; targets."""
        arguments, device = self.arguments, self.accelerator.device
        drawn = self.task.regions.sample_training(arguments.num_architectures, generator, arguments.narrow_fraction)
        architectures = [a for a in sorted(drawn, key=str) for _ in range(arguments.latents_per_architecture)]
        latents = torch.randn(len(architectures), arguments.latent_dim, generator=generator)
        inputs, targets = self.task.training_batch(arguments.train_batch_size, generator)
        inputs = (inputs - self.task.observation_mean) / self.task.observation_std
        return architectures, latents.to(device), inputs.to(device), targets.to(device)

    def micro_step(self, generator: torch.Generator) -> dict[str, float]:
        """Forward and backward pass on one batch; the last batch of a step also updates the parameters."""
        arguments, accelerator = self.arguments, self.accelerator
        batch = self.draw(generator)
        with accelerator.accumulate(self.model):
            with accelerator.autocast():
                losses = training_losses(self.model, self.task, *batch, arguments.latents_per_architecture)
            # penalise singular values below the spread that the target cosine allows
            least_spread = (1 - diversity_target(arguments, self.step)) ** 0.5
            too_alike = torch.relu(least_spread - losses["spread"]).mean()
            accelerator.backward(losses["task"].mean() + arguments.diversity_weight * too_alike)
            # accelerate skips the update until the gradients of all micro-steps are summed
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.ghn.parameters(), arguments.max_grad_norm)
            self.optimizer.step()
            self.lr_scheduler.step()
            self.optimizer.zero_grad()
        return {
            "loss": losses["task"].mean().item(),
            "cosine": 1 - losses["spread"].square().mean().item(),
            "least_spread": losses["spread"][:, 0].mean().item(),
        }

    def train_step(self) -> dict[str, float]:
        """One optimisation step; returns the metrics of its last batch."""
        seed, num_micro_steps = self.arguments.seed, self.arguments.gradient_accumulation_steps
        for number in range(self.step * num_micro_steps, (self.step + 1) * num_micro_steps):
            metrics = self.micro_step(step_generator(seed, number, self.accelerator.process_index))
        self.step += 1
        if self.ema:
            self.ema.step(self.ghn.parameters())
        if not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"The loss became {metrics} at step {self.step}; lower `learning_rate`.")
        return metrics

    def run_dagger(self) -> None:
        """Runs a round of DAgger with the averaged GHN; all processes add what the main process collects."""
        arguments, path = self.arguments, round_path(self.output_dir, self.step)
        # collect on the main process
        if self.accelerator.is_main_process:
            generator = step_generator(arguments.seed, self.step, stream=4)
            with averaged_weights(self.ghn, self.ema):
                collect_round(
                    self.task,
                    self.ghn,
                    path,
                    arguments.dagger_policies,
                    arguments.dagger_episodes,
                    self.step,
                    generator,
                )
        # add to the demonstrations of every process
        self.accelerator.wait_for_everyone()
        num_states = add_round(self.task, path)
        logger.info(f"step {self.step}: DAgger added {num_states:,} states")

    def run(self) -> None:
        """Trains to the last step and saves the GHN."""
        arguments, accelerator = self.arguments, self.accelerator
        # trackers and the record of the run
        if accelerator.is_main_process:
            accelerator.init_trackers("train_ghn")
            record = TrainingRecord(self.output_dir, asdict(arguments), self.step)
        logger.info(f"{self.ghn.num_parameters():,} parameters on {accelerator.num_processes} process(es)")
        progress = tqdm(
            total=arguments.max_train_steps,
            initial=self.step,
            desc="GHN",
            disable=not accelerator.is_local_main_process,
        )
        while self.step < arguments.max_train_steps:
            metrics = self.train_step()
            progress.update()
            progress.set_postfix({name: f"{value:.3f}" for name, value in metrics.items()}, refresh=False)
            # validate with averaged weights
            is_validation = self.step % arguments.validation_steps == 0 or self.step == arguments.max_train_steps
            if is_validation and accelerator.is_main_process:
                with averaged_weights(self.ghn, self.ema):
                    metrics |= validate(self.ghn, self.task, arguments)
                record.add_validation(self.step, metrics)
                logger.info(
                    f"step {self.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                )
            # DAgger, log, checkpoint
            if self.step in arguments.dagger_steps:
                self.run_dagger()
            accelerator.log(metrics | {"lr": self.lr_scheduler.get_last_lr()[0]}, step=self.step)
            if self.step % arguments.checkpointing_steps == 0:
                save_checkpoint(accelerator, self.output_dir, self.step, arguments.checkpoints_total_limit)
        self.save()

    def save(self) -> None:
        """Saves the GHN, with averaged parameters if `use_ema`, and uploads it if `push_to_hub`."""
        if self.ema:
            self.ema.copy_to(self.ghn.parameters())
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.ghn.save_pretrained(self.output_dir / "ghn")
            logger.info(f"Saved {self.output_dir / 'ghn'}")
            if self.arguments.push_to_hub:
                push_to_hub(self.output_dir / "ghn", self.arguments.hub_model_id or self.output_dir.name)


def main(arguments: Arguments) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    training = Training(arguments)
    training.run()
    training.accelerator.end_training()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
