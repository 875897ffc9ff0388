"""Stage 3: trains the NNiT transformer on an endless stream of GHN networks, or on a weight dataset.

    accelerate launch examples/train_nnit.py --task digits --ghn_name_or_path outputs/digits/ghn/ghn \
        --output_dir outputs/digits/nnit

Every step draws networks of the training split, noises their patches, and asks for the clean ones; in some of the
networks the architecture is masked too, with a time of its own. A second batch of bare architectures, which costs next
to nothing, teaches p(a).
"""

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, set_seed
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel, compute_density_for_timestep_sampling
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
from nnit_diffusers.models.weight_patch_tokenizer import BIAS_PATCH, WeightPatchBatch
from nnit_diffusers.optimization import Muon
from nnit_diffusers.training_utils import (
    checkpoint_step,
    find_checkpoint,
    register_model_hooks,
    save_checkpoint,
    step_generator,
)
from nnit_diffusers.utils import provenance, write_json


logger = get_logger(__name__)

# Below this noise level the weight of the velocity loss, 1 / sigma^2, stops growing.
MIN_SIGMA = 0.1
# A bias moves the input of a unit about a third as much as its weights do together (in squares).
BIAS_WEIGHT = 0.3
# Batches that the tokenizer's statistics are measured on.
STATISTICS_BATCHES = 16


@dataclass
class Arguments:
    """Trains the NNiT transformer."""

    output_dir: str
    """Where checkpoints, logs and the final pipeline (`pipeline/`) go."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Where the task finds or downloads its data, if it needs any."""
    ghn_name_or_path: str | None = None
    """GHN whose endless stream is learned from: a folder or a Hub repository."""
    dataset_name: str | None = None
    """Weight dataset to learn from instead: a folder or a Hub repository."""
    include_ghn: bool = True
    """Ship the GHN as the pipeline's optional component."""
    pretrained_model_name_or_path: str | None = None
    """Transformer to start from, instead of a fresh one."""
    seed: int = 0
    """Seed of initialisation, architectures, latents, times and noise."""

    train_batch_size: int = 32
    """Networks a step, on each process."""
    latents_per_architecture: int = 4
    """Networks of each architecture of a step."""
    architecture_batch_size: int = 64
    """Bare architectures a step, on each process."""
    max_train_steps: int = 10000
    """Optimisation steps."""
    gradient_accumulation_steps: int = 1
    """Micro-steps that make one optimisation step."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the forward pass."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all."""
    learning_rate: float = 1.5e-3
    """Peak learning rate of AdamW."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon."""
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
    """Ship the exponential moving average of the parameters."""
    ema_decay: float = 0.999

    weighting_scheme: Literal["logit_normal", "mode", "none"] = "logit_normal"
    """How noise levels are drawn; see `compute_density_for_timestep_sampling`."""
    logit_mean: float = 1.0
    """Above 0: high noise more often. That is where the latent of a network is decided."""
    logit_std: float = 1.3
    scheduler_shift: float = 3.0
    """Shift of the sampler's noise levels towards high noise."""
    architecture_loss_weight: float = 0.2
    """Weight of the cross entropy on masked architecture tokens."""
    masked_architecture_fraction: float = 0.15
    """Part of the networks whose architecture is masked as well, with a time of its own."""

    patch_size: int = 8
    num_layers: int = 6
    num_attention_heads: int = 4
    attention_head_dim: int = 52

    dataloader_num_workers: int = 0
    """Threads that prepare batches ahead of the training step."""
    checkpointing_steps: int = 500
    """Steps between checkpoints."""
    checkpoints_total_limit: int | None = 2
    """Oldest checkpoints beyond this number are removed."""
    resume_from_checkpoint: str | None = None
    """`latest`, or the name or path of a checkpoint."""
    validation_steps: int = 1000
    """Steps between scorings on the validation split."""
    validation_architectures: int = 8
    """Architectures of each split scored in validation, two networks each."""
    report_to: Literal["tensorboard", "none"] = "tensorboard"
    """Where curves go."""
    push_to_hub: bool = False
    """Upload the trained pipeline."""
    hub_model_id: str | None = None
    """Repository to upload to; the name of `output_dir` by default."""


