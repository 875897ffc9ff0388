"""Stage 3: trains the NNiT transformer on an endless stream of GHN networks, or on a weight dataset.

    accelerate launch examples/train_nnit.py --task digits --ghn_name_or_path outputs/digits/ghn/ghn \
        --output_dir outputs/digits/nnit

Every step draws networks of the seen region, adds noise to their patches and trains the transformer to predict the
clean patches. In some networks the architecture is masked as well, with its own time. A second, cheap batch of
architecture-only samples trains p(a), the distribution of architectures.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, set_seed
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel, compute_density_for_timestep_sampling
from nnit_loss import training_losses
from tqdm.auto import tqdm

from nnit_diffusers import (
    GraphHyperNetwork,
    NNiTArchitectureScheduler,
    NNiTPipeline,
    NNiTTransformer,
    Task,
    WeightPatchTokenizer,
    evaluate,
    get_task,
)
from nnit_diffusers.data import GHNWeightStream, WeightDataset
from nnit_diffusers.models.weight_patch_tokenizer import WeightPatchBatch
from nnit_diffusers.optimization import Muon
from nnit_diffusers.training_utils import (
    TrainingRecord,
    averaged_weights,
    checkpoint_step,
    find_checkpoint,
    prefetch,
    push_to_hub,
    register_model_hooks,
    save_checkpoint,
    step_generator,
)


logger = get_logger(__name__)

# Batches for the tokenizer's statistics.
STATISTICS_BATCHES = 16
MUON_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Arguments:
    """Trains the NNiT transformer."""

    output_dir: str
    """Folder for checkpoints, logs and the final pipeline (`pipeline/`)."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Folder of the task's data, or where to download it, if the task needs any."""
    ghn_name_or_path: str | None = None
    """GHN to draw training networks from: a folder or a Hub repository."""
    dataset_name: str | None = None
    """Weight dataset to train on instead: a folder or a Hub repository."""
    include_ghn: bool = True
    """Save the GHN as the pipeline's optional component."""
    pretrained_model_name_or_path: str | None = None
    """Pipeline, or checkpoint of this script, whose transformer to start from; freshly initialised by default."""
    seed: int = 0
    """Seed of initialisation, architectures, latents, times and noise."""

    train_batch_size: int = 32
    """Networks per step, on each process."""
    latents_per_architecture: int = 4
    """Networks of each architecture of a step."""
    narrow_fraction: float = 0.0
    """Fraction of the architectures drawn with log-uniform widths, since narrow networks are the hardest."""
    architecture_batch_size: int = 64
    """Architecture-only samples per step, on each process."""
    max_train_steps: int = 10000
    """Optimisation steps."""
    gradient_accumulation_steps: int = 1
    """Micro-steps per optimisation step."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the forward pass."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon` uses Muon for the matrices of the blocks and AdamW for the rest; `adamw` uses AdamW for all."""
    learning_rate: float = 1.5e-3
    """Peak learning rate of AdamW."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon."""
    muon_precision: Literal["no", "bf16"] = "no"
    """Precision of Muon's own arithmetic; bf16 is faster on hardware that supports it."""
    lr_scheduler: str = "cosine"
    """Any schedule of `diffusers.optimization.get_scheduler`."""
    lr_warmup_steps: int = 200
    """Steps of linear warm-up."""
    adam_beta1: float = 0.9
    adam_beta2: float = 0.98
    adam_weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    use_ema: bool = True
    """Save the exponential moving average of the parameters."""
    ema_decay: float = 0.999

    weighting_scheme: Literal["logit_normal", "mode", "none"] = "logit_normal"
    """Distribution of noise levels; see `compute_density_for_timestep_sampling`."""
    logit_mean: float = 1.0
    """Mean of `logit_normal`; above 0, high noise is more frequent, where the latent of a network is decided."""
    logit_std: float = 1.3
    mode_scale: float = 1.29
    """Scale of `mode`: 0 is uniform, larger values favour the middle."""
    scheduler_shift: float = 3.0
    """Shift of the sampler's noise levels towards high noise."""
    architecture_loss_weight: float = 0.2
    """Weight of the cross entropy on masked architecture tokens."""
    bias_loss_weight: float = 0.3
    """Weight of a layer's biases in its loss, relative to the weights of that layer."""
    masked_architecture_fraction: float = 0.15
    """Fraction of the networks whose architecture is masked as well, with its own time."""
    function_loss_weight: float = 0.0
    """Weight of the function loss: the error of the outputs of predicted networks. Above 0, `data_dir` must hold the
    task's training data."""
    function_batch_size: int = 128
    """Inputs that predicted networks are run on for the function loss."""

    patch_size: int = 8
    num_layers: int = 6
    num_attention_heads: int = 4
    attention_head_dim: int = 52

    dataloader_num_workers: int = 0
    """Threads that prepare batches ahead of the training step; any number gives the same batches."""
    checkpointing_steps: int = 500
    """Steps between checkpoints."""
    checkpoints_total_limit: int | None = 2
    """Number of checkpoints to keep; the oldest are removed."""
    resume_from_checkpoint: str | None = None
    """`latest`, or the name or path of a checkpoint."""
    validation_steps: int = 1000
    """Steps between evaluations on the validation split."""
    validation_architectures: int = 8
    """Architectures of each region scored in validation, two networks each."""
    validation_episodes: int | None = None
    """Episodes or samples per network; the task's own number by default."""
    report_to: Literal["tensorboard", "none"] = "tensorboard"
    """Tracker that metrics are logged to."""
    push_to_hub: bool = False
    """Upload the trained pipeline."""
    hub_model_id: str | None = None
    """Repository to upload to; the name of `output_dir` by default."""


