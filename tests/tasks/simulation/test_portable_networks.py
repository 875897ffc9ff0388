"""Networks on their way to worker processes; no simulator is needed."""

import pickle
import threading
from functools import partial

import pytest
import torch
from torch import nn

from nnit_diffusers import MLP
from nnit_diffusers.tasks.simulation.portable_networks import PortableNetwork, network_policy


def arrive(network):
    """The policy in another process."""
    return network_policy(pickle.loads(pickle.dumps(PortableNetwork.from_network(network))))


@pytest.mark.parametrize(
    "network",
    [
        MLP(5, [7], 3, "gelu"),
        MLP(5, [7], 3, "elu", "tanh"),
        nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)),
        nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)),
        partial(torch.mul, 2),
        lambda observations: observations[:, :3] + 1,
    ],
)
def test_networks_compute_the_same_after_their_way(network):
    observations = torch.randn(4, 5)
    torch.testing.assert_close(arrive(network)(observations), network(observations))
    torch.testing.assert_close(network_policy(network)(observations), network(observations))


def test_mlps_travel_as_float32_arrays_and_not_as_code():
    portable = PortableNetwork.from_network(MLP(5, [7], 3).half())
    assert portable.other is None
    assert {key: (array.shape, array.dtype.name) for key, array in portable.weights.items()} == {
        "0.weight": ((1, 7, 5), "float32"),
        "0.bias": ((1, 7), "float32"),
        "2.weight": ((1, 3, 7), "float32"),
        "2.bias": ((1, 3), "float32"),
    }


def test_a_network_that_can_not_be_sent_is_refused_in_one_line():
    lock = threading.Lock()
    with pytest.raises(
        ValueError, match="`networks` must be what can be sent .*'<lambda>' .*`num_workers=0`"
    ) as raised:
        PortableNetwork.from_network(lambda observations: observations if lock else None)
    assert "\n" not in str(raised.value)


def test_a_network_whose_module_is_missing_in_the_worker_is_refused():
    portable = PortableNetwork(other=b"cno_such_module\npolicy\n.")
    with pytest.raises(ValueError, match="importable in worker processes.*no_such_module.*`num_workers=0`"):
        network_policy(portable)
