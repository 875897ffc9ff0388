import json
import math

import pytest
import torch
from torch import nn

from nnit_diffusers import MLP, MLPArchitecture
from nnit_diffusers.architecture import NONE_TOKEN
from nnit_diffusers.models.weight_patch_tokenizer import (
    BIAS_PATCH,
    WEIGHT_PATCH,
    WeightPatchTokenizer,
)
from nnit_diffusers.networks import architecture_of


MEAN, STD = [0.5, -20.0, 3.0, 0.0, 1 / 3], [2.0, 0.1, 30.0, 1.0, math.pi]


def tiny_tokenizer(**kwargs):
    return WeightPatchTokenizer(**{"in_features": 5, "out_features": 3, "patch_size": 4, "max_depth": 4, **kwargs})


def measured_tokenizer(**kwargs):
    """A tokenizer whose scales and statistics have no exact binary fraction."""
    statistics = {"weight_scale": [1 / 3, 0.7, math.e], "bias_scale": [0.1, math.pi, 1e-3]}
    return tiny_tokenizer(**statistics, observation_mean=MEAN, observation_std=STD, **kwargs)


def assert_same_weights(network, state_dict):
    for tensor, decoded in zip(network.state_dict().values(), state_dict.values(), strict=True):
        assert torch.equal(tensor, decoded)


# Round trips


@pytest.mark.parametrize("patch_size", [1, 3, 4, 8])
@pytest.mark.parametrize("tokenizer", [tiny_tokenizer, measured_tokenizer])
def test_a_float64_round_trip_restores_every_width_and_depth_exactly(tokenizer, patch_size):
    tokenizer = tokenizer(patch_size=patch_size)
    networks = [MLP(5, [width] * depth, 3) for width in range(1, 26) for depth in range(1, 5)]
    networks += [MLP(5, sizes, 3) for sizes in ([1, 25, 1], [25, 2, 9, 17], [70], [64, 65])]
    batch = tokenizer.encode(networks, dtype=torch.float64)
    for network, state_dict in zip(networks, tokenizer.decode(batch.patches, batch.architectures), strict=True):
        assert list(state_dict) == list(network.state_dict())
        assert_same_weights(network, state_dict)


def test_a_float32_round_trip_restores_weights_up_to_rounding():
    tokenizer = measured_tokenizer()
    networks = [MLP(5, [7, 9], 3), MLP(5, [30], 3)]
    batch = tokenizer.encode(networks)
    assert batch.patches.dtype == torch.float32
    for network, state_dict in zip(networks, tokenizer.decode(batch.patches, batch.architectures)):
        torch.testing.assert_close(state_dict, dict(network.state_dict()), rtol=1e-6, atol=1e-5)


# Batches


def test_a_padded_batch_holds_the_same_patches_as_single_networks():
    tokenizer = measured_tokenizer()
    networks = [MLP(5, [20, 20], 3), MLP(5, [3], 3), MLP(5, [9, 1, 4, 6], 3), MLP(5, [3], 3)]
    batch = tokenizer.encode(networks)
    assert len(batch.patches) == 4
    for index, network in enumerate(networks):
        alone = tokenizer.encode([network])
        count = alone.patches.shape[1]
        assert tokenizer.num_patches(network.architecture) == count == int(batch.attention_mask[index].sum())
        for name in ("patches", "positions", "attention_mask", "element_mask"):
            assert torch.equal(getattr(batch, name)[index, :count], getattr(alone, name)[0])
            assert not getattr(batch, name)[index, count:].any()
        assert torch.equal(batch.architecture_tokens[index], alone.architecture_tokens[0])


def test_the_masks_mark_exactly_the_existing_weights():
    tokenizer = measured_tokenizer()
    networks = [MLP(5, [20, 20], 3), MLP(5, [3], 3)]
    batch = tokenizer.encode(networks)
    assert batch.element_mask.sum(dim=(1, 2)).tolist() == [n.architecture.num_parameters for n in networks]
    assert (batch.patches[batch.element_mask] != 0).all()
    assert not batch.patches[~batch.element_mask].any()
    assert torch.equal(batch.element_mask.any(dim=-1), batch.attention_mask)


