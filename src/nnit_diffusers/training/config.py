"""Configurations of the training stages. Every field is an argument of the scripts and of `nnit train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import check_ranges


# Fields that may change when a run resumes: they have no part in the trained weights.
OPERATIONAL_FIELDS = frozenset(
    {
        "checkpointing_steps",
        "checkpoints_total_limit",
        "resume_from_checkpoint",
        "overwrite",
        "validation_steps",
        "validation_architectures",
        "validation_episodes",
        "dataloader_num_workers",
        "gradient_checkpointing",
        "report_to",
        "push_to_hub",
        "hub_model_id",
        # of the scripts: where they read and write
        "output_dir",
        "data_dir",
        "ghn_name_or_path",
        "pretrained_model_name_or_path",
    }
)

# Integers that may be 0; all others are 1 or more.
MAY_BE_ZERO = frozenset({"seed", "lr_warmup_steps", "dataloader_num_workers", "num_message_passes"})


@dataclass
class TrainingConfig:
    """What all training stages have in common."""

    seed: int = 0
    """Seed of every random choice of the run."""
    train_batch_size: int = 32
    """Samples per micro-step, on each process."""
    max_train_steps: int = 10000
    """Optimisation steps."""
    gradient_accumulation_steps: int | None = None
    """Micro-steps per optimisation step; by default what accelerate is configured with, or 1."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of the forward pass; by default what accelerate is configured with, or full precision."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    lr_scheduler: str = "cosine"
    """Any schedule of `diffusers.optimization.get_scheduler`."""
    lr_step_rules: str | None = None
    """Rules of `piecewise_constant`: `1:10,0.1:20,0.01` is a tenth of the peak from step 10, a hundredth from 20."""
    lr_warmup_steps: int = 100
    """Steps of linear warm-up."""
    adam_beta1: float = 0.9
    """Decay rate of AdamW's mean of gradients."""
    adam_beta2: float = 0.99
    """Decay rate of AdamW's mean of squared gradients."""
    adam_weight_decay: float = 0.0
    """Decoupled weight decay."""
    adam_epsilon: float = 1e-8
    """Term added to AdamW's denominator."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    use_ema: bool = True
    """Save the exponential moving average of the parameters."""
    ema_decay: float = 0.999
    """Decay of that average for each step."""

    checkpointing_steps: int = 1000
    """Steps between checkpoints."""
    checkpoints_total_limit: int | None = 2
    """Number of checkpoints to keep; the oldest are removed."""
    resume_from_checkpoint: str | None = None
    """`latest`, or the name or path of a checkpoint."""
    overwrite: bool = False
    """Remove the checkpoints of an earlier run in the same folder. Without it, such a folder is refused."""
    validation_steps: int = 1000
    """Steps between evaluations on the validation split."""
    validation_architectures: int = 8
    """Architectures of each region that are scored in validation."""
    validation_episodes: int | None = None
    """Episodes or samples per network; the task's own number by default."""
    report_to: str | None = None
    """Tracker of accelerate, such as `wandb`; `all` or `none`. By default tensorboard, if it is installed."""
    push_to_hub: bool = False
    """Upload the result. The name and the token are checked before the first step."""
    hub_model_id: str | None = None
    """Repository to upload to; the name of the output folder by default."""

    def __post_init__(self) -> None:
        check_ranges(self, MAY_BE_ZERO)


@dataclass
class GeneratorTrainingConfig(TrainingConfig):
    """What training runs of a hypernetwork and of nested slices have in common."""

    ema_decay: float = 0.998
    """Decay of the average of the parameters for each step."""
    narrow_fraction: float = 0.0
    """Fraction of the architectures drawn with log-uniform widths, since narrow networks are the hardest."""
    dagger_steps: tuple[int, ...] = ()
    """Steps after which generated policies are run, and their states join the data with the expert's actions."""
    dagger_policies: int = 40
    """Policies run in each DAgger round."""
    dagger_episodes: int = 2
    """Episodes of each policy in a DAgger round."""

    def __post_init__(self) -> None:
        super().__post_init__()
        late = [step for step in self.dagger_steps if step > self.max_train_steps]
        if late:
            raise ValueError(
                f"`dagger_steps` must be at most `max_train_steps`, {self.max_train_steps}, but received {late}."
            )


@dataclass
class NestedTrainingConfig(GeneratorTrainingConfig):
    """Settings of a [`NestedMLP`]'s training run; see [`train_nested`]."""

    train_batch_size: int = 256
    """Task samples per micro-step; every network of the step gets all of them."""
    num_random_architectures: int = 2
    """Random architectures per micro-step, beside the widest and the narrowest one, on each process."""
    max_train_steps: int = 12000
    """Optimisation steps; each trains one depth."""
    learning_rate: float = 3e-3
    """Peak learning rate."""