def check_arguments(arguments: Arguments) -> None:
    """Raises `ValueError` unless exactly one source of networks is given."""
    if (arguments.ghn_name_or_path is None) == (arguments.dataset_name is None):
        raise ValueError(
            "One of `ghn_name_or_path` and `dataset_name` must be given, but received "
            f"{arguments.ghn_name_or_path!r} and {arguments.dataset_name!r}."
        )


def create_source(task: Task, arguments: Arguments, device: torch.device) -> GHNWeightStream | WeightDataset:
    """Source of training networks, whose tokenizer has statistics of networks drawn from it."""
    tokenizer = WeightPatchTokenizer(
        in_features=task.in_features,
        out_features=task.out_features,
        activation=task.activation,
        patch_size=arguments.patch_size,
        max_depth=task.max_depth + 1,
        observation_mean=task.observation_mean.tolist(),
        observation_std=task.observation_std.tolist(),
    )
    # endless stream of a GHN, or a weight dataset
    if arguments.ghn_name_or_path:
        ghn = GraphHyperNetwork.from_pretrained(arguments.ghn_name_or_path).to(device)
        source = GHNWeightStream(
            ghn, tokenizer, task.regions, arguments.latents_per_architecture, arguments.narrow_fraction
        )
    else:
        source = WeightDataset(arguments.dataset_name, tokenizer)
    # tokenizer statistics
    generators = [step_generator(arguments.seed, index, stream=1) for index in range(STATISTICS_BATCHES)]
    source.tokenizer = tokenizer.fit(source.batch(arguments.train_batch_size, generator) for generator in generators)
    return source


def draw_sigmas(num_networks: int, arguments: Arguments, generator: torch.Generator) -> torch.Tensor:
    """Noise levels in 0…1, `[B]`."""
    return compute_density_for_timestep_sampling(
        arguments.weighting_scheme,
        num_networks,
        logit_mean=arguments.logit_mean,
        logit_std=arguments.logit_std,
        mode_scale=arguments.mode_scale,
        generator=generator,
    )


def create_optimizer(transformer: NNiTTransformer, arguments: Arguments) -> torch.optim.Optimizer:
    """The requested optimizer."""
    options = {
        "lr": arguments.learning_rate,
        "betas": (arguments.adam_beta1, arguments.adam_beta2),
        "weight_decay": arguments.adam_weight_decay,
        "eps": arguments.adam_epsilon,
    }
    if arguments.optimizer == "muon":
        dtype = MUON_DTYPES[arguments.muon_precision]
        return Muon(transformer, muon_lr=arguments.muon_learning_rate, muon_dtype=dtype, **options)
    return torch.optim.AdamW(transformer.parameters(), **options)


@torch.no_grad()
def validate(pipeline: NNiTPipeline, task: Task, arguments: Arguments) -> dict[str, float]:
    """Mean validation score on fixed architectures of three regions, and with architectures left to the model."""
    pipeline.set_progress_bar_config(disable=True)
    metrics = {}
    for region in ("seen", "held_out_combinations", "held_out_widths", "joint"):
        generator = step_generator(arguments.seed, 0, stream=3)
        if region == "joint":
            networks = pipeline(num_networks=arguments.validation_architectures, generator=generator).networks
        else:
            architectures = task.regions.sample(region, arguments.validation_architectures, generator)
            networks = pipeline(arch=architectures, num_networks=2, generator=generator).networks
        results = evaluate(networks, task, split="validation", num_episodes=arguments.validation_episodes)
        metrics[f"validation/{region}"] = sum(result.score for result in results) / len(results)
    return metrics


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
    )