def test_a_patch_holds_the_block_at_its_position():
    network = MLP(5, [10, 6], 3)
    batch = tiny_tokenizer().encode([network], dtype=torch.float64)
    found = torch.zeros(0)
    for patch, (kind, layer, behind, row, column) in zip(batch.patches[0], batch.positions[0].tolist()):
        assert layer + behind == 2
        linear = network[2 * layer]
        # compare with the block of the weight matrix, or with the part of the bias
        if kind == WEIGHT_PATCH:
            block = linear.weight[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].double()
            found_block = patch.unflatten(0, (4, 4))[: block.shape[0], : block.shape[1]]
            torch.testing.assert_close(found_block * (2 / linear.in_features) ** 0.5, block)
        else:
            assert (kind, column) == (BIAS_PATCH, 0)
            block = linear.bias[16 * row : 16 * row + 16].double()
            torch.testing.assert_close(patch[: len(block)], block)
        found = torch.cat([found, torch.full((block.numel(),), layer)])
    # every parameter is in exactly one patch
    assert len(found) == network.architecture.num_parameters
    assert len(batch.positions[0].unique(dim=0)) == batch.positions.shape[1]


def test_architecture_tokens_are_those_of_the_architectures():
    batch = tiny_tokenizer().layout([MLPArchitecture(5, (20, 7), 3), MLPArchitecture(5, (3,), 3)])
    assert batch.architecture_tokens.tolist() == [
        MLPArchitecture(5, (20, 7), 3).tokens(4),
        [MLPArchitecture(5, (3,), 3).tokens(1)[0], NONE_TOKEN, NONE_TOKEN, NONE_TOKEN],
    ]


def test_a_layout_is_a_batch_of_zeros():
    tokenizer = measured_tokenizer()
    networks = [MLP(5, [20, 20], 3), MLP(5, [3], 3)]
    encoded, layout = tokenizer.encode(networks), tokenizer.layout([network.architecture for network in networks])
    for name in ("positions", "attention_mask", "element_mask", "architecture_tokens"):
        assert torch.equal(getattr(encoded, name), getattr(layout, name))
    assert layout.patches.shape == encoded.patches.shape
    assert not layout.patches.any()


def test_decoding_follows_the_architectures_whatever_their_order_and_padding():
    tokenizer = measured_tokenizer()
    networks = [MLP(5, [3], 3), MLP(5, [20, 20], 3), MLP(5, [3], 3)]
    batch = tokenizer.encode(networks, dtype=torch.float64)
    padded = nn.functional.pad(batch.patches, (0, 0, 0, 7), value=99.0)
    for network, state_dict in zip(networks, tokenizer.decode(padded, batch.architectures)):
        assert_same_weights(network, state_dict)
    assert tokenizer.decode(padded[:0], []) == []


def test_decoded_networks_do_not_share_memory():
    tokenizer = tiny_tokenizer()
    batch = tokenizer.encode([MLP(5, [8], 3), MLP(5, [8], 3)])
    first, second = tokenizer.decode(batch.patches, batch.architectures)
    kept = second["0.weight"].clone()
    first["0.weight"].zero_()
    batch.patches.zero_()
    assert torch.equal(second["0.weight"], kept)
    assert all(tensor.is_contiguous() for tensor in second.values())


# Scales


def test_patches_of_narrow_and_wide_networks_have_the_same_scale():
    networks = [MLP(5, [width, width], 3) for width in (8, 128)]
    for network in networks:
        for layer in (0, 2, 4):
            nn.init.kaiming_normal_(network[layer].weight)
    batch = tiny_tokenizer().encode(networks)
    is_hidden = (batch.positions[..., 0] == WEIGHT_PATCH) & (batch.positions[..., 1:3] == 1).all(dim=-1)
    is_hidden &= batch.attention_mask
    narrow, wide = (batch.patches[index][is_hidden[index]].square().mean().sqrt() for index in (0, 1))
    assert narrow == pytest.approx(1, abs=0.25)
    assert wide == pytest.approx(1, abs=0.05)


def test_fitted_patches_have_unit_rms_in_every_role():
    # networks whose roles have different scales
    networks = [MLP(5, [width] * depth, 3) for width in (6, 9) for depth in (1, 2, 3)]
    for network in networks:
        network[0].weight.data *= 7
        network[-1].bias.data *= 0.01
    architectures = [network.architecture for network in networks]
    state_dicts = [network.state_dict() for network in networks]
    unfitted = tiny_tokenizer(observation_mean=MEAN, observation_std=STD)
    # fit in two batches
    halves = [unfitted.encode_state_dicts(state_dicts[i::2], architectures[i::2]) for i in range(2)]
    tokenizer = unfitted.with_scales_of(halves)
    batch = tokenizer.encode_state_dicts(state_dicts, architectures)
    kind, layer, behind, _, _ = batch.positions.unbind(-1)
    # RMS per kind and role
    for patch_kind in (WEIGHT_PATCH, BIAS_PATCH):
        for in_role in (layer == 0, (layer > 0) & (behind > 0), behind == 0):
            chosen = (in_role & (kind == patch_kind) & batch.attention_mask)[..., None] & batch.element_mask
            assert batch.patches[chosen].square().mean().item() == pytest.approx(1, rel=1e-5)
    assert tokenizer.config.observation_mean == MEAN
    assert tokenizer.config.patch_size == 4


