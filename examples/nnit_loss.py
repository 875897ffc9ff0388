"""Losses of the transformer: it learns to predict clean patches, and architecture tokens where they are masked.

Shape legend: B networks, P patches, p side of a patch, S slots for hidden layers, V architecture vocabulary, N inputs,
I/O input and output features.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from nnit_diffusers import MLPArchitecture, NNiTArchitectureScheduler, WeightPatchTokenizer
from nnit_diffusers.models.weight_patch_tokenizer import BIAS_PATCH, WeightPatchBatch, group_by_architecture
from nnit_diffusers.networks import batched_forward, stack_state_dicts


# Below this noise level, the weight of the velocity loss, 1 / sigma^2, is constant.
MIN_SIGMA = 0.1
# Below this noise level, the noised patches determine the network. Above it, the best prediction is the mean of
# several networks. Training that mean to compute what one of them computes would make all networks alike.
MAX_FUNCTION_SIGMA = 0.7
# Minimum output variance that errors are divided by: a network with constant outputs has none.
MIN_VARIANCE = 1e-8


def element_weights(batch: WeightPatchBatch, bias_weight: float) -> torch.Tensor:
    """Weights of the squared error, `[B, P, p * p]`: all layers of a network count equally, and the sum is 1.

    Within a layer, all biases together count `bias_weight` times as much as all weights together.
    """
    # group elements by layer, weights and biases apart
    is_bias = (batch.positions[..., 0] == BIAS_PATCH).long()
    group = 2 * batch.positions[..., 1] + is_bias
    per_patch = batch.element_mask.sum(dim=-1).float()
    per_group = torch.zeros(len(group), int(group.max()) + 1, device=group.device).scatter_add_(1, group, per_patch)
    # share of each element in its group, and of each group in its network
    weights = (1 - (1 - bias_weight) * is_bias) / per_group.gather(1, group).clamp(min=1)
    num_layers = torch.tensor([architecture.depth + 1 for architecture in batch.architectures], device=group.device)
    return batch.element_mask * (weights / (1 + bias_weight) / num_layers[:, None])[..., None]


def mask_tokens(
    tokens: torch.Tensor, times: torch.Tensor, scheduler: NNiTArchitectureScheduler, generator: torch.Generator
) -> torch.Tensor:
    """Architecture tokens `[B, S]`, masked for times `[B]` in 0…1."""
    noisy = scheduler.add_noise(tokens.cpu(), times * scheduler.config.num_train_timesteps, generator=generator)
    return noisy.to(tokens.device)


def masked_cross_entropy(logits: torch.Tensor, tokens: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of logits `[B, S, V]` on tokens `[B, S]` that are masked in `noisy`; 0 if none is."""
    is_masked = noisy != tokens
    losses = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none")
    return (losses * is_masked.flatten()).sum() / is_masked.sum().clamp(min=1)


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
    networks = [tokenizer.decode(patches, architectures) for patches in (predicted, clean)]
    errors = predicted.new_zeros(len(architectures))
    # run the networks of each architecture together
    for architecture, indices in group_by_architecture(architectures).items():
        predicted_BNO, clean_BNO = (
            batched_forward(stack_state_dicts([of[index] for index in indices]), inputs, architecture.activation)
            for of in networks
        )
        squared_errors_B = (predicted_BNO - clean_BNO).square().mean(dim=(1, 2))
        variances_B = clean_BNO.var(dim=1, correction=0).mean(dim=1)
        errors[indices] = squared_errors_B / variances_B.clamp(min=MIN_VARIANCE)
    return errors


def training_losses(
    model: torch.nn.Module,
    batch: WeightPatchBatch,
    architecture_only_tokens: torch.Tensor,
    sigmas: torch.Tensor,
    scheduler: NNiTArchitectureScheduler,
    masked_fraction: float,
    bias_weight: float,
    generator: torch.Generator,
    tokenizer: WeightPatchTokenizer | None = None,
    inputs: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Losses of one micro-step, with noise and masks from the CPU generator `generator`.

    Parameters:
        batch (`WeightPatchBatch`): B clean networks.
        architecture_only_tokens (`torch.Tensor`): Tokens of architectures without patches.
        sigmas (`torch.Tensor`): `[B]`, noise levels of the patches.
        scheduler (`NNiTArchitectureScheduler`): Masks architectures.
        masked_fraction (`float`): Fraction of the networks whose architecture is masked as well, with its own time.
        bias_weight (`float`): Weight of a layer's biases, relative to its weights.
        tokenizer (`WeightPatchTokenizer`, *optional*): Decodes patches into networks; needed with `inputs`.
        inputs (`torch.Tensor`, *optional*): `[N, I]`, raw inputs that predicted networks are run on.

    Returns:
        `dict[str, torch.Tensor]`:
            `patches`, weighted as velocities; `architecture`, the sum of the losses with and without patches; with
            `inputs`, also `function`, the mean [`function_errors`] of networks below `MAX_FUNCTION_SIGMA`.
    """
    device, num_networks = batch.patches.device, len(batch.architectures)
    # noise patches and mask some architectures
    noise = torch.randn(batch.patches.shape, generator=generator).to(device) * batch.element_mask
    sigmas_B11 = sigmas[:, None, None]
    noisy = (1 - sigmas_B11) * batch.patches + sigmas_B11 * noise
    is_masked = torch.rand(num_networks, generator=generator) < masked_fraction
    times = torch.rand(num_networks, generator=generator) * is_masked
    tokens = batch.architecture_tokens
    noisy_tokens = mask_tokens(tokens, times, scheduler, generator)
    # predict clean patches and masked tokens
    # As tuples: accelerate converts mixed-precision outputs to float32, and cannot rebuild an output class.
    sample, logits = model(
        noisy,
        1000 * sigmas,
        noisy_tokens,
        1000 * times.to(device),
        batch.positions,
        attention_mask=batch.attention_mask,
        return_dict=False,
    )
    squared_error = (sample.float() - batch.patches).square() * element_weights(batch, bias_weight)
    per_network = squared_error.sum(dim=(1, 2)) / sigmas.clamp(min=MIN_SIGMA).square()

    # predict masked tokens of architecture-only samples, with evenly spread times
    num_samples = len(architecture_only_tokens)
    sample_times = (torch.arange(num_samples) + torch.rand(1, generator=generator)) / num_samples
    noisy_samples = mask_tokens(architecture_only_tokens, sample_times, scheduler, generator)
    _, sample_logits = model(
        batch.patches.new_zeros(num_samples, 0, batch.patches.shape[-1]),
        torch.full((num_samples,), 1000.0, device=device),
        noisy_samples,
        1000 * sample_times.to(device),
        batch.positions.new_zeros(num_samples, 0, batch.positions.shape[-1]),
        return_dict=False,
    )
    losses = {
        "patches": per_network.mean(),
        "architecture": masked_cross_entropy(logits, tokens, noisy_tokens)
        + masked_cross_entropy(sample_logits, architecture_only_tokens, noisy_samples),
    }
    # compare outputs where the network is determined
    if inputs is not None:
        decided = (sigmas < MAX_FUNCTION_SIGMA).nonzero().flatten().tolist()
        architectures = [batch.architectures[index] for index in decided]
        # In full precision, as the networks will run: rounding errors would be as large as the remaining error.
        with torch.autocast(device.type, enabled=False):
            errors = function_errors(sample[decided].float(), batch.patches[decided], architectures, tokenizer, inputs)
        losses["function"] = errors.sum() / max(len(decided), 1)
    return losses