def create_source(task: Task, arguments: Arguments) -> GHNWeightStream | WeightDataset:
    """What the transformer learns from; its tokenizer's statistics are measured on networks drawn from it."""
    tokenizer = WeightPatchTokenizer(
        in_features=task.in_features,
        out_features=task.out_features,
        activation=task.activation,
        patch_size=arguments.patch_size,
        max_depth=task.max_depth + 1,
        observation_mean=task.observation_mean.tolist(),
        observation_std=task.observation_std.tolist(),
    )
    if arguments.ghn_name_or_path:
        ghn = GraphHyperNetwork.from_pretrained(arguments.ghn_name_or_path)
        source = GHNWeightStream(ghn, tokenizer, task.splits, arguments.latents_per_architecture)
    else:
        source = WeightDataset(arguments.dataset_name, tokenizer)
    generators = [step_generator(arguments.seed, index, stream=1) for index in range(STATISTICS_BATCHES)]
    source.tokenizer = tokenizer.fit(source.batch(arguments.train_batch_size, generator) for generator in generators)
    return source


def element_weights(batch: WeightPatchBatch) -> torch.Tensor:
    """`[B, P, p * p]` weights of the squared error: every layer of every network counts the same, sum 1 a network."""
    is_bias = (batch.positions[..., 0] == BIAS_PATCH).long()
    group = 2 * batch.positions[..., 1] + is_bias
    per_patch = batch.element_mask.sum(dim=-1).float()
    per_group = torch.zeros(len(group), int(group.max()) + 1, device=group.device).scatter_add_(1, group, per_patch)
    weights = (1 - (1 - BIAS_WEIGHT) * is_bias) / per_group.gather(1, group).clamp(min=1)
    num_layers = torch.tensor([architecture.depth + 1 for architecture in batch.architectures], device=group.device)
    return batch.element_mask * (weights / (1 + BIAS_WEIGHT) / num_layers[:, None])[..., None]


def mask_tokens(tokens: torch.Tensor, times: torch.Tensor, scheduler, generator: torch.Generator) -> torch.Tensor:
    """Architecture tokens `[B, S]` masked up to times `[B]` in 0…1."""
    return scheduler.add_noise(tokens, times * scheduler.config.num_train_timesteps, generator=generator)