def create_transformer(task: Task, arguments: Arguments) -> NNiTTransformer:
    """The transformer to start from: a pretrained one if requested, otherwise freshly initialised."""
    if arguments.pretrained_model_name_or_path is None:
        # freshly initialised, for the task's architectures
        transformer = NNiTTransformer(
            in_features=task.in_features,
            out_features=task.out_features,
            max_width=task.max_width,
            max_depth=task.max_depth + 1,
            patch_size=arguments.patch_size,
            num_layers=arguments.num_layers,
            num_attention_heads=arguments.num_attention_heads,
            attention_head_dim=arguments.attention_head_dim,
        )
    else:
        # pretrained, on patches of the same size
        transformer = NNiTTransformer.from_pretrained(arguments.pretrained_model_name_or_path, subfolder="transformer")
        if transformer.config.patch_size != arguments.patch_size:
            raise ValueError(
                f"`patch_size` must be {transformer.config.patch_size}, that of the pretrained transformer, but "
                f"received {arguments.patch_size}."
            )
    if arguments.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    return transformer


def create_pipeline(task: Task, source: GHNWeightStream | WeightDataset, arguments: Arguments) -> NNiTPipeline:
    """The pipeline to train, with the tokenizer of its source of networks."""
    return NNiTPipeline(
        transformer=create_transformer(task, arguments),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=arguments.scheduler_shift),
        architecture_scheduler=NNiTArchitectureScheduler(),
        tokenizer=source.tokenizer,
        ghn=getattr(source, "ghn", None) if arguments.include_ghn else None,
        min_width=task.min_width,
        min_depth=task.min_depth,
        max_depth=task.max_depth,
    )


