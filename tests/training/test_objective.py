"""What is minimised, and on what: each test fails if a part of the objective is changed or left out."""

import pytest
import torch
from launching import TINY_GHN, TINY_NNIT, fresh_accelerate
from tiny import PATCH_SIZE, tiny_ghn, tiny_tokenizer, tiny_transformer
from tiny_tasks import TinyDataTask
from torch import nn

from nnit_diffusers import MLP, NNiTArchitectureScheduler
from nnit_diffusers.architecture import MASK_TOKEN
from nnit_diffusers.data import GHNWeightStream, WeightDatasetWriter
from nnit_diffusers.evaluation.novelty import participation_ratio
from nnit_diffusers.models.patches import BIAS_PATCH
from nnit_diffusers.training import GHNTrainingConfig, NNiTTrainingConfig
from nnit_diffusers.training.hypernetwork import GHNTrainer
from nnit_diffusers.training.transformer import NNiTTrainer
from nnit_diffusers.training.transformer_losses import add_noise, element_weights, patch_losses, predict


NNIT = {**TINY_NNIT, "patch_size": PATCH_SIZE, "report_to": "none", "validation_steps": 10**6}
GHN = {**TINY_GHN, "upsampling": 4, "report_to": "none", "validation_steps": 10**6}


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


class Recorder(nn.Module):
    """A model that records what it is called with and what it returns."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []

    def forward(self, *args, **kwargs):
        outputs = self.model(*args, **kwargs)
        self.calls.append((args, outputs))
        return outputs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def nnit_trainer(output_dir, source=None, **settings):
    return NNiTTrainer(TinyDataTask(), source or tiny_ghn(), NNiTTrainingConfig(**{**NNIT, **settings}), output_dir)


def ghn_trainer(output_dir, **settings):
    return GHNTrainer(TinyDataTask(), GHNTrainingConfig(**{**GHN, **settings}), output_dir)


def encoded(sizes):
    """Patches of networks with these hidden sizes, at random values."""
    tokenizer = tiny_tokenizer()
    batch = tokenizer.layout([tokenizer.architecture(each) for each in sizes])
    batch.patches = torch.randn(batch.patches.shape) * batch.element_mask
    return batch


def noised_at(batch, sigmas, masked_fraction=0.5):
    tokens = batch.architecture_tokens
    return add_noise(batch, tokens, torch.tensor(sigmas), NNiTArchitectureScheduler(), masked_fraction, generator())


# Noise


def test_patches_go_from_clean_to_noise_on_a_straight_line():
    batch, empty = encoded([[12, 12, 12]] * 5), encoded([[12, 12, 12]] * 5)
    empty.patches = torch.zeros_like(batch.patches)
    sigmas = [0.0, 0.1, 0.5, 0.9, 1.0]
    patches, only_noise = noised_at(batch, sigmas).patches, noised_at(empty, sigmas).patches
    for index, sigma in enumerate(sigmas):
        torch.testing.assert_close(patches[index] - only_noise[index], (1 - sigma) * batch.patches[index])
        std = only_noise[index][batch.element_mask[index]].std().item()
        assert std == pytest.approx(sigma, rel=0.15)


def test_the_loss_is_the_squared_error_of_clean_patches_over_the_squared_noise_level():
    noised = noised_at(encoded([[6]] * 5), [0.05, 0.1, 0.2, 0.4, 0.8])
    # all elements of weights are off by 1, which is the loss before it is weighted
    is_weight = (noised.clean.positions[..., 0] != BIAS_PATCH)[..., None]
    predicted = noised.clean.patches + noised.clean.element_mask * is_weight
    losses = patch_losses(predicted, noised, element_weights(noised.clean, 0.25))
    # below 0.1 the weight is constant
    assert losses.tolist() == pytest.approx([80.0, 80.0, 20.0, 5.0, 1.25], rel=1e-4)


# What the model is given


def test_the_model_is_given_noise_levels_and_the_architectures_own_times():
    model = Recorder(tiny_transformer())
    noised = noised_at(encoded([[6], [9, 5], [7], [8]]), [0.1, 0.4, 0.7, 1.0], masked_fraction=1.0)
    predict(model, noised)
    (networks, _), (samples, _) = model.calls
    patches, timesteps, tokens, architecture_timesteps, _ = networks
    assert torch.equal(patches, noised.patches)
    assert timesteps.tolist() == pytest.approx([100, 400, 700, 1000])
    assert torch.equal(tokens, noised.noisy_tokens)
    assert noised.times.min() > 0 and len(set(noised.times.tolist())) == 4
    torch.testing.assert_close(architecture_timesteps, 1000 * noised.times)
    # architecture-only samples: no patches, at the highest noise level
    patches, timesteps, tokens, architecture_timesteps, positions = samples
    assert patches.shape[1] == positions.shape[1] == 0
    assert timesteps.tolist() == [1000.0] * 4
    assert torch.equal(tokens, noised.noisy_samples)
    torch.testing.assert_close(architecture_timesteps, 1000 * noised.sample_times)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_as_many_architectures_of_networks_are_masked_as_configured(tmp_path, fraction):
    trainer = nnit_trainer(tmp_path, masked_architecture_fraction=fraction)
    trainer.config.train_batch_size = 400
    noised = trainer.prepare_batch(generator()).noised
    assert (noised.times > 0).float().mean().item() == pytest.approx(fraction, abs=0.06)
    is_masked = noised.noisy_tokens == MASK_TOKEN
    assert not is_masked[noised.times == 0].any()
    # times are uniform, and a time is the probability of a mask
    assert is_masked.float().mean().item() == pytest.approx(fraction / 2, abs=0.04)


# What is minimised


def cross_entropies(logits, tokens, noisy):
    """Of every masked token, one by one."""
    places = (noisy != tokens).nonzero().tolist()
    return [-logits[row, slot].log_softmax(-1)[tokens[row, slot]] for row, slot in places]


def mean_task_loss(trainer, patches, batch):
    """Of the predicted networks that little noise was added to, each decoded and run on its own."""
    inputs, targets = batch.samples.of(None)
    decided = (batch.noised.sigmas < 0.7).nonzero().flatten().tolist()
    assert 0 < len(decided) < len(batch.noised.sigmas)
    clean = batch.noised.clean
    losses = []
    for index in decided:
        architecture = clean.architectures[index]
        stacked = trainer.tokenizer.decode_stacked(patches[index : index + 1], architecture)
        network = MLP.from_architecture(architecture, {key: value[0].detach() for key, value in stacked.items()})
        losses.append(nn.functional.cross_entropy(network(inputs), targets))
    return torch.stack(losses).mean()


def test_the_transformers_loss_is_the_weighted_sum_of_its_parts(tmp_path):
    trainer = nnit_trainer(
        tmp_path,
        masked_architecture_fraction=0.9,
        architecture_loss_weight=0.5,
        function_loss_weight=0.25,
        task_loss_weight=2.0,
        train_batch_size=8,
    )
    batch = trainer.prepare_batch(generator())
    trainer.model = Recorder(trainer.model)
    losses = trainer.losses(batch, trainer.counts(batch))
    (_, (patches, logits)), (_, (_, sample_logits)) = trainer.model.calls
    noised, bias_weight = batch.noised, trainer.config.bias_loss_weight
    # the parts
    weights = element_weights(noised.clean, bias_weight)
    torch.testing.assert_close(losses["patches"], patch_losses(patches, noised, weights).mean())
    networks = cross_entropies(logits, noised.clean.architecture_tokens, noised.noisy_tokens)
    samples = cross_entropies(sample_logits, noised.sample_tokens, noised.noisy_samples)
    assert networks and samples
    torch.testing.assert_close(losses["architecture"], sum(networks) / len(networks) + sum(samples) / len(samples))
    assert losses["function"] > 0
    torch.testing.assert_close(losses["task"], mean_task_loss(trainer, patches, batch))
    # their sum
    expected = losses["patches"] + 0.5 * losses["architecture"] + 0.25 * losses["function"] + 2 * losses["task"]
    torch.testing.assert_close(trainer.total_loss(losses), expected)


def test_the_ghns_loss_is_the_task_loss_and_the_weighted_diversity_penalty(tmp_path):
    trainer = ghn_trainer(tmp_path, diversity_weight=3.0, diversity_target=0.6)
    trainer.step = trainer.config.max_train_steps
    trainer.model = Recorder(trainer.model)
    batch = trainer.prepare_batch(generator())
    losses = trainer.losses(batch, trainer.counts(batch))
    ((_, state_dicts),) = trainer.model.calls
    # the task loss of every network on its own
    alone, (inputs, targets) = [], batch.samples.of(None)
    for architecture, state_dict in zip(batch.architectures, state_dicts, strict=True):
        outputs = MLP.from_architecture(architecture, {k: v.detach() for k, v in state_dict.items()})(inputs)
        alone.append(nn.functional.cross_entropy(outputs, targets))
    torch.testing.assert_close(losses["loss"].detach(), torch.stack(alone).mean())
    # An untrained GHN hardly uses its latent, so the spread is far below the target.
    assert losses["diversity"] > 0.1
    torch.testing.assert_close(trainer.total_loss(losses), losses["loss"] + 3 * losses["diversity"])


def test_every_network_of_a_batch_has_a_latent_of_its_own(tmp_path):
    batch = ghn_trainer(tmp_path, latents_per_architecture=3).prepare_batch(generator())
    assert [str(a) for a in batch.architectures[:3]] == [str(batch.architectures[0])] * 3
    assert len(set(map(tuple, batch.latents.tolist()))) == len(batch.latents) == len(batch.architectures)
    # of the stream too
    stream = GHNWeightStream(tiny_ghn(), TinyDataTask().regions, latents_per_architecture=4)
    batch = tiny_tokenizer().encode_state_dicts(*stream.networks(8, generator()))
    assert len(set(map(tuple, batch.patches.flatten(1).tolist()))) == 8


@pytest.mark.parametrize("trainer_of", [nnit_trainer, ghn_trainer])
def test_gradients_are_scaled_down_to_the_configured_norm(tmp_path, trainer_of):
    trainer = trainer_of(tmp_path, max_grad_norm=1e-3)
    norms = []

    def measure(optimizer, args, kwargs):
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        norms.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).norm().item())

    trainer.optimizer.optimizer.register_step_pre_hook(measure)
    trainer.train_step([trainer.prepare_batch(generator())])
    assert norms == pytest.approx([1e-3], rel=1e-2)


# What the transformer knows of a patch


def test_a_patch_has_the_size_of_the_layer_before_it_as_fan_in_and_of_its_own_as_fan_out():
    batch, other = encoded([[6, 7]]), encoded([[6, 9]])
    timestep = torch.zeros(1)
    for kept, changed_layers in (("fan_in_proj", {2}), ("fan_out_proj", {1})):
        # without blocks, no token knows of another
        model = tiny_transformer(num_layers=0)
        for name in {"fan_in_proj", "fan_out_proj"} - {kept}:
            nn.init.zeros_(getattr(model, name).weight)
        samples = [
            model(batch.patches, timestep, tokens, timestep, batch.positions).sample
            for tokens in (batch.architecture_tokens, other.architecture_tokens)
        ]
        is_changed = (samples[0] != samples[1]).any(dim=-1)
        assert set(batch.positions[is_changed][:, 1].tolist()) == changed_layers


def test_distances_to_the_first_and_last_layer_are_told_apart_up_to_two():
    embed = tiny_transformer().position_embed
    for column in (1, 2):
        positions = torch.full((1, 6, 5), 3)
        positions[..., 0] = 0
        positions[0, :, column] = torch.arange(6)
        features = embed(positions, torch.float32)[0]
        assert torch.equal(features[2:], features[2:3].expand(4, -1))
        first_three = features[:3].unique(dim=0)
        assert len(first_three) == 3


# All of it together


def train(trainer, num_steps):
    batches = trainer.batches()
    for _ in range(num_steps):
        trainer.train_step([next(batches)])
    return trainer


def test_a_transformer_that_overfits_two_networks_generates_them(tmp_path):
    tokenizer = tiny_tokenizer()
    networks = [MLP.from_architecture(tokenizer.architecture(sizes)) for sizes in ([8], [4, 5])]
    with WeightDatasetWriter(tmp_path / "dataset") as writer:
        for network in networks:
            writer.add(network, task="tiny_data")
    settings = {
        "max_train_steps": 150,
        "num_layers": 2,
        "attention_head_dim": 16,
        "train_batch_size": 8,
        "lr_warmup_steps": 20,
        "learning_rate": 5e-3,
        "use_ema": False,
        "masked_architecture_fraction": 0.0,
    }
    trainer = train(nnit_trainer(tmp_path / "run", tmp_path / "dataset", **settings), 150)
    trainer.pipeline.set_progress_bar_config(disable=True)
    output = trainer.pipeline(arch=[[8], [4, 5]], num_inference_steps=20, generator=generator())
    inputs = torch.randn(50, 5)
    for generated, network in zip(output.networks, networks, strict=True):
        assert generated.architecture == network.architecture
        error = (generated(inputs) - network(inputs)).norm() / (network(inputs) - network(inputs).mean(dim=0)).norm()
        assert error < 0.15


def test_the_participation_ratio_rises_with_the_diversity_penalty(tmp_path):
    ratios = []
    for weight in (0.0, 4.0):
        settings = {"max_train_steps": 40, "diversity_end": 0.1, "latents_per_architecture": 6, "learning_rate": 5e-3}
        trainer = train(ghn_trainer(tmp_path / str(weight), diversity_weight=weight, **settings), 40)
        architecture = trainer.task.regions.architecture([8, 8])
        with torch.no_grad():
            state_dicts = trainer.trained([architecture] * 64, torch.randn(64, 4, generator=generator()))
        weights = torch.stack([torch.cat([tensor.flatten() for tensor in each.values()]) for each in state_dicts])
        ratios.append(participation_ratio(weights))
    assert ratios[1] > 1.3 * ratios[0]
