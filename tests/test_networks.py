import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nnit_diffusers import MLP, MLPArchitecture, NetworkContract, export_network
from nnit_diffusers.contract import IOTerm
from nnit_diffusers.folding import fold_observation_statistics, unfold_observation_statistics
from nnit_diffusers.network_batch import NetworkBatch, batched_forward, stack_state_dicts
from nnit_diffusers.networks import layer_keys, mlp_weights


ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}


# Single networks


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_mlp_equals_a_plain_sequential_of_the_same_weights(activation):
    network = MLP(5, [7, 6], 3, activation)
    kind = ACTIVATIONS[activation]
    plain = nn.Sequential(nn.Linear(5, 7), kind(), nn.Linear(7, 6), kind(), nn.Linear(6, 3))
    assert list(network.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    plain.load_state_dict(network.state_dict())
    inputs = torch.randn(10, 5)
    assert torch.equal(network(inputs), plain(inputs))


def test_keys_of_the_layers_are_those_of_the_state_dict():
    keys = [key for pair in layer_keys(3) for key in pair]
    assert keys == list(MLP(5, [7, 6], 3).state_dict())


def test_weights_and_biases_come_layer_by_layer():
    network = MLP(5, [7, 6], 3)
    shapes = [(tuple(weight.shape), tuple(bias.shape)) for weight, bias in network.weights_and_biases()]
    assert shapes == [((7, 5), (7,)), ((6, 7), (6,)), ((3, 6), (3,))]


def test_a_slice_of_an_mlp_is_a_plain_sequential():
    network = MLP(5, [7, 6], 3)
    inputs = torch.randn(10, 5)
    features = network[:-1]
    assert type(features) is nn.Sequential
    assert features(inputs).shape == (10, 6)
    assert torch.equal(network[-1](features(inputs)), network(inputs))


def test_copies_are_equal_and_independent():
    network = MLP(5, [7], 3)
    clone = copy.deepcopy(network)
    assert clone.architecture == network.architecture
    inputs = torch.randn(4, 5)
    expected = network(inputs)
    network[0].weight.data.zero_()
    assert torch.equal(clone(inputs), expected)


CONTRACT = NetworkContract(
    task="reach",
    observations=(IOTerm("state", (5,), units="rad"),),
    actions=(IOTerm("joints", (3,), clip=((-1, 1),) * 3),),
)


def test_a_contract_stays_with_a_network_that_is_saved_pickled_or_copied(tmp_path):
    network = MLP(5, [7], 3, "tanh")
    network.contract = CONTRACT
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["nnit_contract"] == CONTRACT.to_dict()
    loaded = MLP.from_pretrained(tmp_path)
    assert loaded.contract == CONTRACT and loaded.architecture == network.architecture
    # again, over what is there, and without a contract
    loaded.save_pretrained(tmp_path)
    assert MLP.from_pretrained(tmp_path).contract == CONTRACT
    loaded.contract = None
    loaded.save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "config.json").read_text())) == set(network.architecture.to_dict())
    assert MLP.from_pretrained(tmp_path).contract is None
    for clone in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert clone.contract == CONTRACT
    # a network that an older version pickled
    del network.__dict__["_contract"]
    assert pickle.loads(pickle.dumps(network)).contract is None


def test_a_contract_of_other_sizes_is_refused(tmp_path):
    network = MLP(5, [7], 2)
    with pytest.raises(ValueError, match=r"`contract.actions` must describe 2 numbers, but describes 3"):
        network.contract = CONTRACT
    network.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    for contract in (CONTRACT.to_dict(), [1], {"task": 1}):
        path.write_text(json.dumps({**network.architecture.to_dict(), "nnit_contract": contract}))
        with pytest.raises(ValueError, match=r"config.json' is not the configuration of an MLP: `contract"):
            MLP.from_pretrained(tmp_path)


