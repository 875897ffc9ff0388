import pytest
import torch

from nnit_diffusers import MLP, NNiTArchitectureScheduler, NNiTTransformer, WeightPatchTokenizer
from nnit_diffusers.architecture import MASK_TOKEN
from nnit_diffusers.models.patches import BIAS_PATCH
from nnit_diffusers.training.transformer_losses import (
    add_noise,
    architecture_loss,
    element_weights,
    function_errors,
    patch_losses,
    predict,
)


BIAS_WEIGHT = 0.4


@pytest.fixture(scope="module")
def tokenizer():
    statistics = {"observation_mean": [0.5, -2.0, 0.0, 1.0, 3.0], "observation_std": [1.0, 2.0, 0.5, 1.0, 4.0]}
    return WeightPatchTokenizer(5, 3, patch_size=4, **statistics)


@pytest.fixture(scope="module")
def batch(tokenizer):
    """Two networks of different depth, with random patches."""
    batch = tokenizer.layout([tokenizer.architecture([6]), tokenizer.architecture([9, 5, 7])])
    batch.patches = torch.randn(batch.patches.shape) * batch.element_mask
    return batch


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "num_attention_heads": 1, "attention_head_dim": 8}
    return NNiTTransformer(5, 3, max_width=12, patch_size=4, **sizes)


def noise(batch, masked_fraction=0.5, sigma=0.5, seed=0, sample_tokens=None):
    return add_noise(
        batch,
        batch.architecture_tokens if sample_tokens is None else sample_tokens,
        torch.full((len(batch.architectures),), sigma),
        NNiTArchitectureScheduler(),
        masked_fraction,
        torch.Generator().manual_seed(seed),
    )


def losses(model, noised):
    """Patch losses, and architecture losses of networks and of architecture-only samples."""
    prediction = predict(model, noised)
    return (
        patch_losses(prediction.patches, noised, element_weights(noised.clean, BIAS_WEIGHT)),
        architecture_loss(prediction.logits, noised.clean.architecture_tokens, noised.noisy_tokens),
        architecture_loss(prediction.sample_logits, noised.sample_tokens, noised.noisy_samples),
    )


def test_every_layer_has_the_same_weight_and_padding_none(batch):
    weights = element_weights(batch, BIAS_WEIGHT)
    assert not weights[~batch.element_mask].any()
    torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.ones(2))
    for network, architecture in enumerate(batch.architectures):
        kind, layer = batch.positions[network, :, 0], batch.positions[network, :, 1]
        exists = batch.attention_mask[network]
        for index in range(architecture.depth + 1):
            of_layer = weights[network, exists & (layer == index)].sum()
            of_bias = weights[network, exists & (layer == index) & (kind == BIAS_PATCH)].sum()
            assert of_layer.item() == pytest.approx(1 / (architecture.depth + 1))
            assert (of_bias / of_layer).item() == pytest.approx(BIAS_WEIGHT / (1 + BIAS_WEIGHT))


def test_as_many_tokens_are_masked_as_the_time_is_late(batch):
    tokens = batch.architecture_tokens[:1].expand(1000, -1)
    noised = noise(batch, sample_tokens=tokens)
    is_masked = (noised.noisy_samples == MASK_TOKEN).float().mean(dim=1)
    assert torch.equal(noised.sample_times, noised.sample_times.sort().values)
    for index, time in enumerate((0.1, 0.3, 0.5, 0.7, 0.9)):
        assert is_masked[200 * index : 200 * (index + 1)].mean().item() == pytest.approx(time, abs=0.06)


def test_the_cross_entropy_is_of_masked_tokens_only():
    logits, tokens = torch.randn(2, 3, 7), torch.tensor([[3, 4, 5], [6, 1, 1]])
    noisy = torch.tensor([[3, MASK_TOKEN, 5], [6, 1, MASK_TOKEN]])
    expected = -(logits[0, 1].log_softmax(-1)[4] + logits[1, 2].log_softmax(-1)[1])
    torch.testing.assert_close(architecture_loss(logits, tokens, noisy), expected)
    assert architecture_loss(logits, tokens, tokens) == 0


