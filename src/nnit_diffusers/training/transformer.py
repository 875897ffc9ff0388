"""Trains the NNiT transformer on an endless stream of GHN networks, or on a weight dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate.logging import get_logger
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling

from ..data import GHNWeightStream, WeightDataset, measure_alignment
from ..evaluation import evaluate
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.patches import WeightPatchBatch
from ..models.transformer_nnit import NNiTTransformer
from ..models.weight_patch_tokenizer import WeightPatchTokenizer
from ..pipelines import NNiTPipeline
from ..schedulers import NNiTArchitectureScheduler
from ..tasks.base import Task, output_settings
from ..tasks.contracts import contract_of
from .checkpoints import find_checkpoints
from .config import NNiTTrainingConfig
from .generator_trainer import VALIDATION_STREAM
from .one_step import OneStepTeacher, check_teacher, predict_in_one_step
from .optimizer import Muon
from .randomness import step_generator
from .samples import TaskSamples, draw_labels, draw_samples, drop_labels
from .trainer import StepCallback, Trainer
from .transformer_losses import (
    MAX_FUNCTION_SIGMA,
    NoisedBatch,
    OutputLosses,
    add_noise,
    architecture_loss,
    element_weights,
    losses_of_outputs,
    patch_losses,
    predict,
)


logger = get_logger(__name__)

# Batches for the tokenizer's statistics, and their random stream.
STATISTICS_BATCHES, STATISTICS_STREAM = 16, 1
# Networks of each architecture that are scored in validation.
VALIDATION_NETWORKS = 2
MUON_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}
# Networks of one architecture that the alignment of a dataset is measured on.
ALIGNMENT_NETWORKS = 4
# Relative to the task's standard deviations: statistics of the same data, computed elsewhere, differ by less.
STATISTICS_TOLERANCE = 0.1


class NNiTBatch(NamedTuple):
    """A micro-step: noised networks and architecture-only samples, raw inputs with targets where networks are run, and
    noise `[B, P, p * p]` where they are generated in one step."""

    noised: NoisedBatch
    samples: TaskSamples | None
    noise: torch.Tensor | None


def check_statistics(task: Task, ghn: GraphHyperNetwork) -> None:
    """Raises `ValueError` if a GHN was trained on inputs of other statistics than the task has now.

    Weights are standardised by the task's statistics. With those of other data they would compute something else.
    """
    names = list(ghn.config.task_names or ())
    if names != list(task.task_names):
        raise ValueError(f"`ghn` must have the tasks {list(task.task_names)}, but received {names}.")
    if ghn.config.observation_mean is None:
        return
    std = task.observation_std
    mean_error = ((torch.tensor(ghn.config.observation_mean) - task.observation_mean) / std).abs().max().item()
    std_error = (torch.tensor(ghn.config.observation_std) / std - 1).abs().max().item()
    if max(mean_error, std_error) > STATISTICS_TOLERANCE:
        raise ValueError(
            f"`ghn` must have the observation statistics of task {task.name!r}, but its means differ by up to "
            f"{mean_error:.3g} standard deviations and its standard deviations by up to {std_error:.1%}. It was "
            "trained on other data, such as other demonstrations."
        )


def warn_unless_aligned(dataset: WeightDataset, task: Task) -> None:
    """Warns if hidden units of the networks are in different orders, as those of networks trained apart are.

    It is measured on the architecture with the most networks. Without two networks of one architecture, nothing is.
    """
    (architecture, count), *_ = Counter(dataset.architectures).most_common(1)
    if count < 2:
        return
    indices = [index for index, other in enumerate(dataset.architectures) if other == architecture]
    statistics = (task.observation_mean.tolist(), task.observation_std.tolist())
    alignment = measure_alignment(dataset.state_dicts(indices[:ALIGNMENT_NETWORKS]), statistics)
    if not alignment.is_aligned:
        logger.warning(
            f"The networks of the dataset are not aligned: the cosine similarity of {architecture} networks is "
            f"{alignment.before:.2f}, and {alignment.after:.2f} once hidden units are matched. A transformer hardly "
            "learns such weights. Build the dataset with `--match_weights`, or train on a GHN."
        )


class NNiTTrainer(Trainer[NNiTTrainingConfig, NNiTBatch]):
    """Trains the transformer to predict clean patches from noised ones, and masked architecture tokens.

    Parameters:
        task (`Task`): The task that networks are generated for.
        source (`GraphHyperNetwork`, `str` or `Path`): A GHN to draw networks from, or the name of a weight dataset.
        config (`NNiTTrainingConfig`): Settings of the run.
        output_dir (`str` or `Path`): Folder of checkpoints, logs, the record and the pipeline (`pipeline/`).
        pretrained (`NNiTTransformer`, *optional*): Transformer to begin with; freshly initialised by default.
        include_ghn (`bool`, defaults to `True`): Save the GHN as the pipeline's optional component.
        on_step (`StepCallback`, *optional*): Called after every step.
    """

    model_name = "transformer"
    trained: NNiTTransformer
    run_name, result_name = "train_nnit", "pipeline"

    def __init__(
        self,
        task: Task,
        source: GraphHyperNetwork | str | Path,
        config: NNiTTrainingConfig,
        output_dir: str | Path,
        pretrained: NNiTTransformer | None = None,
        include_ghn: bool = True,
        on_step: StepCallback | None = None,
    ) -> None:
        if isinstance(source, GraphHyperNetwork):
            check_statistics(task, source)
        self._resumed = find_checkpoints(Path(output_dir), config.resume_from_checkpoint)
        check_teacher(config, pretrained is not None or bool(self._resumed))
        self._source, self._pretrained, self._include_ghn = source, pretrained, include_ghn
        super().__init__(task, config, output_dir, on_step)

    def create_model(self) -> NNiTTransformer:
        """The transformer, within the pipeline that is saved in the end."""
        task, config = self.task, self.config
        self.source = self._open_source()
        self.tokenizer = self._create_tokenizer()
        self.pipeline = NNiTPipeline(
            transformer=self._create_transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=config.scheduler_shift),
            architecture_scheduler=NNiTArchitectureScheduler(),
            tokenizer=self.tokenizer,
            ghn=self.source.ghn if self._include_ghn and isinstance(self.source, GHNWeightStream) else None,
            min_width=task.min_width,
            min_depth=task.min_depth,
            max_depth=task.max_depth,
        )
        self.pipeline.contracts = {
            name: contract_of(task.subtask(label)) for label, name in enumerate(task.task_names)
        }
        self.teacher: OneStepTeacher | None = None
        if config.one_step_loss_weight:
            self.teacher = OneStepTeacher.of_run(self.pipeline, self.output_dir, self._resumed, self.accelerator)
        return self.pipeline.transformer

    @property
    def outputs(self) -> OutputLosses:
        """What losses of the outputs of predicted networks need."""
        config = self.config
        return OutputLosses(
            self.task, self.tokenizer, bool(config.function_loss_weight), bool(config.task_loss_weight)
        )

    def element_weights(self, batch: WeightPatchBatch) -> torch.Tensor:
        """Weights `[B, P, p * p]` of the squared errors of patches."""
        return element_weights(batch, self.config.bias_loss_weight)

    def _open_source(self) -> GHNWeightStream | WeightDataset:
        """Source of training networks."""
        task, config = self.task, self.config
        if isinstance(self._source, GraphHyperNetwork):
            stream = GHNWeightStream(
                self._source, task.regions, config.latents_per_architecture, config.narrow_fraction, config.patch_size
            )
            stream.ghn.to(self.accelerator.device)
            return stream
        # what users bring is what is trained on, whatever its region
        return WeightDataset(self._source, region=None, patch_size=config.patch_size)

    def _create_tokenizer(self) -> WeightPatchTokenizer:
        """A tokenizer whose scales fit networks of the source.

        Raises:
            `ValueError`: If the source is a dataset with a network that the tokenizer cannot encode.
        """
        task, config = self.task, self.config
        tokenizer = WeightPatchTokenizer(
            in_features=task.in_features,
            out_features=task.out_features,
            activation=task.activation,
            patch_size=config.patch_size,
            max_depth=task.max_depth + 1,
            observation_mean=task.observation_mean.tolist(),
            observation_std=task.observation_std.tolist(),
            **output_settings(task),
        )
        if isinstance(self.source, WeightDataset):
            for architecture in set(self.source.architectures):
                tokenizer.check_architecture(architecture)
            warn_unless_aligned(self.source, task)
        # scales of the patches
        generators = [
            step_generator(config.seed, index, stream=STATISTICS_STREAM) for index in range(STATISTICS_BATCHES)
        ]
        drawn = (self.source.networks(config.train_batch_size, generator) for generator in generators)
        return tokenizer.with_scales_of(tokenizer.encode_state_dicts(*networks) for networks in drawn)

    def _create_transformer(self) -> NNiTTransformer:
        """The transformer to begin with: the pretrained one, otherwise one for the task's architectures."""
        task, config, transformer = self.task, self.config, self._pretrained
        if transformer is None:
            transformer = NNiTTransformer(
                in_features=task.in_features,
                out_features=task.out_features,
                max_width=task.max_width,
                max_depth=task.max_depth + 1,
                patch_size=config.patch_size,
                num_layers=config.num_layers,
                num_attention_heads=config.num_attention_heads,
                attention_head_dim=config.attention_head_dim,
                **({"task_names": list(task.task_names)} if task.task_names else {}),
            )
        elif transformer.config.patch_size != config.patch_size:
            raise ValueError(
                f"`patch_size` must be {transformer.config.patch_size}, that of the pretrained transformer, but "
                f"received {config.patch_size}."
            )
        if config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        return transformer

    def create_optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        if config.optimizer == "adamw":
            return super().create_optimizer()
        dtype = MUON_DTYPES[config.muon_precision]
        return Muon(self.trained, muon_lr=config.muon_learning_rate, muon_dtype=dtype, **self.adam_options)

    def prepare_batch(self, generator: torch.Generator) -> NNiTBatch:
        """Clean networks, architecture-only samples and inputs; then noise levels, noise and masks."""
        config, tokenizer = self.config, self.tokenizer
        # draw networks, architectures and inputs
        batch = tokenizer.encode_state_dicts(*self.source.networks(config.train_batch_size, generator))
        architectures = self.task.regions.sample("seen", config.architecture_batch_size, generator)
        tokens = torch.tensor([architecture.tokens(tokenizer.config.max_depth) for architecture in architectures])
        samples = None
        if config.function_loss_weight or config.task_loss_weight:
            samples = draw_samples(self.task, batch.task_labels, config.function_batch_size, generator)
        # noise patches and mask tokens
        sigmas = compute_density_for_timestep_sampling(
            config.weighting_scheme,
            len(batch.architectures),
            logit_mean=config.logit_mean,
            logit_std=config.logit_std,
            mode_scale=config.mode_scale,
            generator=generator,
        )
        scheduler = self.pipeline.architecture_scheduler
        noised = add_noise(batch, tokens, sigmas, scheduler, config.masked_architecture_fraction, generator)
        num_tasks = len(self.task.task_names)
        noised.sample_labels = draw_labels(self.task, len(tokens), generator)
        noised.task_labels, noised.sample_labels = (
            drop_labels(labels, num_tasks, config.task_dropout, generator)
            for labels in (batch.task_labels, noised.sample_labels)
        )
        noise = None
        if self.teacher is not None:
            noise = torch.randn(batch.patches.shape, generator=generator).to(batch.patches) * batch.element_mask
        return NNiTBatch(noised, samples, noise)

    def counts(self, batch: NNiTBatch) -> dict[str, float]:
        noised = batch.noised
        return {
            "networks": float(len(noised.sigmas)),
            "masked": float((noised.noisy_tokens != noised.clean.architecture_tokens).sum()),
            "sample_masked": float((noised.noisy_samples != noised.sample_tokens).sum()),
            "decided": float((noised.sigmas < MAX_FUNCTION_SIGMA).sum()),
        }

    def losses(self, batch: NNiTBatch, counts: dict[str, float]) -> dict[str, torch.Tensor]:
        noised = batch.noised.to(self.accelerator.device)
        prediction = predict(self.model, noised)
        # clean patches, weighted as velocities, and masked tokens
        patches = patch_losses(prediction.patches, noised, self.element_weights(noised.clean)).sum()
        masked = architecture_loss(prediction.logits, noised.clean.architecture_tokens, noised.noisy_tokens)
        samples = architecture_loss(prediction.sample_logits, noised.sample_tokens, noised.noisy_samples)
        losses = {
            "patches": patches / counts["networks"],
            "architecture": masked / counts["masked"] + samples / counts["sample_masked"],
        }
        clean, device = noised.clean, self.accelerator.device
        if batch.samples is not None:
            # of those that their noised patches determine
            decided = (noised.sigmas < MAX_FUNCTION_SIGMA).nonzero().flatten()
            summed = losses_of_outputs(prediction.patches, clean, decided.tolist(), batch.samples, self.outputs)
            losses |= {name: loss / counts["decided"] for name, loss in summed.items()}
        if self.teacher is not None and batch.noise is not None:
            losses["one_step"] = self._one_step_loss(self.teacher, batch.noise.to(device), clean, batch.samples)
            losses["one_step"] = losses["one_step"] / counts["networks"]
        return losses

    def _one_step_loss(
        self,
        teacher: OneStepTeacher,
        noise: torch.Tensor,
        batch: WeightPatchBatch,
        samples: TaskSamples | None,
    ) -> torch.Tensor:
        """Summed loss of networks generated in one step: their patches, and what they compute."""
        taught = replace(batch, patches=teacher(noise, batch))
        patches = predict_in_one_step(self.model, noise, batch)
        squared_errors = (patches.float() - taught.patches).square()
        losses = {"patches": (squared_errors * self.element_weights(batch)).sum()}
        if samples is not None:
            losses |= losses_of_outputs(patches, taught, list(range(len(patches))), samples, self.outputs)
        return self.total_loss(losses)

    def total_loss(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        config = self.config
        weights = {
            "patches": 1.0,
            "architecture": config.architecture_loss_weight,
            "function": config.function_loss_weight,
            "task": config.task_loss_weight,
            "one_step": config.one_step_loss_weight,
        }
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean score on fixed architectures of every region in the grid, and with architectures left to the model."""
        config, pipeline, metrics = self.config, self.pipeline, {}
        pipeline.set_progress_bar_config(disable=True)
        for region in [*self.task.regions.within_grid, "unconditional"]:
            generator = step_generator(config.seed, 0, stream=VALIDATION_STREAM)
            if region == "unconditional":
                output = pipeline(num_networks=config.validation_architectures, generator=generator)
            else:
                architectures = self.task.regions.sample(region, config.validation_architectures, generator)
                output = pipeline(arch=architectures, num_networks=VALIDATION_NETWORKS, generator=generator)
            results = evaluate(output.networks, self.task, split="validation", num_episodes=config.validation_episodes)
            metrics[f"validation/{region}"] = sum(result.score for result in results) / len(results)
        return metrics

    def save(self, folder: Path) -> None:
        self.pipeline.save_pretrained(folder)


def train_nnit(
    task: Task,
    source: GraphHyperNetwork | str | Path,
    config: NNiTTrainingConfig | None = None,
    output_dir: str | Path = "outputs/nnit",
    *,
    pretrained: NNiTTransformer | None = None,
    include_ghn: bool = True,
    on_step: StepCallback | None = None,
) -> NNiTPipeline:
    """Trains the transformer, and returns the pipeline that generates networks.

    Every step draws networks, adds noise to their patches, and trains the transformer to predict the clean patches. In
    some networks the architecture is masked as well, with its own time. A second, cheap batch of architecture-only
    samples trains p(a), the distribution of architectures.

    Parameters:
        task (`Task`): What the networks are for; see [`get_task`].
        source (`GraphHyperNetwork`, `str` or `Path`): A GHN to draw networks from, or a weight dataset: a folder or a
            Hub repository.
        config (`NNiTTrainingConfig`, *optional*): Settings of the run.
        output_dir (`str` or `Path`): Folder of checkpoints, logs, the record and the pipeline (`pipeline/`).
        pretrained (`NNiTTransformer`, *optional*): Transformer to begin with; freshly initialised by default.
        include_ghn (`bool`, defaults to `True`): Save the GHN as the pipeline's optional component.
        on_step (`StepCallback`, *optional*): Called after every step; without it, a progress bar is shown.

    Returns:
        `NNiTPipeline`: With averaged weights if `config.use_ema`.

    Raises:
        `ValueError`: If a setting is out of range, the source is of another task or other data, or `output_dir` holds
            another run.
        `OSError`: If a checkpoint cannot be written.
        `FloatingPointError`: If the loss is no longer finite.
    """
    trainer = NNiTTrainer(task, source, config or NNiTTrainingConfig(), output_dir, pretrained, include_ghn, on_step)
    trainer.run()
    trainer.trained.eval()
    return trainer.pipeline