class Training:
    """A training run, from its first step or from a checkpoint to its last step."""

    def __init__(self, arguments: Arguments):
        check_arguments(arguments)
        self.arguments = arguments
        self.output_dir = Path(arguments.output_dir)
        checkpoint = find_checkpoint(self.output_dir, arguments.resume_from_checkpoint)
        # accelerator, source of networks and models
        self.accelerator = create_accelerator(arguments)
        set_seed(arguments.seed)
        self.task = get_task(arguments.task, **({"data_dir": arguments.data_dir} if arguments.data_dir else {}))
        self.source = create_source(self.task, arguments, self.accelerator.device)
        self.pipeline = create_pipeline(self.task, self.source, arguments)
        self.transformer = self.pipeline.transformer
        self.ema = None
        if arguments.use_ema:
            self.ema = EMAModel(
                self.transformer.parameters(),
                decay=arguments.ema_decay,
                model_cls=NNiTTransformer,
                model_config=self.transformer.config,
            )
            self.ema.to(self.accelerator.device)
        register_model_hooks(
            self.accelerator,
            {"transformer": self.transformer},
            {"transformer": self.ema} if self.ema else {},
        )
        # optimizer and learning rate schedule
        optimizer = create_optimizer(self.transformer, arguments)
        # accelerate advances the schedule once for every process
        lr_scheduler = get_scheduler(
            arguments.lr_scheduler,
            optimizer,
            num_warmup_steps=arguments.lr_warmup_steps * self.accelerator.num_processes,
            num_training_steps=arguments.max_train_steps * self.accelerator.num_processes,
        )
        self.model, self.optimizer, self.lr_scheduler = self.accelerator.prepare(
            self.transformer, optimizer, lr_scheduler
        )
        self.weights = {
            "patches": 1.0,
            "architecture": arguments.architecture_loss_weight,
            "function": arguments.function_loss_weight,
        }
        # resume
        self.step = 0
        if checkpoint is not None:
            self.accelerator.load_state(str(checkpoint))
            self.step = checkpoint_step(checkpoint)
            logger.info(f"Resumed from {checkpoint}")

    def draw(self, generator: torch.Generator) -> tuple[WeightPatchBatch, torch.Tensor, torch.Tensor | None]:
        """Networks of one batch, tokens of its architecture-only samples, and inputs for the function loss if used."""
        batch = self.source.batch(self.arguments.train_batch_size, generator)
        architectures = self.task.regions.sample("seen", self.arguments.architecture_batch_size, generator)
        max_depth = self.source.tokenizer.config.max_depth
        inputs = None
        if self.arguments.function_loss_weight:
            inputs, _ = self.task.training_batch(self.arguments.function_batch_size, generator)
        return batch, torch.tensor([architecture.tokens(max_depth) for architecture in architectures]), inputs

    def batches(self) -> Iterator[tuple[WeightPatchBatch, torch.Tensor, torch.Tensor | None, torch.Generator]]:
        """Batch of every remaining micro-step, with the generator of its times and noise."""

        def prepare(number: int) -> tuple[WeightPatchBatch, torch.Tensor, torch.Tensor | None, torch.Generator]:
            generator = step_generator(self.arguments.seed, number, self.accelerator.process_index)
            return *self.draw(generator), generator

        num_micro_steps = self.arguments.gradient_accumulation_steps
        numbers = range(self.step * num_micro_steps, self.arguments.max_train_steps * num_micro_steps)
        return prefetch(prepare, numbers, self.arguments.dataloader_num_workers)

    def micro_step(
        self,
        batch: WeightPatchBatch,
        architecture_only_tokens: torch.Tensor,
        inputs: torch.Tensor | None,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """Forward and backward pass on one batch; the last batch of a step also updates the parameters."""
        arguments, accelerator = self.arguments, self.accelerator
        sigmas = draw_sigmas(len(batch.architectures), arguments, generator)
        with accelerator.accumulate(self.model):
            with accelerator.autocast():
                losses = training_losses(
                    self.model,
                    batch.to(accelerator.device),
                    architecture_only_tokens.to(accelerator.device),
                    sigmas.to(accelerator.device),
                    self.pipeline.architecture_scheduler,
                    arguments.masked_architecture_fraction,
                    arguments.bias_loss_weight,
                    generator,
                    self.source.tokenizer,
                    None if inputs is None else inputs.to(accelerator.device),
                )
            # weighted sum of the losses
            accelerator.backward(sum(self.weights[name] * loss for name, loss in losses.items()))
            # accelerate skips the update until the gradients of all micro-steps are summed
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.transformer.parameters(), arguments.max_grad_norm)
            self.optimizer.step()
            self.lr_scheduler.step()
            self.optimizer.zero_grad()
        return {name: value.item() for name, value in losses.items()}

    def train_step(self, batches: Iterator) -> dict[str, float]:
        """One optimisation step; returns the metrics of its last batch."""
        for _ in range(self.arguments.gradient_accumulation_steps):
            metrics = self.micro_step(*next(batches))
        self.step += 1
        if self.ema:
            self.ema.step(self.transformer.parameters())
        if not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"The loss became {metrics} at step {self.step}; lower `learning_rate`.")
        return metrics

    def run(self) -> None:
        """Trains to the last step and saves the pipeline."""
        arguments, accelerator = self.arguments, self.accelerator
        # trackers and the record of the run
        if accelerator.is_main_process:
            accelerator.init_trackers("train_nnit")
            record = TrainingRecord(self.output_dir, asdict(arguments), self.step)
        logger.info(f"{self.transformer.num_parameters():,} parameters on {accelerator.num_processes} process(es)")
        progress = tqdm(
            total=arguments.max_train_steps,
            initial=self.step,
            desc="NNiT",
            disable=not accelerator.is_local_main_process,
        )
        batches = self.batches()
        while self.step < arguments.max_train_steps:
            metrics = self.train_step(batches)
            progress.update()
            progress.set_postfix({name: f"{value:.3f}" for name, value in metrics.items()}, refresh=False)
            # validate with averaged weights
            is_validation = self.step % arguments.validation_steps == 0 or self.step == arguments.max_train_steps
            if is_validation and accelerator.is_main_process:
                with averaged_weights(self.transformer, self.ema):
                    metrics |= validate(self.pipeline, self.task, arguments)
                record.add_validation(self.step, metrics)
                logger.info(
                    f"step {self.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                )
            # log, checkpoint
            accelerator.log(metrics | {"lr": self.lr_scheduler.get_last_lr()[0]}, step=self.step)
            if self.step % arguments.checkpointing_steps == 0:
                save_checkpoint(accelerator, self.output_dir, self.step, arguments.checkpoints_total_limit)
        self.save()

    def save(self) -> None:
        """Saves the pipeline, with averaged parameters if `use_ema`, and uploads it if `push_to_hub`."""
        if self.ema:
            self.ema.copy_to(self.transformer.parameters())
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.pipeline.save_pretrained(self.output_dir / "pipeline")
            logger.info(f"Saved {self.output_dir / 'pipeline'}")
            if self.arguments.push_to_hub:
                push_to_hub(self.output_dir / "pipeline", self.arguments.hub_model_id or self.output_dir.name)


def main(arguments: Arguments) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    training = Training(arguments)
    training.run()
    training.accelerator.end_training()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
