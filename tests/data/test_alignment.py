"""Whether hidden units of networks are in the same order, and weight matching where they are not."""

from pathlib import Path

import pytest
import torch

from nnit_diffusers import MLP, GraphHyperNetwork, MLPArchitecture
from nnit_diffusers.data import match_weights, measure_alignment
from nnit_diffusers.folding import fold_observation_statistics


ROOT = Path(__file__).parents[2]
ARCHITECTURES = [MLPArchitecture(5, sizes, 3) for sizes in ((9,), (12, 7), (6, 10, 8, 5))]
MEAN, STD = [0.5, -20.0, 3.0, 0.0, 1.0], [2.0, 0.01, 30.0, 1.0, 100.0]


def network_of(architecture, seed=0):
    torch.manual_seed(seed)
    return dict(MLP.from_architecture(architecture).state_dict())


def shuffled(state_dict, seed=0):
    """The same network with its hidden units in random order."""
    generator, state_dict = torch.Generator().manual_seed(seed), dict(state_dict)
    for layer in range(0, len(state_dict) - 2, 2):
        order = torch.randperm(len(state_dict[f"{layer}.bias"]), generator=generator)
        state_dict[f"{layer}.weight"] = state_dict[f"{layer}.weight"][order]
        state_dict[f"{layer}.bias"] = state_dict[f"{layer}.bias"][order]
        state_dict[f"{layer + 2}.weight"] = state_dict[f"{layer + 2}.weight"][:, order]
    return state_dict


def ghn_networks(name, hidden_sizes, num_networks=6):
    """Networks of a published GHN."""
    ghn = GraphHyperNetwork.from_pretrained(ROOT / "nnit" / name, subfolder="ghn")
    architecture = MLPArchitecture(ghn.config.in_features, hidden_sizes, ghn.config.out_features)
    latents = torch.randn(num_networks, ghn.config.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return ghn([architecture] * num_networks, latents)


def trained_apart(hidden_size, num_networks=4):
    """Networks that learn the same function, which of two sums is larger, each from its own start."""
    networks = []
    for seed in range(num_networks):
        torch.manual_seed(seed)
        network = MLP(8, [hidden_size], 2)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(200):
            inputs = torch.randn(128, 8)
            targets = (inputs[:, :4].abs().sum(dim=1) > inputs[:, 4:].abs().sum(dim=1)).long()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs), targets).backward()
            optimizer.step()
        networks.append(network.state_dict())
    return networks


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_permuted_copies_are_restored_exactly(architecture):
    network = network_of(architecture)
    for restored in match_weights([shuffled(network, seed) for seed in range(5)], network):
        assert list(restored) == list(network)
        assert all(torch.equal(restored[key], tensor) for key, tensor in network.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_matching_changes_the_order_of_units_but_not_the_outputs(architecture):
    network, reference, inputs = network_of(architecture, 0), network_of(architecture, 1), torch.randn(20, 5)
    (matched,) = match_weights([network], reference)
    assert not all(torch.equal(matched[key], tensor) for key, tensor in network.items())
    for key, tensor in network.items():
        assert matched[key].dtype == tensor.dtype
        assert torch.equal(matched[key].flatten().sort().values, tensor.flatten().sort().values)
    outputs = [MLP.from_architecture(architecture, each)(inputs) for each in (network, matched)]
    torch.testing.assert_close(*outputs)
    assert measure_alignment([reference, network]).before < measure_alignment([reference, matched]).before


def test_networks_of_raw_inputs_are_matched_as_those_of_standardised_ones():
    first, second = (network_of(ARCHITECTURES[1], seed) for seed in range(2))
    standardised = measure_alignment([first, second])
    raw = [fold_observation_statistics(network, MEAN, STD) for network in (first, second)]
    assert measure_alignment(raw, (MEAN, STD)) == pytest.approx(standardised, abs=1e-3)
    assert measure_alignment(raw) != pytest.approx(standardised, abs=0.1)


@pytest.mark.parametrize("name", ["digits", "pushcube", "pickcube", "stackcube-easy"])
@pytest.mark.parametrize("hidden_sizes", [(32,), (48, 40), (24, 16, 32), (128, 256)])
def test_networks_of_a_hypernetwork_are_aligned_and_their_permuted_copies_are_not(name, hidden_sizes):
    networks = ghn_networks(name, hidden_sizes)
    assert measure_alignment(networks).is_aligned
    permuted = measure_alignment([shuffled(network, seed) for seed, network in enumerate(networks)])
    assert not permuted.is_aligned
    assert permuted.before < 0.15 < 0.4 < permuted.after


@pytest.mark.parametrize("hidden_size", [8, 32])
def test_networks_trained_apart_are_not_aligned(hidden_size):
    networks = trained_apart(hidden_size)
    assert not measure_alignment(networks).is_aligned
    assert measure_alignment([networks[0], *match_weights(networks[1:], networks[0])]).is_aligned


def test_what_cannot_be_matched_is_refused():
    networks = [network_of(architecture) for architecture in ARCHITECTURES[:2]]
    with pytest.raises(
        ValueError, match=r"`networks` must have the shapes .*'0.weight': \(9, 5\).* one has .*\(12, 5\)"
    ):
        match_weights(networks[1:], networks[0])
    with pytest.raises(ValueError, match=r"`statistics` must be 5 numbers each.*but received \[5, 1\]"):
        match_weights(networks[:1], networks[0], (MEAN, [1.0]))
    with pytest.raises(ValueError, match="two networks or more, but received 1"):
        measure_alignment(networks[:1])