def test_a_network_is_built_from_an_architecture_without_copying_weights():
    architecture = MLPArchitecture(5, (7,), 3, "tanh")
    source = MLP.from_architecture(architecture)
    network = MLP.from_architecture(architecture, source.state_dict())
    assert network.architecture == source.architecture == architecture
    assert network[0].weight.data_ptr() == source[0].weight.data_ptr()
    assert all(parameter.requires_grad for parameter in network.parameters())
    network(torch.randn(2, 5)).sum().backward()


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.weight"):
        MLP.from_architecture(MLPArchitecture(5, (8,), 3), MLP(5, [7], 3).state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        MLP.from_architecture(MLPArchitecture(5, (7, 7), 3), MLP(5, [7], 3).state_dict())


def test_invalid_architectures_are_refused():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        MLP(5, [], 3)
    with pytest.raises(ValueError, match="received 'sine'"):
        MLP(5, [4], 3, "sine")


# Other modules than those that a network was made with


def test_the_architecture_follows_the_modules():
    network = MLP(5, [7], 3)
    network[1] = nn.Tanh()
    assert network.architecture == MLPArchitecture(5, (7,), 3, "tanh")
    network.append(nn.Tanh())
    assert network.architecture == MLPArchitecture(5, (7,), 3, "tanh", "tanh")
    network[0] = nn.Linear(4, 7)
    assert network.architecture.in_features == 4


def test_a_network_with_other_modules_is_saved_and_exported_as_it_is(tmp_path):
    network = MLP(5, [7], 3).eval()
    network[1] = nn.Tanh()
    network.save_pretrained(tmp_path / "saved")
    inputs = torch.randn(4, 5)
    assert torch.equal(MLP.from_pretrained(tmp_path / "saved")(inputs), network(inputs))
    for format, suffix in (("safetensors", ".safetensors"), ("torch-export", ".pt2"), ("onnx", ".onnx")):
        exported = MLP.from_checkpoint(export_network(network, tmp_path / f"network{suffix}", format))
        assert torch.equal(exported(inputs), network(inputs))


@pytest.mark.parametrize("module", [nn.Dropout(), nn.GELU("tanh"), nn.ELU(0.5), nn.LeakyReLU(0.2), nn.LayerNorm(7)])
def test_a_network_that_is_no_mlp_any_more_is_called_as_it_is_and_neither_saved_nor_exported(tmp_path, module):
    network = MLP(5, [7], 3).eval()
    network[1] = module.eval()
    inputs = torch.randn(4, 5)
    assert mlp_weights(network) is None
    torch.testing.assert_close(NetworkBatch([network])(inputs)[0], network(inputs))
    with pytest.raises(ValueError, match="must alternate `nn.Linear` and one activation, but module 1 is"):
        network.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="must alternate"):
        export_network(network, tmp_path / "network.safetensors", "safetensors")
    assert not list(tmp_path.iterdir())


def test_a_hook_that_changes_outputs_is_called():
    network = MLP(5, [7], 3)
    inputs, plain = torch.randn(4, 5), MLP.from_architecture(network.architecture, network.state_dict())
    network[1].register_forward_hook(lambda module, given, outputs: 2 * outputs)
    batch = NetworkBatch([network, plain])
    torch.testing.assert_close(batch(inputs), torch.stack([network(inputs), plain(inputs)]))


# Bounded outputs


def test_a_tanh_at_the_output_is_the_last_module():
    network = MLP(5, [7, 6], 3, output_activation="tanh")
    inputs = torch.randn(10, 5)
    assert list(network.state_dict()) == list(MLP(5, [7, 6], 3).state_dict())
    assert torch.equal(network(inputs), torch.tanh(network[:-1](inputs)))


def test_bounded_and_plain_networks_of_the_same_sizes_run_in_stacks_of_their_own():
    plain, bounded = MLP(5, [7], 3), MLP(5, [7], 3, output_activation="tanh")
    inputs = torch.randn(4, 5)
    batch = NetworkBatch([plain, bounded, plain])
    torch.testing.assert_close(batch(inputs), torch.stack([plain(inputs), bounded(inputs), plain(inputs)]))


def test_a_bounded_network_is_saved_and_loads_the_same(tmp_path):
    network = MLP(5, [7], 3, "elu", "tanh").eval()
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["output_activation"] == "tanh"
    inputs = torch.randn(4, 5)
    for copied in (MLP.from_pretrained(tmp_path), copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert copied.architecture == network.architecture
        assert torch.equal(copied(inputs), network(inputs))


# Saving and loading


def test_networks_are_saved_as_safetensors_and_json_and_load_the_same(tmp_path):
    network = MLP(5, [7, 6], 3, "silu")
    network.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {file.name for file in tmp_path.iterdir()}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"in_features": 5, "hidden_sizes": [7, 6], "out_features": 3, "activation": "silu"}

    loaded = MLP.from_pretrained(tmp_path)
    assert loaded.architecture == network.architecture
    inputs = torch.randn(10, 5)
    assert torch.equal(loaded(inputs), network(inputs))


def test_a_network_built_from_weights_is_saved_and_loads_the_same(tmp_path):
    source = MLP(5, [7], 3)
    network = MLP.from_architecture(source.architecture, source.state_dict())
    network.save_pretrained(tmp_path)
    assert torch.equal(MLP.from_pretrained(tmp_path)[2].weight, source[2].weight)


def test_saved_weights_load_into_a_plain_sequential(tmp_path):
    network = MLP(5, [7], 3)
    network.save_pretrained(tmp_path)
    plain = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    inputs = torch.randn(4, 5)
    assert torch.equal(plain(inputs), network(inputs))


# Batched networks


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [[6], [6, 9], [1, 4, 8]])
def test_batched_networks_give_the_same_outputs_as_each_alone(hidden_sizes, activation):
    networks = [MLP(5, hidden_sizes, 3, activation) for _ in range(4)]
    stacked = stack_state_dicts([network.state_dict() for network in networks])
    shared, own = torch.randn(10, 5), torch.randn(4, 10, 5)
    expected_shared = torch.stack([network(shared) for network in networks])
    expected_own = torch.stack([network(inputs) for network, inputs in zip(networks, own)])
    torch.testing.assert_close(batched_forward(stacked, shared, activation), expected_shared)
    torch.testing.assert_close(batched_forward(stacked, own, activation), expected_own)