def test_the_patch_loss_is_the_weighted_error_of_the_prediction(batch, transformer):
    # no masks and no noise, so the input of the transformer is the batch itself
    sample = transformer(
        batch.patches,
        torch.zeros(2),
        batch.architecture_tokens,
        torch.zeros(2),
        batch.positions,
        attention_mask=batch.attention_mask,
    ).sample
    squared_error = (sample - batch.patches).square() * element_weights(batch, BIAS_WEIGHT)
    found, *_ = losses(transformer, noise(batch, masked_fraction=0.0, sigma=0.0))
    torch.testing.assert_close(found, squared_error.sum(dim=(1, 2)) / 0.1**2)


def test_noise_depends_only_on_the_generator(batch):
    assert torch.equal(noise(batch).patches, noise(batch).patches)
    assert not torch.equal(noise(batch).patches, noise(batch, seed=1).patches)


def test_every_parameter_has_a_gradient(batch, transformer):
    transformer.zero_grad()
    sum(part.sum() for part in losses(transformer, noise(batch))).backward()
    assert [name for name, parameter in transformer.named_parameters() if parameter.grad is None] == []


def test_networks_with_equal_outputs_have_no_function_error(batch, tokenizer):
    inputs = torch.randn(20, 5)
    errors = function_errors(batch.patches, batch.patches, batch.architectures, tokenizer, inputs)
    assert errors.tolist() == [0, 0]
    # padding does not count
    padded = batch.patches + 3.0 * ~batch.element_mask
    assert function_errors(padded, batch.patches, batch.architectures, tokenizer, inputs).tolist() == [0, 0]


def test_the_function_error_is_of_each_network_on_raw_inputs(tokenizer):
    """Architectures repeat and alternate; a network whose output is constant at the mean has an error of 1."""
    architectures = [tokenizer.architecture(sizes) for sizes in ([6], [9, 5, 7], [6], [9, 5, 7])]
    clean = [MLP.from_architecture(architecture) for architecture in architectures]
    predicted = [MLP.from_architecture(architecture) for architecture in architectures]
    inputs = torch.randn(20, 5)
    with torch.no_grad():
        for parameter in predicted[1].parameters():
            parameter.zero_()
        predicted[1][-1].bias.copy_(clean[1](inputs).mean(dim=0))
        expected = [
            ((ours(inputs) - theirs(inputs)).square().mean() / theirs(inputs).var(dim=0, correction=0).mean()).item()
            for ours, theirs in zip(predicted, clean)
        ]
    patches = [tokenizer.encode(networks).patches for networks in (predicted, clean)]
    errors = function_errors(*patches, architectures, tokenizer, inputs).tolist()
    assert errors == pytest.approx(expected, rel=1e-3)
    assert errors[1] == pytest.approx(1, rel=1e-3)


def test_errors_of_outputs_count_alike_whatever_their_units():
    # the second output in units of a thousandth: its errors must not vanish beside those of the first
    units = {"output_mean": [0.0, 0.0], "output_std": [1.0, 0.001]}
    inputs = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    errors = []
    for settings in (units, {}):
        tokenizer = WeightPatchTokenizer(5, 2, patch_size=4, **settings)
        batch = tokenizer.layout([tokenizer.architecture([6])])
        noise = torch.randn(2, *batch.patches.shape, generator=torch.Generator().manual_seed(0))
        clean, predicted = (batch.element_mask * each for each in (noise[0], noise[0] + 0.3 * noise[1]))
        errors.append(function_errors(predicted, clean, batch.architectures, tokenizer, inputs))
    torch.testing.assert_close(*errors, rtol=1e-3, atol=1e-6)
