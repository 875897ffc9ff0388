"""Behaviour of the transformer; test_transformer_nnit_diffusers.py tests what diffusers expects of every model."""

import pytest
import torch
import torch.nn.functional as F

from nnit_diffusers.architecture import MASK_TOKEN, NONE_TOKEN
from nnit_diffusers.models.transformer_nnit import NNiTTransformer
from nnit_diffusers.models.weight_patch_tokenizer import WeightPatchTokenizer


TOKENIZER = WeightPatchTokenizer(in_features=5, out_features=3, patch_size=4, max_depth=3)


def tiny_transformer(**kwargs):
    torch.manual_seed(0)
    sizes = {"max_width": 16, "max_depth": 3, "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
    model = NNiTTransformer(**{"in_features": 5, "out_features": 3, "patch_size": 4, **sizes, **kwargs}).eval()
    # as after training: an untrained model is near the identity
    for parameter in (model.modulation.weight, model.proj_out.weight, model.architecture_head.weight):
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def inputs(*architectures, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch = TOKENIZER.layout([TOKENIZER.architecture(hidden_sizes) for hidden_sizes in architectures])
    return {
        "hidden_states": torch.randn(batch.patches.shape, generator=generator) * batch.element_mask,
        "timestep": torch.linspace(900, 100, len(architectures)),
        "architecture_tokens": batch.architecture_tokens,
        "architecture_timestep": torch.linspace(0, 600, len(architectures)),
        "patch_positions": batch.positions,
        "attention_mask": batch.attention_mask,
    }


def row(kwargs, index, num_patches):
    """Inputs of one network of a batch, without padding."""
    per_patch = ("hidden_states", "patch_positions", "attention_mask")
    single = {name: tensor[index : index + 1] for name, tensor in kwargs.items()}
    return {name: tensor[:, :num_patches] if name in per_patch else tensor for name, tensor in single.items()}


MIXED = ([9, 6], [4], [16, 3, 12], [4])


# Batches and padding


@torch.no_grad()
def test_a_batch_row_equals_its_single_run():
    model, batch = tiny_transformer(), inputs(*MIXED)
    together = model(**batch)
    for index, mask in enumerate(batch["attention_mask"]):
        count = int(mask.sum())
        alone = model(**row(batch, index, count))
        torch.testing.assert_close(together.sample[index : index + 1, :count], alone.sample, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            together.architecture_logits[index : index + 1], alone.architecture_logits, atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_padding_does_not_affect_the_output():
    model, batch = tiny_transformer(), inputs([4], [16, 3, 12])
    padding = ~batch["attention_mask"]
    changed = {name: tensor.clone() for name, tensor in batch.items()}
    changed["hidden_states"][padding] = 1e3
    changed["patch_positions"][padding] = torch.tensor([1, 2, 0, 9, 9])
    expected, actual = model(**batch), model(**changed)
    assert padding.any()
    assert torch.equal(expected.sample[~padding], actual.sample[~padding])
    assert torch.equal(expected.architecture_logits, actual.architecture_logits)


@torch.no_grad()
def test_no_mask_means_that_every_patch_exists():
    model, batch = tiny_transformer(), inputs([9, 6])
    assert batch["attention_mask"].all()
    torch.testing.assert_close(model(**batch).sample, model(**{**batch, "attention_mask": None}).sample)


@torch.no_grad()
def test_the_order_of_the_patches_does_not_matter():
    model, batch = tiny_transformer(), inputs([9, 6])
    order = torch.randperm(batch["hidden_states"].shape[1])
    shuffled = {**batch, "attention_mask": None}
    for name in ("hidden_states", "patch_positions"):
        shuffled[name] = batch[name][:, order]
    expected, actual = model(**batch), model(**shuffled)
    torch.testing.assert_close(actual.sample, expected.sample[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(actual.architecture_logits, expected.architecture_logits, atol=1e-5, rtol=1e-5)


# Inputs and outputs


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("hidden_states", lambda tensor: tensor + 1),
        ("timestep", lambda tensor: tensor / 2),
        ("architecture_timestep", lambda tensor: tensor + 500),
        ("architecture_tokens", lambda tensor: torch.full_like(tensor, MASK_TOKEN)),
        ("patch_positions", lambda tensor: tensor + torch.tensor([0, 0, 0, 1, 0])),
        ("patch_positions", lambda tensor: tensor + torch.tensor([0, 0, 0, 0, 1])),
    ],
)
def test_every_input_affects_patches_and_architecture(name, change):
    model, batch = tiny_transformer(), inputs([9, 6])
    before, after = model(**batch), model(**{**batch, name: change(batch[name])})
    assert (before.sample - after.sample).abs().max() > 1e-4
    logits = (before.architecture_logits - after.architecture_logits)[..., MASK_TOKEN + 1 :]
    assert logits.abs().max() > 1e-4


@torch.no_grad()
def test_a_timestep_may_be_shared_by_the_batch():
    model, batch = tiny_transformer(), inputs([9, 6], [4])
    times = {"timestep": torch.tensor(500.0), "architecture_timestep": torch.tensor([0.0])}
    each = {name: time.expand(2) for name, time in times.items()}
    assert torch.equal(model(**{**batch, **times}).sample, model(**{**batch, **each}).sample)


@torch.no_grad()
def test_architectures_are_predicted_without_patches():
    model = tiny_transformer()
    batch = {**inputs([9, 6], [4]), "attention_mask": None}
    for name in ("hidden_states", "patch_positions"):
        batch[name] = batch[name][:, :0]
    output = model(**batch)
    assert output.sample.shape == (2, 0, 16)
    assert output.architecture_logits.shape == (2, 3, 18)
    assert not output.architecture_logits.isnan().any()


@torch.no_grad()
def test_logits_cover_all_widths_and_none_but_not_the_mask():
    logits = tiny_transformer()(**inputs([9, 6])).architecture_logits
    assert logits.shape[-1] == 16 + NONE_TOKEN + 1
    probabilities = logits.softmax(dim=-1)
    assert (probabilities[..., MASK_TOKEN] == 0).all()
    assert (probabilities[..., NONE_TOKEN:] > 0).all()


# Architectures outside the training ranges


@torch.no_grad()
def test_unseen_widths_have_distinct_embeddings():
    model = tiny_transformer()
    tokens = torch.arange(0, 3000)
    embeddings = model.architecture_embed(tokens, torch.float32)
    assert embeddings.isfinite().all()
    assert torch.pdist(embeddings[:300]).min() > 1e-4
    # the closer two widths are on a logarithmic scale, the closer are their embeddings
    width = embeddings[2:]
    assert (width[100] - width[101]).norm() < (width[100] - width[200]).norm()
    assert (width[1000] - width[1001]).norm() < (width[100] - width[101]).norm()


@torch.no_grad()
def test_networks_wider_and_deeper_than_in_training_are_predicted():
    model = tiny_transformer(max_width=8, max_depth=3)
    for hidden_sizes in ([200], [40, 33, 50]):
        assert model(**inputs(hidden_sizes)).sample.isfinite().all()


@torch.no_grad()
def test_positions_repeat_beyond_the_largest_width():
    model = tiny_transformer(max_width=8)
    first, second, last = (0, 2), (1, 1), (2, 0)  # layer, layers behind

    def embed(kind, layer, layers_behind, row, column):
        return model.position_embed(torch.tensor([[[kind, layer, layers_behind, row, column]]]), torch.float32)

    torch.testing.assert_close(embed(0, *first, 3, 1), embed(0, *first, 1, 1))
    torch.testing.assert_close(embed(0, *second, 3, 2), embed(0, *second, 1, 0))
    torch.testing.assert_close(embed(1, *first, 1, 0), embed(1, *first, 0, 0))
    # positions of inputs and outputs of the network do not repeat
    assert (embed(0, *first, 0, 2) - embed(0, *first, 0, 0)).norm() > 1e-3
    assert (embed(0, *last, 2, 0) - embed(0, *last, 0, 0)).norm() > 1e-3


# Training


def test_both_losses_together_train_every_parameter():
    model = tiny_transformer()
    batch = inputs([9, 6], [4], [16, 3, 12])
    batch["architecture_tokens"][0, 1] = MASK_TOKEN
    output = model(**batch)
    loss = output.sample.square().mean() + F.cross_entropy(
        output.architecture_logits.flatten(0, 1), torch.full((9,), 5)
    )
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_an_untrained_model_predicts_almost_zero_and_learns():
    torch.manual_seed(0)
    model = NNiTTransformer(
        5, 3, max_width=16, max_depth=3, patch_size=4, num_layers=2, num_attention_heads=2, attention_head_dim=8
    )
    batch = inputs([9, 6], [4])
    target = torch.randn(batch["hidden_states"].shape, generator=torch.Generator().manual_seed(1))
    # fit one batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (model(**batch).sample - target)[batch["attention_mask"]].square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    # a prediction of zero has the mean square of the target as its loss
    assert losses[0] == pytest.approx(target[batch["attention_mask"]].square().mean().item(), rel=0.05)
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_applies_only_in_training():
    model, batch = tiny_transformer(dropout=0.5), inputs([9, 6])
    assert torch.equal(model(**batch).sample, model(**batch).sample)
    model.train()
    assert not torch.equal(model(**batch).sample, model(**batch).sample)


def test_names_and_shapes_of_the_parameters_are_those_of_the_published_checkpoints():
    model = NNiTTransformer(64, 10)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    assert shapes["patch_embed.weight"] == (208, 64)
    assert shapes["transformer_blocks.5.attn.to_q.weight"] == (208, 208)
    assert shapes["transformer_blocks.5.attn.to_out.0.bias"] == (208,)
    assert shapes["transformer_blocks.5.ff.net.0.proj.weight"] == (832, 208)
    assert shapes["transformer_blocks.0.scale_shift_table"] == (6, 208)
    assert shapes["architecture_head.weight"] == (66, 208)
    assert len(shapes) == 30 + 6 * 15
    # At most 8 MiB in half precision.
    assert 2 * model.num_parameters() < 8 * 2**20