def masked_cross_entropy(logits: torch.Tensor, tokens: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the tokens that are masked in `noisy`; 0 if none is."""
    is_masked = noisy != tokens
    losses = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none")
    return (losses * is_masked.flatten()).sum() / is_masked.sum().clamp(min=1)


def training_loss(
    model: torch.nn.Module,
    batch: WeightPatchBatch,
    bare_tokens: torch.Tensor,
    scheduler: NNiTArchitectureScheduler,
    arguments: Arguments,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Losses of one micro-step: `patches`, velocity-weighted; `architecture`, with and without patches to go by."""
    device, num_networks = batch.patches.device, len(batch.architectures)
    sigmas = compute_density_for_timestep_sampling(
        arguments.weighting_scheme,
        num_networks,
        logit_mean=arguments.logit_mean,
        logit_std=arguments.logit_std,
        generator=generator,
    )
    noise = torch.randn(batch.patches.shape, generator=generator).to(device) * batch.element_mask
    sigmas_B11 = sigmas.to(device)[:, None, None]
    noisy = (1 - sigmas_B11) * batch.patches + sigmas_B11 * noise

    is_masked = torch.rand(num_networks, generator=generator) < arguments.masked_architecture_fraction
    times = torch.rand(num_networks, generator=generator) * is_masked
    tokens = batch.architecture_tokens
    noisy_tokens = mask_tokens(tokens.cpu(), times, scheduler, generator).to(device)
    output = model(
        noisy,
        1000 * sigmas.to(device),
        noisy_tokens,
        1000 * times.to(device),
        batch.positions,
        attention_mask=batch.attention_mask,
    )
    squared_error = (output.sample.float() - batch.patches).square() * element_weights(batch)
    per_network = squared_error.sum(dim=(1, 2)) / sigmas.to(device).clamp(min=MIN_SIGMA).square()

    bare_times = (torch.arange(len(bare_tokens)) + torch.rand(1, generator=generator)) / len(bare_tokens)
    noisy_bare = mask_tokens(bare_tokens, bare_times, scheduler, generator).to(device)
    bare_output = model(
        batch.patches.new_zeros(len(bare_tokens), 0, batch.patches.shape[-1]),
        torch.full((len(bare_tokens),), 1000.0, device=device),
        noisy_bare,
        1000 * bare_times.to(device),
        batch.positions.new_zeros(len(bare_tokens), 0, batch.positions.shape[-1]),
    )
    return {
        "patches": per_network.mean(),
        "architecture": masked_cross_entropy(output.architecture_logits, tokens, noisy_tokens)
        + masked_cross_entropy(bare_output.architecture_logits, bare_tokens.to(device), noisy_bare),
    }


def create_optimizer(transformer: NNiTTransformer, arguments: Arguments) -> torch.optim.Optimizer:
    """The optimizer that was asked for."""
    options = {
        "lr": arguments.learning_rate,
        "betas": (arguments.adam_beta1, arguments.adam_beta2),
        "weight_decay": arguments.adam_weight_decay,
        "eps": arguments.adam_epsilon,
    }
    if arguments.optimizer == "muon":
        return Muon(transformer, muon_lr=arguments.muon_learning_rate, **options)
    return torch.optim.AdamW(transformer.parameters(), **options)


@torch.no_grad()
def validate(pipeline: NNiTPipeline, task: Task, arguments: Arguments) -> dict[str, float]:
    """Mean score on validation data: fixed architectures of three splits, and networks of the model's own choice."""
    pipeline.set_progress_bar_config(disable=True)
    figures = {}
    for split in ("train", "held_out_combinations", "held_out_widths", "joint"):
        generator = step_generator(arguments.seed, 0, stream=3)
        if split == "joint":
            networks = pipeline(num_networks=arguments.validation_architectures, generator=generator).networks
        else:
            architectures = task.splits.sample(split, arguments.validation_architectures, generator)
            networks = pipeline(arch=architectures, num_networks=2, generator=generator).networks
        results = evaluate(networks, task, split="validation")
        figures[f"validation/{split}"] = sum(result.score for result in results) / len(results)
    return figures


def main(arguments: Arguments) -> None:
    if (arguments.ghn_name_or_path is None) == (arguments.dataset_name is None):
        raise ValueError(
            "One of `ghn_name_or_path` and `dataset_name` must be given, but received "
            f"{arguments.ghn_name_or_path!r} and {arguments.dataset_name!r}."
        )
    output_dir = Path(arguments.output_dir)
    accelerator = Accelerator(
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        mixed_precision=arguments.mixed_precision,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_config=ProjectConfiguration(project_dir=str(output_dir), logging_dir=str(output_dir / "logs")),
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    set_seed(arguments.seed)
    task = get_task(arguments.task, **({"data_dir": arguments.data_dir} if arguments.data_dir else {}))
    source = create_source(task, arguments)
    tokenizer, ghn = source.tokenizer, getattr(source, "ghn", None)
    if ghn is not None:
        ghn.to(accelerator.device)
    if arguments.pretrained_model_name_or_path:
        transformer = NNiTTransformer.from_pretrained(arguments.pretrained_model_name_or_path)
    else:
        transformer = NNiTTransformer(
            in_features=task.in_features,
            out_features=task.out_features,
            max_width=task.max_width,
            max_depth=tokenizer.config.max_depth,
            patch_size=arguments.patch_size,
            num_layers=arguments.num_layers,
            num_attention_heads=arguments.num_attention_heads,
            attention_head_dim=arguments.attention_head_dim,
        )
    if arguments.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    architecture_scheduler = NNiTArchitectureScheduler()
    pipeline = NNiTPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=arguments.scheduler_shift),
        architecture_scheduler=architecture_scheduler,
        tokenizer=tokenizer,
        ghn=ghn if arguments.include_ghn else None,
        min_width=task.min_width,
        max_depth=task.max_depth,
    )
    ema = EMAModel(
        transformer.parameters(),
        decay=arguments.ema_decay,
        model_cls=NNiTTransformer,
        model_config=transformer.config,
    )
    ema.to(accelerator.device)
    register_model_hooks(accelerator, {"transformer": transformer}, {"transformer": ema} if arguments.use_ema else {})
    optimizer = create_optimizer(transformer, arguments)
    lr_scheduler = get_scheduler(
        arguments.lr_scheduler,
        optimizer,
        num_warmup_steps=arguments.lr_warmup_steps * accelerator.num_processes,
        num_training_steps=arguments.max_train_steps * accelerator.num_processes,
    )
    model, optimizer, lr_scheduler = accelerator.prepare(transformer, optimizer, lr_scheduler)
    if accelerator.is_main_process:
        accelerator.init_trackers("train_nnit")
        write_json(output_dir / "training.json", {"arguments": asdict(arguments), **provenance()})
    logger.info(f"{transformer.num_parameters():,} parameters on {accelerator.num_processes} process(es)")

    step = 0
    if arguments.resume_from_checkpoint:
        checkpoint = find_checkpoint(output_dir, arguments.resume_from_checkpoint)
        if checkpoint is not None:
            accelerator.load_state(str(checkpoint))
            step = checkpoint_step(checkpoint)
            logger.info(f"Resumed from {checkpoint}")

    progress = tqdm(
        total=arguments.max_train_steps, initial=step, desc="NNiT", disable=not accelerator.is_local_main_process
    )
    while step < arguments.max_train_steps:
        for micro_step in range(arguments.gradient_accumulation_steps):
            generator = step_generator(
                arguments.seed,
                step * arguments.gradient_accumulation_steps + micro_step,
                accelerator.process_index,
            )
            batch = source.batch(arguments.train_batch_size, generator).to(accelerator.device)
            bare = task.splits.sample("train", arguments.architecture_batch_size, generator)
            bare_tokens = torch.tensor([architecture.tokens(tokenizer.config.max_depth) for architecture in bare])
            with accelerator.accumulate(model), accelerator.autocast():
                losses = training_loss(model, batch, bare_tokens, architecture_scheduler, arguments, generator)
                loss = losses["patches"] + arguments.architecture_loss_weight * losses["architecture"]
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(transformer.parameters(), arguments.max_grad_norm)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        step += 1
        if arguments.use_ema:
            ema.step(transformer.parameters())
        figures = {name: value.item() for name, value in losses.items()}
        if not all(map(math.isfinite, figures.values())):
            raise FloatingPointError(f"The loss became {figures} at step {step}; lower `learning_rate`.")
        progress.update()
        progress.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)

        is_validation = step % arguments.validation_steps == 0 or step == arguments.max_train_steps
        if is_validation and accelerator.is_main_process:
            if arguments.use_ema:
                ema.store(transformer.parameters())
                ema.copy_to(transformer.parameters())
            figures |= validate(pipeline, task, arguments)
            if arguments.use_ema:
                ema.restore(transformer.parameters())
            logger.info(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        accelerator.log(figures | {"lr": lr_scheduler.get_last_lr()[0]}, step=step)
        if step % arguments.checkpointing_steps == 0:
            save_checkpoint(accelerator, output_dir, step, arguments.checkpoints_total_limit)

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if arguments.use_ema:
            ema.copy_to(transformer.parameters())
        pipeline.save_pretrained(
            output_dir / "pipeline",
            push_to_hub=arguments.push_to_hub,
            repo_id=arguments.hub_model_id or output_dir.name,
        )
        logger.info(f"Saved {output_dir / 'pipeline'}")
    accelerator.end_training()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