def test_gradients_of_batched_networks_reach_each_of_them():
    networks = [MLP(5, [6], 3) for _ in range(2)]
    stacked = stack_state_dicts([dict(network.named_parameters()) for network in networks])
    batched_forward(stacked, torch.randn(10, 5))[0].square().sum().backward()
    assert networks[0][0].weight.grad.abs().sum() > 0
    assert networks[1][0].weight.grad.abs().sum() == 0


# Observation statistics


MEAN, STD = [0.5, -20.0, 3.0], [2.0, 0.1, 30.0]


def test_folded_statistics_convert_a_network_to_raw_inputs():
    network = MLP(3, [8, 8], 2).double()
    inputs = torch.tensor(MEAN) + torch.randn(20, 3) * torch.tensor(STD)
    inputs = inputs.double()
    standardised = (inputs - torch.tensor(MEAN, dtype=torch.float64)) / torch.tensor(STD, dtype=torch.float64)
    folded = fold_observation_statistics(network.state_dict(), MEAN, STD)
    raw = MLP.from_architecture(network.architecture, folded)
    torch.testing.assert_close(raw(inputs), network(standardised))
    assert torch.equal(folded["2.weight"], network[2].weight)


def test_unfolding_undoes_folding_for_one_network_and_for_many():
    networks = [MLP(3, [8], 2).double() for _ in range(3)]
    for state_dict in (networks[0].state_dict(), stack_state_dicts([n.state_dict() for n in networks])):
        folded = fold_observation_statistics(state_dict, MEAN, STD)
        assert not torch.equal(folded["0.bias"], state_dict["0.bias"])
        torch.testing.assert_close(unfold_observation_statistics(folded, MEAN, STD), dict(state_dict))


# Networks of any kind as one function


class Declared(nn.Module):
    """Declares an architecture, whose weights are below another name: they do not show what `forward` computes."""

    def __init__(self, network):
        super().__init__()
        self.network, self.architecture = network, network.architecture

    def forward(self, inputs):
        return 2 * self.network(inputs)


class Doubled(nn.Sequential):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


def sequential(*activations):
    return nn.Sequential(nn.Linear(5, 7), *activations, nn.Linear(7, 3))


def test_a_batch_gives_the_outputs_of_each_network_in_order():
    torch.manual_seed(0)
    networks = [
        MLP(5, [7], 3),
        sequential(nn.LayerNorm(7)),
        MLP(5, [4, 6], 3, "tanh"),
        sequential(nn.ReLU()),
        lambda inputs: inputs[:, :3],
        Declared(MLP(5, [7], 3)),
    ]
    batch = NetworkBatch(networks)
    shared, own = torch.randn(4, 5), torch.randn(6, 4, 5)
    assert len(batch) == 6
    torch.testing.assert_close(batch(shared), torch.stack([network(shared) for network in networks]))
    expected = torch.stack([network(inputs) for network, inputs in zip(networks, own)])
    torch.testing.assert_close(batch(own), expected)


def test_mlps_of_one_architecture_run_exactly_as_one_stack():
    networks = [MLP(5, [7], 3), sequential(nn.ReLU()), MLP(5, [7], 3).half()]
    state_dicts = [network.float().state_dict() for network in copy.deepcopy(networks)]
    inputs = torch.randn(4, 5)
    outputs = NetworkBatch(networks)(inputs)
    assert torch.equal(outputs, batched_forward(stack_state_dicts(state_dicts), inputs))
    assert not outputs.requires_grad


def test_other_modules_get_inputs_of_their_own_dtype():
    network = sequential(nn.LayerNorm(7)).double()
    inputs = torch.randn(4, 5)
    outputs = NetworkBatch([network])(inputs)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs[0], network(inputs.double()).float())


def test_layers_may_have_any_names():
    network = nn.Sequential()
    for name, layer in {"encode": nn.Linear(5, 7), "act": nn.SiLU(), "decode": nn.Linear(7, 3)}.items():
        network.add_module(name, layer)
    architecture, weights = mlp_weights(network)
    assert architecture == MLPArchitecture(5, (7,), 3, "silu")
    assert torch.equal(weights["2.weight"], network.decode.weight)


class DoublingLinear(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "network",
    [
        Doubled(*sequential(nn.ReLU())),
        nn.Sequential(DoublingLinear(5, 7), nn.ReLU(), nn.Linear(7, 3)),
        sequential(nn.GELU("tanh")),
        sequential(nn.ReLU(), nn.Dropout()),
        nn.Sequential(nn.Linear(5, 3)),
        Declared(MLP(5, [7], 3)),
        torch.relu,
    ],
)
def test_networks_that_compute_something_else_than_an_mlp_are_called(network):
    assert mlp_weights(network) is None