def test_fitting_does_not_depend_on_earlier_scales():
    network = MLP(5, [6, 6], 3)
    fitted, again = (
        tokenizer.with_scales_of([tokenizer.encode_state_dicts([network.state_dict()], [network.architecture])])
        for tokenizer in (tiny_tokenizer(), measured_tokenizer())
    )
    assert fitted.config.weight_scale == pytest.approx(again.config.weight_scale)
    assert fitted.config.weight_scale != [1.0, 1.0, 1.0]


def test_a_role_that_no_network_has_keeps_the_scale_of_one():
    network = MLP(5, [6], 3)
    network[0].bias.data.zero_()
    unfitted = tiny_tokenizer()
    tokenizer = unfitted.with_scales_of([unfitted.encode_state_dicts([network.state_dict()], [network.architecture])])
    assert tokenizer.config.weight_scale[1] == 1
    assert tokenizer.config.bias_scale[0] == 1


# Observation statistics


def test_decoding_converts_networks_of_standardised_to_raw_inputs():
    tokenizer = measured_tokenizer()
    network = MLP(5, [12, 9], 3, "relu").double()
    batch = tokenizer.encode_state_dicts([network.state_dict()], [network.architecture], dtype=torch.float64)
    (state_dict,) = tokenizer.decode(batch.patches, batch.architectures, dtype=torch.float64)
    decoded = MLP.from_architecture(network.architecture, state_dict)
    mean, std = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    inputs = mean + torch.randn(20, 5, dtype=torch.float64) * std
    torch.testing.assert_close(decoded(inputs), network((inputs - mean) / std))


def test_raw_and_standardised_forms_of_a_network_are_the_same_patches():
    tokenizer = measured_tokenizer()
    network = MLP(5, [12], 3).double()
    standardised = tokenizer.encode_state_dicts([network.state_dict()], [network.architecture], dtype=torch.float64)
    (raw,) = tokenizer.decode(standardised.patches, standardised.architectures, dtype=torch.float64)
    encoded = tokenizer.encode([MLP.from_architecture(network.architecture, raw)], dtype=torch.float64)
    torch.testing.assert_close(encoded.patches, standardised.patches)


# Saving and loading


def test_statistics_are_saved_in_full_precision(tmp_path):
    tokenizer = measured_tokenizer(activation="gelu")
    tokenizer.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer_config.json"]
    loaded = WeightPatchTokenizer.from_pretrained(tmp_path)
    for name in ("weight_scale", "bias_scale", "observation_mean", "observation_std"):
        assert list(loaded.config[name]) == list(tokenizer.config[name])
    assert (loaded.config.activation, loaded.config.patch_size, loaded.config.max_depth) == ("gelu", 4, 4)
    network = MLP(5, [7, 9], 3, "gelu")
    assert torch.equal(loaded.encode([network]).patches, tokenizer.encode([network]).patches)


def test_a_tokenizer_loads_from_a_subfolder(tmp_path):
    measured_tokenizer().save_pretrained(tmp_path / "tokenizer")
    loaded = WeightPatchTokenizer.from_pretrained(tmp_path, subfolder="tokenizer")
    assert loaded.config.weight_scale == [1 / 3, 0.7, math.e]


# `load_config` of diffusers passes an argument that huggingface_hub deprecates
@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument is deprecated:UserWarning")
def test_a_tokenizer_loads_from_the_cache_of_the_hub(tmp_path):
    repository, commit = tmp_path / "models--someone--nnit", "0" * 40
    measured_tokenizer().save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    loaded = WeightPatchTokenizer.from_pretrained("someone/nnit", cache_dir=tmp_path)
    assert loaded.config.weight_scale == [1 / 3, 0.7, math.e]


