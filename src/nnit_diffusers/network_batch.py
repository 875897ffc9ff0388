"""Many MLPs run as one batch.

Shape legend: B networks, N inputs (samples), I/O input and output features of a layer or network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from .architecture import MLPArchitecture
from .networks import ACTIVATION_FUNCTIONS, Network, layer_keys, mlp_weights


def stack_state_dicts(state_dicts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stacks the state dicts of B same-shaped networks; every tensor gets a leading dimension B."""
    return {key: torch.stack([state_dict[key] for state_dict in state_dicts]) for key in state_dicts[0]}


def batched_forward(
    stacked_state_dict: Mapping[str, torch.Tensor],
    inputs: torch.Tensor,
    activation: str = "relu",
    output_activation: str | None = None,
) -> torch.Tensor:
    """Runs B same-shaped networks at once.

    Parameters:
        stacked_state_dict (`Mapping[str, torch.Tensor]`):
            Weights `[B, O, I]` and biases `[B, O]` under the keys of an [`MLP`]; see [`stack_state_dicts`].
        inputs (`torch.Tensor`):
            `[N, I]`, shared by all networks, or `[B, N, I]`, separate for each.
        activation (`str`, defaults to `"relu"`): Activation between the linear layers.
        output_activation (`str`, *optional*): Activation after the last linear layer.

    Returns:
        `torch.Tensor`: `[B, N, O]`.
    """
    keys = layer_keys(len(stacked_state_dict) // 2)
    num_networks = stacked_state_dict[keys[0][0]].shape[0]
    hidden_BNI = inputs if inputs.ndim == 3 else inputs.expand(num_networks, *inputs.shape)
    for layer, (weight_key, bias_key) in enumerate(keys):
        weight_BOI, bias_BO = stacked_state_dict[weight_key], stacked_state_dict[bias_key]
        hidden_BNI = torch.baddbmm(bias_BO[:, None], hidden_BNI, weight_BOI.mT)
        if layer < len(keys) - 1:
            hidden_BNI = ACTIVATION_FUNCTIONS[activation](hidden_BNI)
    return hidden_BNI if output_activation is None else ACTIVATION_FUNCTIONS[output_activation](hidden_BNI)


class NetworkBatch:
    """B networks as one function: MLPs of one architecture run together, and any other network is called by itself.

    MLPs are those of [`mlp_weights`], and run in float32. Other modules get inputs of their own device and dtype. The
    outputs have no gradient towards the weights of MLPs.

    Parameters:
        networks (`Sequence[Network]`): Networks that take raw inputs; they need not have the same architecture.
    """

    def __init__(self, networks: Sequence[Network]):
        self.networks = list(networks)
        # group the MLPs by architecture
        members: dict[MLPArchitecture, dict[int, dict[str, torch.Tensor]]] = {}
        for index, network in enumerate(self.networks):
            found = mlp_weights(network)
            if found is not None:
                members.setdefault(found[0], {})[index] = found[1]
        # stack the weights of each group
        self._stacks = [
            (list(weights), architecture, _as_float(stack_state_dicts(list(weights.values()))))
            for architecture, weights in members.items()
        ]
        stacked = {index for weights in members.values() for index in weights}
        self._called = [index for index in range(len(self.networks)) if index not in stacked]

    def __len__(self) -> int:
        return len(self.networks)

    def to(self, device: torch.device | str) -> NetworkBatch:
        """Moves the stacked weights, and returns the batch. Networks that are called stay where they are."""
        self._stacks = [
            (indices, architecture, {key: tensor.to(device) for key, tensor in weights.items()})
            for indices, architecture, weights in self._stacks
        ]
        return self

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs `[B, N, O]` for raw inputs `[N, I]`, shared by all networks, or `[B, N, I]`, separate for each."""
        outputs: dict[int, torch.Tensor] = {}
        # MLPs, a group at a time
        for indices, architecture, weights in self._stacks:
            is_everything = len(indices) == len(self)
            own = inputs if inputs.ndim == 2 or is_everything else inputs[indices]
            own = own.to(weights["0.weight"].device)
            activations = (architecture.activation, architecture.output_activation)
            together = batched_forward(weights, own, *activations).to(inputs.device)
            if is_everything:
                return together
            outputs |= zip(indices, together)
        # other networks, one by one
        for index in self._called:
            outputs[index] = _call(self.networks[index], inputs if inputs.ndim == 2 else inputs[index])
        return torch.stack([outputs[index] for index in range(len(self))])


def _as_float(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor.float() for key, tensor in weights.items()}


def _call(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """Calls a network with inputs of its own device and dtype; returns outputs of those of `inputs`."""
    own = inputs
    if isinstance(network, nn.Module):
        parameter = next((each for each in network.parameters() if each.is_floating_point()), None)
        own = inputs if parameter is None else inputs.to(parameter.device, parameter.dtype)
    return network(own).to(inputs.device, inputs.dtype)
