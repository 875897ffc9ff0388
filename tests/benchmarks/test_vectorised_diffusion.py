import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from vector_tokenizer import VectorTokenizer, vectors_of
from vectorised_diffusion import Arguments, add_rounds, main

from nnit_diffusers import MLP, WeightPatchTokenizer, get_task
from nnit_diffusers.cards.folder import RECIPE_NAME
from nnit_diffusers.training.recipe import Recipe
from nnit_diffusers.training.transformer_losses import element_weights


SIZES = ((16, 20), (33,), (17, 18, 19))


@pytest.fixture
def tokenizer(digits):
    mean, std = digits.observation_mean.tolist(), digits.observation_std.tolist()
    return VectorTokenizer(64, 10, weight_scale=[2.0, 1.0, 0.5], observation_mean=mean, observation_std=std)


def test_networks_are_the_same_after_a_round_trip_through_vectors(tokenizer, digits):
    networks = [MLP.from_architecture(digits.regions.architecture(sizes)) for sizes in SIZES]
    batch = tokenizer.encode(networks, dtype=torch.float64)
    assert batch.element_mask.sum(dim=(1, 2)).tolist() == [each.num_parameters for each in batch.architectures]
    for network, state_dict in zip(networks, tokenizer.decode(batch.patches, batch.architectures)):
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(state_dict[key], tensor, rtol=1e-6, atol=1e-7)


def test_a_vector_has_the_weights_of_a_layer_row_by_row_and_then_its_biases_whatever_the_layer(tokenizer, digits):
    architecture = digits.regions.architecture((17, 18))
    state_dict = MLP.from_architecture(architecture).double().state_dict()
    stacked = {key: tensor[None] for key, tensor in state_dict.items()}
    vector = tokenizer.encode_stacked(stacked, architecture).flatten()
    scales = [2.0 * (2 / 64) ** 0.5, 1.0, 1.0 * (2 / 17) ** 0.5, 1.0, 0.5 * (2 / 18) ** 0.5, 1.0]
    expected = torch.cat([tensor.flatten() / scale for tensor, scale in zip(state_dict.values(), scales)])
    torch.testing.assert_close(vector[: len(expected)], expected)
    assert (vector[len(expected) :] == 0).all()
    # pieces are known by their number alone
    positions = tokenizer.layout([architecture]).positions[0]
    assert positions[:, :3].unique(dim=0).tolist() == [[0, 0, 0]]
    assert len(positions.unique(dim=0)) == len(positions)


def test_all_layers_of_a_vector_have_the_same_weight_in_the_loss(tokenizer, digits):
    batch = tokenizer.layout([digits.regions.architecture(sizes) for sizes in SIZES])
    patches = WeightPatchTokenizer(64, 10).layout(batch.architectures)
    vectors = vectors_of(element_weights(patches, bias_weight=0.25), batch)
    torch.testing.assert_close(vectors.sum(dim=(1, 2)), torch.ones(3))
    assert torch.equal(vectors > 0, batch.element_mask)
    # weights and biases of every layer of the first network
    sizes = [64 * 16, 16, 16 * 20, 20, 20 * 10, 10]
    parts = vectors[0].flatten()[: sum(sizes)].split(sizes)
    torch.testing.assert_close(torch.stack([part.sum() for part in parts]), torch.tensor([0.8, 0.2] * 3) / 3)


def test_rounds_of_dagger_that_a_pipeline_was_tuned_on_have_to_be_given():
    robot = get_task("pushcube")
    with pytest.raises(ValueError, match="`dagger_dir` must have the rounds of steps .* but received None"):
        add_rounds(robot, Recipe.for_task(robot), None)


def test_the_recipe_of_a_pipeline_is_trained_on_vectors_and_evaluated_on_its_regions(
    digits, digits_pipeline_folder, tmp_path, capsys
):
    folder = shutil.copytree(digits_pipeline_folder, tmp_path / "pipeline")
    small = {"num_layers": 1, "num_attention_heads": 1, "attention_head_dim": 8, "train_batch_size": 4}
    recipe = Recipe.for_task(digits, "small").with_overrides({"nnit": small})
    (folder / RECIPE_NAME).write_text(json.dumps(recipe.to_dict()))
    arguments = Arguments(
        str(folder),
        output_dir=str(tmp_path / "vectors"),
        output_path=str(tmp_path / "vectors.json"),
        regions=("seen", "deeper"),
        max_train_steps=8,
        num_networks=2,
        num_architectures=1,
    )
    main(arguments)
    with open(arguments.output_path) as file:
        report = json.load(file)
    assert {region: part["num_networks"] for region, part in report["regions"].items()} == {"seen": 2, "deeper": 2}
    assert "Vectors, mean of all" in capsys.readouterr().out
    # the tuning run began with the weights of the first run, and changed them by a step
    first, tuned = (
        load_file(tmp_path / "vectors" / run / "pipeline/transformer/diffusion_pytorch_model.safetensors")
        for run in ("transformer", "tuning")
    )
    largest = max((first[key] - tuned[key]).abs().max().item() for key in first)
    assert 0 < largest < 0.05