def test_the_saved_file_names_its_class(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["_class_name"] == "WeightPatchTokenizer"


# Networks of other kinds


@pytest.mark.parametrize(
    ("kind", "name"), [(nn.ReLU, "relu"), (nn.Tanh, "tanh"), (nn.GELU, "gelu"), (nn.SiLU, "silu")]
)
def test_a_users_own_sequential_is_tokenized(kind, name):
    network = nn.Sequential(nn.Linear(5, 7), kind(), nn.Linear(7, 9), kind(), nn.Linear(9, 3))
    assert architecture_of(network) == MLPArchitecture(5, (7, 9), 3, name)
    tokenizer = measured_tokenizer(activation=name)
    batch = tokenizer.encode([network], dtype=torch.float64)
    assert not batch.patches.requires_grad
    (state_dict,) = tokenizer.decode(batch.patches, batch.architectures)
    assert_same_weights(network, state_dict)


def test_the_names_of_a_users_layers_do_not_matter():
    layers = {"encode": nn.Linear(5, 7), "act": nn.ReLU(), "decode": nn.Linear(7, 3)}
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    tokenizer = tiny_tokenizer()
    batch = tokenizer.encode([network], dtype=torch.float64)
    (state_dict,) = tokenizer.decode(batch.patches, batch.architectures)
    assert_same_weights(network, state_dict)


def test_half_precision_networks_are_tokenized():
    network = MLP(5, [7], 3).half()
    batch = tiny_tokenizer().encode([network], dtype=torch.float64)
    (state_dict,) = tiny_tokenizer().decode(batch.patches, batch.architectures, dtype=torch.float16)
    assert_same_weights(network, state_dict)


# Errors


linear = nn.Linear


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (linear(5, 3), "`nn.Sequential` MLPs, but received a Linear"),
        (nn.Sequential(linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), linear(7, 3)), "module 1 is BatchNorm1d"),
        (nn.Sequential(linear(5, 7), nn.Sigmoid(), linear(7, 3)), "module 1 is Sigmoid where an activation of"),
        (
            nn.Sequential(linear(5, 7), nn.GELU("tanh"), linear(7, 3)),
            r"is GELU\(approximate='tanh'\) where an activation",
        ),
        (nn.Sequential(linear(5, 7), nn.ReLU(), nn.Dropout(), linear(7, 3)), "module 2 is Dropout where nn.Linear"),
        (nn.Sequential(linear(5, 7, bias=False), nn.ReLU(), linear(7, 3)), "layer 0 has none"),
        (
            nn.Sequential(linear(5, 7), nn.ReLU(), linear(7, 7), nn.Tanh(), linear(7, 3)),
            "one kind of activation, but received .*'ReLU', 'Linear', 'Tanh'",
        ),
        (nn.Sequential(linear(5, 3)), r"received \['Linear'\]"),
        (nn.Sequential(linear(5, 7), nn.ReLU(), linear(7, 3), nn.ReLU()), "received .*'Linear', 'ReLU'\\]"),
        (nn.Sequential(), r"received \[\]"),
        (nn.Sequential(linear(5, 7), nn.ReLU(), linear(8, 3)), "7 outputs is followed by one of 8 inputs"),
        (nn.Sequential(linear(6, 7), nn.ReLU(), linear(7, 3)), r"= \(5, 3, 'relu'\), but received \(6, 3, 'relu'\)"),
        (nn.Sequential(linear(5, 7), nn.ReLU(), linear(7, 2)), r"but received \(5, 2, 'relu'\)"),
        (nn.Sequential(linear(5, 7), nn.SiLU(), linear(7, 3)), r"but received \(5, 3, 'silu'\)"),
        (MLP(5, [2] * 65, 3), "1 to 64 hidden layers, but received 65"),
    ],
)
def test_networks_that_cannot_be_tokenized_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        tiny_tokenizer().encode([MLP(5, [4], 3), network])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 0}, "`patch_size` must be an integer of 1 or more, but received 0"),
        ({"max_depth": True}, "`max_depth` must be an integer of 1 or more, but received True"),
        ({"weight_scale": [1.0, 0.0, 1.0]}, "`weight_scale` must be 3 positive numbers"),
        ({"bias_scale": [1.0]}, "`bias_scale` must be 3 positive numbers"),
        (
            {"observation_mean": [0.0], "observation_std": STD},
            "`observation_mean` must be 5 finite numbers",
        ),
        ({"observation_mean": MEAN}, "must be given together"),
        (
            {"observation_mean": MEAN, "observation_std": [1.0, 0.0, 1, 1, 1]},
            "must be 5 positive numbers, but received 0.0",
        ),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_tokenizer(**arguments)


def test_hidden_sizes_become_architectures_of_the_task():
    assert tiny_tokenizer().architecture([7, 9]) == MLPArchitecture(5, (7, 9), 3)
    with pytest.raises(ValueError, match="1 to 64 hidden layers, but received 65"):
        tiny_tokenizer().architecture([7] * 65)


def test_a_dtype_applies_only_to_patches():
    batch = tiny_tokenizer().encode([MLP(5, [7], 3)]).to(torch.float16)
    assert batch.patches.dtype == torch.float16
    assert batch.positions.dtype == batch.architecture_tokens.dtype == torch.long
    assert batch.attention_mask.dtype == batch.element_mask.dtype == torch.bool
