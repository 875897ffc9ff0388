"""Networks with 8-bit weights are close to the network, act like any module, and are sent to other processes."""

import pickle
import time

import pytest
import torch
from torch import nn

from nnit_diffusers import MLP, evaluate, get_task
from nnit_diffusers.architecture import ACTIVATIONS
from nnit_diffusers.export import quantize
from nnit_diffusers.export.quantization import largest_integer
from nnit_diffusers.folding import fold_observation_statistics


def robot_network(hidden_sizes, activation="relu"):
    """A network of observations that are far from zero and of many scales; such observations; and the same network
    without the folded statistics."""
    plain = MLP(12, hidden_sizes, 4, activation).eval().requires_grad_(False)
    mean, std = torch.linspace(-50, 50, 12), torch.logspace(-3, 3, 12)
    network = MLP(12, hidden_sizes, 4, activation).eval().requires_grad_(False)
    network.load_state_dict(fold_observation_statistics(plain.state_dict(), mean * std, std))
    normalised = torch.randn(500, 12)
    return network, (normalised + mean) * std, plain, normalised


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [[64], [32, 48, 24]])
def test_outputs_stay_close_however_far_and_unequal_the_observations_are(activation, hidden_sizes):
    network, observations, _, _ = robot_network(hidden_sizes, activation)
    expected = network(observations)
    error = (quantize(network)(observations) - expected).square().mean().sqrt() / expected.std()
    assert error < 0.03


def test_without_scales_and_a_centre_folded_statistics_would_ruin_the_first_layer():
    """The same weights with statistics folded in are quantised about as well as without."""
    network, observations, plain, normalised = robot_network([32, 48])
    folded = (quantize(network)(observations) - network(observations)).square().mean().sqrt()
    alone = (quantize(plain)(normalised) - plain(normalised)).square().mean().sqrt()
    assert folded < 2 * alone


def test_a_row_does_not_depend_on_the_rows_beside_it_and_calls_repeat():
    network, observations, _, _ = robot_network([32, 48], "tanh")
    quantized = quantize(network)
    together = quantized(observations)
    assert torch.equal(together, quantized(observations))
    assert torch.equal(together, torch.cat([quantized(row[None]) for row in observations]))


def test_it_is_pickled_with_its_outputs_and_leaves_the_network_as_it_was():
    network, observations, _, _ = robot_network([32, 48])
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    quantized = quantize(network)
    assert torch.equal(pickle.loads(pickle.dumps(quantized))(observations), quantized(observations))
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert {tensor.dtype for key, tensor in quantized.state_dict().items() if "weight" in key} == {torch.int8}


def test_it_is_evaluated_like_any_network():
    task = get_task("digits")
    network = MLP(64, [24], 10).eval()
    quantized, again = evaluate([quantize(network), network], task, progress_bar=False)
    assert quantized.num_episodes == again.num_episodes
    assert abs(quantized.score - again.score) < 0.05


def test_units_that_are_always_zero_stay_zero():
    network = MLP(5, [6], 3).eval().requires_grad_(False)
    for tensor in network.state_dict().values():
        tensor.zero_()
    network[0].weight[2, 3] = 1.0
    network[2].bias[1] = 7.0
    assert quantize(network)(torch.ones(1, 5)).tolist() == [[0.0, 7.0, 0.0]]
    assert quantize(network)(torch.zeros(1, 5)).tolist() == [[0.0, 7.0, 0.0]]


@pytest.mark.parametrize("in_features", [1, 515, 516, 1024, 65536])
def test_no_sum_of_products_overflows_32_bits(in_features):
    assert 127 <= largest_integer(in_features) <= 32767
    assert largest_integer(in_features) * 127 * in_features <= 2**31 - 1


def test_a_batch_takes_not_much_longer_than_the_network():
    network = MLP(42, [256, 256, 256], 8).eval().requires_grad_(False)
    quantized, inputs = quantize(network), torch.randn(1024, 42)

    def fastest(function):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            function(inputs)
            times.append(time.perf_counter() - start)
        return min(times)

    # float64 takes twice as long as float32
    assert fastest(quantized) < 12 * fastest(network)


def test_only_an_mlp_is_quantised():
    with pytest.raises(ValueError, match="`network` must be an `MLP`, but received a Linear"):
        quantize(nn.Linear(2, 2))
