import json

import numpy as np
import pytest

from nnit_diffusers import MLPArchitecture
from nnit_diffusers.architecture import MASK_TOKEN, NONE_TOKEN


def architecture(*hidden_sizes, **kwargs):
    return MLPArchitecture(64, hidden_sizes, 10, **kwargs)


def test_layer_shapes_and_parameters_follow_from_the_hidden_sizes():
    assert architecture(48, 40).layer_shapes == [(48, 64), (40, 48), (10, 40)]
    assert architecture(48, 40).depth == 2
    assert architecture(48, 40).num_parameters == 48 * 65 + 40 * 49 + 10 * 41
    assert str(architecture(48, 40)) == "64-48-40-10"


def test_equal_architectures_are_the_same_key():
    assert {architecture(48, 40): 1}[MLPArchitecture(64, [48, 40], 10)] == 1
    assert architecture(48, 40) != architecture(40, 48)
    assert architecture(48) != architecture(48, activation="tanh")


@pytest.mark.parametrize("output_activation", [None, "tanh"])
def test_an_architecture_is_restored_from_json(output_activation):
    original = architecture(48, 40, activation="gelu", output_activation=output_activation)
    assert MLPArchitecture(**json.loads(json.dumps(original.to_dict()))) == original


def test_files_and_texts_name_an_output_activation_only_if_there_is_one():
    plain, bounded = architecture(8), architecture(8, output_activation="tanh")
    assert list(plain.to_dict()) == ["in_features", "hidden_sizes", "out_features", "activation"]
    assert bounded.to_dict() == {**plain.to_dict(), "output_activation": "tanh"}
    assert (str(plain), str(bounded)) == ("64-8-10", "64-8-10-tanh")
    assert repr(plain) == "MLPArchitecture(in_features=64, hidden_sizes=(8,), out_features=10, activation='relu')"
    assert repr(bounded) == repr(plain)[:-1] + ", output_activation='tanh')"


@pytest.mark.parametrize(
    ("hidden_sizes", "received"),
    [
        ([], "received none"),
        ([0], "received 0"),
        ([-3], "received -3"),
        ([True], r"received True \(bool\)"),
        ([16.0], r"received 16.0 \(float\)"),
        (["16"], r"received '16' \(str\)"),
        ([None], r"received None \(NoneType\)"),
        ("16", "received '16'"),
        (16, "received 16"),
    ],
)
def test_invalid_hidden_sizes_are_refused(hidden_sizes, received):
    with pytest.raises(ValueError, match=f"`hidden_sizes`.*{received}"):
        MLPArchitecture(64, hidden_sizes, 10)


def test_invalid_sizes_and_activations_are_refused():
    with pytest.raises(ValueError, match="`in_features` must hold integers of 1 or more, but received 0"):
        MLPArchitecture(0, [8], 10)
    with pytest.raises(ValueError, match="`out_features` must hold integers of 1 or more, but received 1.5"):
        MLPArchitecture(64, [8], 1.5)
    with pytest.raises(ValueError, match=r"one of \('relu', .*, 'leaky_relu'\), but received 'sine'"):
        architecture(8, activation="sine")
    with pytest.raises(ValueError, match=r"`output_activation` must be None or one of .*, but received 'relu'"):
        architecture(8, output_activation="relu")


@pytest.mark.parametrize("hidden_sizes", [(1,), (48, 40), (7, 7, 7, 1000)])
def test_an_architecture_is_restored_from_its_tokens(hidden_sizes):
    tokens = architecture(*hidden_sizes, activation="silu").tokens(max_depth=4)
    assert len(tokens) == 4
    assert tokens[len(hidden_sizes) :] == [NONE_TOKEN] * (4 - len(hidden_sizes))
    assert MASK_TOKEN not in tokens
    assert MLPArchitecture.from_tokens(tokens, 64, 10, "silu") == architecture(*hidden_sizes, activation="silu")


def test_every_width_has_its_own_token():
    tokens = [architecture(width).tokens(1)[0] for width in range(1, 500)]
    assert len({MASK_TOKEN, NONE_TOKEN, *tokens}) == 501


def test_a_network_deeper_than_there_are_slots_is_refused():
    with pytest.raises(ValueError, match=r"1 to 2 hidden layers, but received 3: \[8, 9, 7\]"):
        architecture(8, 9, 7).tokens(max_depth=2)


@pytest.mark.parametrize("tokens", [[MASK_TOKEN, NONE_TOKEN], [17, MASK_TOKEN], [17, NONE_TOKEN, 17]])
def test_invalid_tokens_are_refused(tokens):
    with pytest.raises(ValueError, match="widths followed by 1"):
        MLPArchitecture.from_tokens(tokens, 64, 10)


def test_tokens_without_any_hidden_layer_are_refused():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        MLPArchitecture.from_tokens([NONE_TOKEN, NONE_TOKEN], 64, 10)


def test_integers_of_numpy_are_widths_and_become_plain_ones():
    architecture = MLPArchitecture(np.int64(3), np.array([4, 5]), np.int32(2))
    assert architecture == MLPArchitecture(3, (4, 5), 2)
    assert json.loads(json.dumps(architecture.to_dict())) == architecture.to_dict()
