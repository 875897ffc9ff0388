import pytest
import torch

from nnit_diffusers import MLPArchitecture, NestedMLP
from nnit_diffusers.network_batch import batched_forward


def architecture(*hidden_sizes, in_features=3, activation="relu"):
    return MLPArchitecture(in_features, hidden_sizes, 2, activation)


def tiny_nested(**settings):
    torch.manual_seed(0)
    return NestedMLP(**{"in_features": 3, "out_features": 2, "max_width": 16, "max_depth": 2, **settings})


def test_a_narrow_network_is_made_of_the_first_units_of_a_wide_one():
    wide, narrow = tiny_nested()([architecture(16, 16), architecture(4, 9)])
    torch.testing.assert_close(narrow["0.weight"], wide["0.weight"][:4])
    # inputs of fewer units are scaled up, so that outputs stay as large
    torch.testing.assert_close(narrow["2.weight"], 2 * wide["2.weight"][:9, :4])
    torch.testing.assert_close(narrow["4.weight"], 4 / 3 * wide["4.weight"][:, :9])
    for layer, units in ((0, 4), (2, 9), (4, 2)):
        torch.testing.assert_close(narrow[f"{layer}.bias"], wide[f"{layer}.bias"][:units])


def test_every_depth_has_layers_of_its_own():
    shallow, deep = tiny_nested()([architecture(8), architecture(8, 8)])
    assert (shallow["0.weight"] - deep["0.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("width", [2, 64, 256])
def test_untrained_outputs_are_about_as_large_at_every_width(width):
    nested = tiny_nested(in_features=20, max_width=256)
    outputs = nested.generate([architecture(width, width, in_features=20)])[0](torch.randn(2000, 20))
    assert 0.02 < outputs.std() < 2


def test_networks_take_raw_inputs_and_return_raw_outputs():
    statistics = {"observation_mean": [5.0, -2.0, 0.0], "observation_std": [2.0, 0.1, 30.0]}
    nested = tiny_nested(**statistics, output_mean=[1.0, -7.0], output_std=[3.0, 0.5])
    raw = torch.randn(5, 3) * torch.tensor([2.0, 0.1, 30.0]) + torch.tensor([5.0, -2.0, 0.0])
    standardised = (raw - torch.tensor([5.0, -2.0, 0.0])) / torch.tensor([2.0, 0.1, 30.0])
    (state_dict,) = nested([architecture(8, 4)])
    outputs = batched_forward({key: tensor[None] for key, tensor in state_dict.items()}, standardised)[0]
    expected = outputs * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -7.0])
    torch.testing.assert_close(nested.generate([architecture(8, 4)])[0](raw), expected, atol=1e-4, rtol=1e-4)


def test_networks_do_not_share_memory_with_the_model():
    nested = tiny_nested()
    first, again = nested.generate([architecture(16)] * 2)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    for kept, fresh in zip(again.parameters(), nested.generate([architecture(16)])[0].parameters(), strict=True):
        torch.testing.assert_close(kept, fresh)
        assert kept.abs().max() > 0


def test_a_saved_model_gives_the_same_networks(tmp_path):
    nested = tiny_nested(activation="tanh", min_depth=2)
    nested.save_pretrained(tmp_path)
    loaded = NestedMLP.from_pretrained(tmp_path)
    shape = architecture(5, 16, activation="tanh")
    for ours, theirs in zip(nested.generate([shape]), loaded.generate([shape]), strict=True):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_it_has_the_depths_and_widths_that_it_was_made_for():
    nested = tiny_nested(min_depth=2, max_depth=3)
    assert nested.has([16, 1]) and nested.has([3, 3, 3])
    assert not nested.has([8]) and not nested.has([8] * 4) and not nested.has([8, 17])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ([], "at least one"),
        ([architecture(4, 17)], r"1 to 2 hidden layers of at most 16 units, but received \[4, 17\]"),
        ([architecture(4, 4, 4)], r"1 to 2 hidden layers .* received \[4, 4, 4\]"),
        ([architecture(4, in_features=5)], r"\(3, 2, 'relu'\), but received \(5, 2, 'relu'\)"),
    ],
)
def test_impossible_networks_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        tiny_nested()(wrong)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_width": 0}, "max_width"),
        ({"min_depth": 3}, "`min_depth` must be at most `max_depth`, 2, but received 3"),
        ({"activation": "sine"}, "sine"),
        ({"max_width": 10**9}, "max_width|parameters"),
        ({"observation_mean": [0.0], "observation_std": [1.0]}, "3"),
    ],
)
def test_impossible_sizes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny_nested(**settings)
