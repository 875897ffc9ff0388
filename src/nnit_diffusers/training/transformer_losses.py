"""Losses of the transformer: it learns to predict clean patches, and architecture tokens where they are masked.

Shape legend: B networks, P patches, p side of a patch, S slots for hidden layers, V architecture vocabulary, M
architecture-only samples, N inputs, I/O input and output features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..architecture import MLPArchitecture
from ..flow import NUM_TRAIN_TIMESTEPS, interpolate, timestep_of, velocity_weight
from ..models.patches import BIAS_PATCH, WeightPatchBatch, computing_dtype, group_by_architecture
from ..models.weight_patch_tokenizer import WeightPatchTokenizer
from ..network_batch import batched_forward
from ..schedulers import NNiTArchitectureScheduler
from ..tasks.base import Task
from .samples import TaskSamples


# Below this noise level, the noised patches determine the network. Above it, the best prediction is the mean of
# several networks. Training that mean to compute what one of them computes would make all networks alike. In one
# step, a teacher decides for one of them, see `one_step.py`.
MAX_FUNCTION_SIGMA = 0.7
# Minimum output variance that errors are divided by: a network with constant outputs has none.
MIN_VARIANCE = 1e-8


@dataclass
class NoisedBatch:
    """Clean networks and all that was drawn to noise them.

    Attributes:
        clean (`WeightPatchBatch`): B clean networks.
        patches (`torch.Tensor`): `[B, P, p * p]`, their patches at the noise levels `sigmas`.
        sigmas (`torch.Tensor`): `[B]`, noise levels of the patches, 0…1.
        noisy_tokens (`torch.Tensor`): `[B, S]`, their architecture tokens at the times `times`.
        times (`torch.Tensor`): `[B]`, times of the architectures, 0 (all known) to 1 (all masked).
        sample_tokens, noisy_samples, sample_times (`torch.Tensor`): `[M, S]`, `[M, S]`, `[M]`, the same of
            architecture-only samples.
        task_labels, sample_labels (`torch.Tensor`, *optional*): `[B]`, `[M]`, their tasks, as the model gets them.
    """

    clean: WeightPatchBatch
    patches: torch.Tensor
    sigmas: torch.Tensor
    noisy_tokens: torch.Tensor
    times: torch.Tensor
    sample_tokens: torch.Tensor
    noisy_samples: torch.Tensor
    sample_times: torch.Tensor
    task_labels: torch.Tensor | None = None
    sample_labels: torch.Tensor | None = None

    def to(self, device: torch.device) -> NoisedBatch:
        """All of it on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return NoisedBatch(**moved)


