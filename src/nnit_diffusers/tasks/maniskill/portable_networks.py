"""Networks on their way to worker processes, and as policies there.

Shape legend: N environments side by side, I observation features.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from ...networks import Network, NetworkBatch, batched_forward, mlp_weights


_REMEDY = "Define it in a module that can be imported, or pass `num_workers=0` to run the episodes in this process."


@dataclass(frozen=True)
class PortableNetwork:
    """A network in a form that is cheap to send to a process.

    Parameters:
        weights (`dict[str, np.ndarray]`): State dict of an MLP in float32, every array with a leading 1.
        activation (`str`, defaults to `"relu"`): Activation of the MLP.
        pickled (`bytes`, *optional*): A pickle of any other network, which then has no weights here.
    """

    weights: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    activation: str = "relu"
    pickled: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_network(cls, network: Network) -> PortableNetwork:
        """Converts a network.

        Raises:
            `ValueError`: If it is no MLP and can't be pickled, such as a lambda.
        """
        found = mlp_weights(network)
        if found is not None:
            architecture, weights = found
            arrays = {key: tensor[None].float().cpu().numpy() for key, tensor in weights.items()}
            return cls(arrays, architecture.activation)
        # worker processes have no accelerator
        on_cpu = deepcopy(network).cpu() if isinstance(network, nn.Module) else network
        try:
            return cls(pickled=pickle.dumps(on_cpu))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                "`networks` must be MLPs or picklable to run in worker processes, but received "
                f"{getattr(network, '__name__', type(network).__name__)!r} ({error}). {_REMEDY}"
            ) from error


def network_policy(network: PortableNetwork | Network) -> Network:
    """A policy, from observations `[N, I]` to actions, that runs one network.

    Raises:
        `ValueError`: If a pickled network can't be loaded in this process.
    """
    if not isinstance(network, PortableNetwork):
        batch = NetworkBatch([network])
        return lambda observations_NI: batch(observations_NI)[0]
    if network.pickled is not None:
        return network_policy(_unpickled(network.pickled))
    state_dict = {key: torch.from_numpy(array) for key, array in network.weights.items()}
    return lambda observations_NI: batched_forward(state_dict, observations_NI, network.activation)[0]


@lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> Network:
    """The network of consecutive jobs, loaded once. The bytes come from the parent process, never from a file."""
    try:
        return pickle.loads(pickled)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"`networks` must be importable in worker processes, but one of them is not ({error}). {_REMEDY}"
        ) from error
