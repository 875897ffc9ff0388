"""Networks on their way to worker processes, and as policies there.

Shape legend: N environments side by side, I observation features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from ...executors import NumWorkers
from ...network_batch import NetworkBatch, batched_forward
from ...networks import Network, mlp_weights
from ...workers import deserialised, serialised


@dataclass(frozen=True)
class PortableNetwork:
    """A network in a form that is cheap to send to a process.

    Parameters:
        weights (`dict[str, np.ndarray]`): State dict of an MLP in float32, every array with a leading 1.
        activation (`str`, defaults to `"relu"`): Activation of the MLP.
        output_activation (`str`, *optional*): Activation after its last layer.
        other (`bytes`, *optional*): Any other network, which then has no weights here; see [`serialised`].
    """

    weights: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    activation: str = "relu"
    output_activation: str | None = None
    other: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_network(cls, network: Network) -> PortableNetwork:
        """Converts a network.

        Raises:
            `ValueError`: If it is no MLP and can't be sent to another process.
        """
        found = mlp_weights(network)
        if found is not None:
            architecture, weights = found
            arrays = {key: tensor[None].float().cpu().numpy() for key, tensor in weights.items()}
            return cls(arrays, architecture.activation, architecture.output_activation)
        # worker processes have no accelerator
        on_cpu = deepcopy(network).cpu() if isinstance(network, nn.Module) else network
        return cls(other=serialised("`networks`", on_cpu))


def network_policy(network: PortableNetwork | Network) -> Network:
    """A policy, from observations `[N, I]` to actions, that runs one network.

    Raises:
        `ValueError`: If this process can't import what a network needs.
    """
    if not isinstance(network, PortableNetwork):
        batch = NetworkBatch([network])
        return lambda observations_NI: batch(observations_NI)[0]
    if network.other is not None:
        return network_policy(_received(network.other))
    state_dict = {key: torch.from_numpy(array) for key, array in network.weights.items()}
    activations = (network.activation, network.output_activation)
    return lambda observations_NI: batched_forward(state_dict, observations_NI, *activations)[0]


@lru_cache(maxsize=1)
def _received(sent: bytes) -> Network:
    """The network of consecutive jobs, made once."""
    network: Network = deserialised("`networks`", sent)
    return network


def for_jobs(networks: Sequence[Network], num_workers: NumWorkers) -> Sequence[PortableNetwork | Network]:
    """Networks as worker processes receive them; the networks themselves if there are no worker processes."""
    return networks if num_workers == 0 else [PortableNetwork.from_network(network) for network in networks]