def add_noise(
    batch: WeightPatchBatch,
    sample_tokens: torch.Tensor,
    sigmas: torch.Tensor,
    scheduler: NNiTArchitectureScheduler,
    masked_fraction: float,
    generator: torch.Generator,
) -> NoisedBatch:
    """Noises patches and masks architectures, all on the device of the patches.

    Everything random is drawn on the CPU, so that a seed gives the same noise on every device.

    Parameters:
        batch (`WeightPatchBatch`): B clean networks.
        sample_tokens (`torch.Tensor`): `[M, S]`, tokens of architectures without patches, on the CPU.
        sigmas (`torch.Tensor`): `[B]`, noise levels of the patches.
        scheduler (`NNiTArchitectureScheduler`): Masks architectures.
        masked_fraction (`float`): Fraction of the networks whose architecture is masked as well, with its own time.
        generator (`torch.Generator`): Source of randomness, on the CPU.
    """
    device, (num_networks, num_slots) = batch.patches.device, batch.architecture_tokens.shape

    def mask(tokens: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return scheduler.add_noise(tokens, times * scheduler.config.num_train_timesteps, generator=generator)

    # patches
    noise = torch.randn(batch.patches.shape, generator=generator).to(device) * batch.element_mask
    sigmas = sigmas.to(device)
    patches = interpolate(batch.patches, noise, sigmas[:, None, None])
    # architectures of some networks, each with its own time
    is_masked = torch.rand(num_networks, generator=generator) < masked_fraction
    times = torch.rand(num_networks, generator=generator) * is_masked
    # Not the tokens of the batch, which would have to come back from the device.
    tokens = torch.tensor([architecture.tokens(num_slots) for architecture in batch.architectures])
    noisy_tokens = mask(tokens, times)
    # architecture-only samples, with evenly spread times
    num_samples = len(sample_tokens)
    sample_times = (torch.arange(num_samples) + torch.rand(1, generator=generator)) / num_samples
    noisy_samples = mask(sample_tokens, sample_times)
    noised = NoisedBatch(batch, patches, sigmas, noisy_tokens, times, sample_tokens, noisy_samples, sample_times)
    return noised.to(device)


class Prediction(NamedTuple):
    """What the transformer predicts: `[B, P, p * p]` clean patches, `[B, S, V]` and `[M, S, V]` logits of tokens."""

    patches: torch.Tensor
    logits: torch.Tensor
    sample_logits: torch.Tensor


def predict(model: torch.nn.Module, noised: NoisedBatch) -> Prediction:
    """Clean patches and masked tokens of networks, and masked tokens of architecture-only samples."""
    clean = noised.clean
    # As tuples: accelerate converts mixed-precision outputs to float32, and cannot rebuild an output class.
    patches, logits = model(
        noised.patches,
        timestep_of(noised.sigmas),
        noised.noisy_tokens,
        timestep_of(noised.times),
        clean.positions,
        attention_mask=clean.attention_mask,
        task_labels=noised.task_labels,
        return_dict=False,
    )
    # without patches, at the highest noise level
    num_samples = len(noised.sample_tokens)
    _, sample_logits = model(
        clean.patches.new_zeros(num_samples, 0, clean.patches.shape[-1]),
        torch.full((num_samples,), float(NUM_TRAIN_TIMESTEPS), device=clean.patches.device),
        noised.noisy_samples,
        timestep_of(noised.sample_times),
        clean.positions.new_zeros(num_samples, 0, clean.positions.shape[-1]),
        task_labels=noised.sample_labels,
        return_dict=False,
    )
    return Prediction(patches, logits, sample_logits)


def element_weights(batch: WeightPatchBatch, bias_weight: float) -> torch.Tensor:
    """Weights of the squared error, `[B, P, p * p]`: all layers of a network count equally, and the sum is 1.

    Within a layer, all biases together count `bias_weight` times as much as all weights together.
    """
    # group elements by layer, weights and biases apart
    is_bias = (batch.positions[..., 0] == BIAS_PATCH).long()
    group = 2 * batch.positions[..., 1] + is_bias
    per_patch = batch.element_mask.sum(dim=-1).float()
    depths = [architecture.depth for architecture in batch.architectures]
    per_group = torch.zeros(len(group), 2 * (max(depths) + 1), device=group.device).scatter_add_(1, group, per_patch)
    # share of each element in its group, and of each group in its network
    weights = (1 - (1 - bias_weight) * is_bias) / per_group.gather(1, group).clamp(min=1)
    num_layers = torch.tensor(depths, device=group.device) + 1
    return batch.element_mask * (weights / (1 + bias_weight) / num_layers[:, None])[..., None]


def patch_losses(predicted: torch.Tensor, noised: NoisedBatch, weights: torch.Tensor) -> torch.Tensor:
    """Loss `[B]` of predicted clean patches: the squared error of velocities, `|x - x_0|^2 / sigma^2`.

    Parameters:
        predicted (`torch.Tensor`): `[B, P, p * p]`.
        noised (`NoisedBatch`): What they were predicted from.
        weights (`torch.Tensor`): Weights of the squared errors, `[B, P, p * p]`; see [`element_weights`].
    """
    squared_error = (predicted.float() - noised.clean.patches).square() * weights
    return squared_error.sum(dim=(1, 2)) * velocity_weight(noised.sigmas)


def architecture_loss(logits: torch.Tensor, tokens: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """Summed cross entropy of logits `[B, S, V]` on tokens `[B, S]` that are masked in `noisy`; 0 if none is."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none")
    return (losses * (noisy != tokens).flatten()).sum()


def function_errors(
    predicted: torch.Tensor,
    clean: torch.Tensor,
    architectures: Sequence[MLPArchitecture],
    tokenizer: WeightPatchTokenizer,
    inputs: torch.Tensor,
) -> torch.Tensor:
    """Error of the outputs of predicted networks, relative to the clean networks: `[B]`.

    This is the mean squared difference of the outputs, divided by the variance of the clean network's outputs. Equal
    outputs give 0. A predicted network with constant outputs at the mean gives 1.

    Parameters:
        predicted, clean (`torch.Tensor`): Patches of both, `[B, P, p * p]`.
        architectures (`Sequence[MLPArchitecture]`): The B architectures.
        tokenizer (`WeightPatchTokenizer`): Decodes patches into networks.
        inputs (`torch.Tensor`): `[N, I]`, raw inputs, the same for every network.
    """
    errors = predicted.new_zeros(len(architectures))
    # in units of their spread, so that all outputs count alike
    std_O = 1.0 if tokenizer.config.output_std is None else inputs.new_tensor(tokenizer.config.output_std)
    for architecture, indices in group_by_architecture(architectures).items():
        predicted_BNO, clean_BNO = (
            raw_outputs(patches[indices], architecture, tokenizer, inputs) / std_O for patches in (predicted, clean)
        )
        squared_errors_B = (predicted_BNO - clean_BNO).square().mean(dim=(1, 2))
        variances_B = clean_BNO.var(dim=1, correction=0).mean(dim=1)
        errors[indices] = squared_errors_B / variances_B.clamp(min=MIN_VARIANCE)
    return errors


def task_losses(
    predicted: torch.Tensor,
    architectures: Sequence[MLPArchitecture],
    tokenizer: WeightPatchTokenizer,
    task: Task,
    inputs: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """The task's own loss of predicted networks, `[B]`.

    Parameters:
        predicted (`torch.Tensor`): Their patches, `[B, P, p * p]`.
        architectures (`Sequence[MLPArchitecture]`): The B architectures.
        tokenizer (`WeightPatchTokenizer`): Decodes patches into networks.
        task (`Task`): Its loss is computed.
        inputs (`torch.Tensor`): `[N, I]`, raw inputs, the same for every network.
        targets (`torch.Tensor`): Their targets for [`Task.loss`].
    """
    losses = predicted.new_zeros(len(architectures))
    for architecture, indices in group_by_architecture(architectures).items():
        outputs_BNO = raw_outputs(predicted[indices], architecture, tokenizer, inputs)
        losses[indices] = task.loss(outputs_BNO, targets).to(losses)
    return losses


class OutputLosses(NamedTuple):
    """Which losses of what predicted networks compute are wanted, and what they are computed with."""

    task: Task
    tokenizer: WeightPatchTokenizer
    function: bool
    own: bool


def losses_of_outputs(
    patches: torch.Tensor, clean: WeightPatchBatch, members: Sequence[int], samples: TaskSamples, wanted: OutputLosses
) -> dict[str, torch.Tensor]:
    """Summed losses of what some predicted networks of a batch compute, each on the samples of its task.

    Parameters:
        patches (`torch.Tensor`): `[B, P, p * p]`, predicted.
        clean (`WeightPatchBatch`): The clean networks.
        members (`Sequence[int]`): Indices of the networks that count.
        samples (`TaskSamples`): Raw inputs and targets.
        wanted (`OutputLosses`): The losses `"function"`, see [`function_errors`], and `"task"`, see [`task_losses`].
    """
    task, tokenizer = wanted.task, wanted.tokenizer
    names = [name for name, is_wanted in (("function", wanted.function), ("task", wanted.own)) if is_wanted]
    losses = {name: patches.new_zeros((), dtype=torch.float32) for name in names}
    labels = [None] * len(clean.architectures) if clean.task_labels is None else clean.task_labels.tolist()
    # in full precision, as the networks will run: rounding errors would be as large as the remaining error
    with torch.autocast(patches.device.type, enabled=False):
        for label in dict.fromkeys(labels[member] for member in members):
            of_task = [member for member in members if labels[member] == label]
            architectures = [clean.architectures[member] for member in of_task]
            inputs, targets = (tensor.to(patches.device) for tensor in samples.of(label))
            predicted, true = patches[of_task].float(), clean.patches[of_task]
            if wanted.function:
                losses["function"] += function_errors(predicted, true, architectures, tokenizer, inputs).sum()
            if wanted.own:
                losses["task"] += task_losses(predicted, architectures, tokenizer, task, inputs, targets).sum()
    return losses


def raw_outputs(
    patches: torch.Tensor, architecture: MLPArchitecture, tokenizer: WeightPatchTokenizer, inputs: torch.Tensor
) -> torch.Tensor:
    """Raw outputs `[B, N, O]` on raw inputs `[N, I]` of B networks of one architecture, from their patches."""
    precise = patches.to(computing_dtype(patches, torch.float32))
    stacked = {key: tensor.float() for key, tensor in tokenizer.decode_stacked(precise, architecture).items()}
    return batched_forward(stacked, inputs, architecture.activation)