@dataclass
class GHNTrainingConfig(GeneratorTrainingConfig):
    """Settings of a Graph HyperNetwork's training run; see [`train_ghn`]."""

    train_batch_size: int = 128
    """Task samples per micro-step; every network of the step gets all of them."""
    num_architectures: int = 8
    """Architectures per micro-step, on each process."""
    latents_per_architecture: int = 6
    """Networks of each architecture, at least 2, that the diversity penalty pushes apart."""
    max_train_steps: int = 6000
    """Optimisation steps."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    validation_architectures: int = 12
    """Architectures of each region that are scored in validation."""

    diversity_target: float = 0.6
    """Cosine similarity above which networks of one architecture are pushed apart, in every direction."""
    diversity_weight: float = 2.0
    """Weight of the diversity penalty in the loss."""
    diversity_start: float = 0.0
    """Fraction of the training run at which the target begins to fall from 1."""
    diversity_end: float = 0.5
    """Fraction of the training run at which the target reaches `diversity_target`."""

    latent_dim: int = 16
    """Dimensions of the latent that distinguishes networks of one architecture."""
    node_dim: int = 64
    """Width of the embedding of a layer."""
    num_message_passes: int = 1
    """Message passes along the chain of layers, forwards and backwards."""
    map_channels: int = 48
    """Channels of the low-resolution map that weights are decoded from."""
    num_templates: int = 16
    """Learned full-resolution weight templates of each role."""
    upsampling: int = 8
    """Side of the block of weights that one entry of a latent map is upsampled to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latents_per_architecture < 2:
            raise ValueError(
                f"`latents_per_architecture` must be 2 or more, but received {self.latents_per_architecture}."
            )


@dataclass
class NNiTTrainingConfig(TrainingConfig):
    """Settings of the transformer's training run; see [`train_nnit`]."""

    train_batch_size: int = 32
    """Networks per micro-step, on each process."""
    latents_per_architecture: int = 4
    """Networks of each architecture of a micro-step."""
    narrow_fraction: float = 0.0
    """Fraction of the architectures drawn with log-uniform widths, since narrow networks are the hardest."""
    architecture_batch_size: int = 64
    """Architecture-only samples per micro-step, on each process."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon` uses Muon for the matrices of the blocks and AdamW for the rest; `adamw` uses AdamW for all."""
    learning_rate: float = 1.5e-3
    """Peak learning rate of AdamW."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon."""
    muon_precision: Literal["no", "bf16"] = "no"
    """Precision of Muon's own arithmetic; bf16 is faster on hardware that supports it."""
    lr_warmup_steps: int = 200
    """Steps of linear warm-up."""
    adam_beta2: float = 0.98
    """Decay rate of AdamW's mean of squared gradients."""
    checkpointing_steps: int = 500
    """Steps between checkpoints."""

    weighting_scheme: Literal["logit_normal", "mode", "none"] = "logit_normal"
    """Distribution of noise levels; see `compute_density_for_timestep_sampling`."""
    logit_mean: float = 1.0
    """Mean of `logit_normal`; above 0, high noise is more frequent, where the latent of a network is decided."""
    logit_std: float = 1.3
    """Standard deviation of `logit_normal`."""
    mode_scale: float = 1.29
    """Scale of `mode`: 0 is uniform, larger values favour the middle."""
    scheduler_shift: float = 3.0
    """Shift of the sampler's noise levels towards high noise."""
    architecture_loss_weight: float = 0.2
    """Weight of the cross entropy on masked architecture tokens."""
    bias_loss_weight: float = 0.3
    """Weight of a layer's biases in its loss, relative to the weights of that layer."""
    task_dropout: float = 0.1
    """Fraction of the networks of several tasks that are trained as those of any task, which guidance needs."""
    masked_architecture_fraction: float = 0.15
    """Fraction of the networks whose architecture is masked as well, with its own time."""
    function_loss_weight: float = 0.0
    """Weight of the function loss, the error of the outputs of predicted networks; needs the task's training data."""
    task_loss_weight: float = 0.0
    """Weight of the task's own loss, as predicted networks have it; needs the task's training data."""
    function_batch_size: int = 128
    """Inputs that predicted networks are run on for these two losses."""
    one_step_loss_weight: float = 0.0
    """Weight of the loss of networks that are generated in one step, with the two losses above; needs a pretrained
    transformer, whose few steps it learns to do at once."""

    patch_size: int = 8
    """Side of a patch of weights."""
    num_layers: int = 6
    """Blocks of the transformer."""
    num_attention_heads: int = 4
    """Attention heads of a block."""
    attention_head_dim: int = 52
    """Width of an attention head."""
    dataloader_num_workers: int = 0
    """Threads that prepare batches ahead of the training step; any number gives the same batches."""
