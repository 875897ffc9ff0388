"""Alignment of networks: whether unit j of a layer means the same in each, and a remedy where it does not.

Hidden units can be permuted without changing what a network computes. Networks trained apart have theirs in random
order, and a transformer hardly learns such weights. Weight matching, as in Git Re-Basin
(https://huggingface.co/papers/2209.04836), permutes the units of one network so that they resemble those of another.

Shape legend: O/I output and input features of a layer, N parameters of a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from ..folding import unfold_observation_statistics
from ..networks import layer_keys


# Aligned networks have this share of their similarity before matching: those of the published GHNs 0.5 to 1, and those
# of digits trained apart 0.01 to 0.16.
MIN_SHARE = 0.3
# Maximum number of passes over the hidden layers; a pass that changes nothing is the last.
MAX_SWEEPS = 50

StateDict = Mapping[str, torch.Tensor]
Layers = list[tuple[torch.Tensor, torch.Tensor]]
Statistics = tuple[Sequence[float], Sequence[float]]


class Alignment(NamedTuple):
    """Mean cosine similarity of networks to one of them, before and after weight matching."""

    before: float
    after: float

    @property
    def is_aligned(self) -> bool:
        """Whether most of the similarity is there before matching."""
        return self.before >= MIN_SHARE * self.after


def measure_alignment(networks: Sequence[StateDict], statistics: Statistics | None = None) -> Alignment:
    """Alignment of networks of one architecture with the first of them; see [`match_weights`] for the arguments.

    Raises:
        `ValueError`: If there are fewer than two networks, or their architectures differ.
    """
    if len(networks) < 2:
        raise ValueError(f"`networks` must be two networks or more, but received {len(networks)}.")
    matched = match_weights(networks[1:], networks[0], statistics)
    wanted = _vector(_scaled(networks[0], statistics))
    before, after = (
        torch.stack([torch.cosine_similarity(_vector(_scaled(each, statistics)), wanted, dim=0) for each in others])
        for others in (networks[1:], matched)
    )
    return Alignment(before.mean().item(), after.mean().item())


def match_weights(
    networks: Sequence[StateDict], reference: StateDict, statistics: Statistics | None = None
) -> list[dict[str, torch.Tensor]]:
    """Permutes the hidden units of networks so that they resemble those of a reference; outputs stay the same.

    Networks of one architecture can be matched with each other, but not with those of another.

    Parameters:
        networks (`Sequence[Mapping[str, torch.Tensor]]`): State dicts of [`MLP`]s.
        reference (`Mapping[str, torch.Tensor]`): State dict of the network that they shall resemble.
        statistics (`tuple[Sequence[float], Sequence[float]]`, *optional*):
            Mean and standard deviation of the inputs of networks that take raw inputs, so that all inputs count alike.

    Raises:
        `ValueError`: If a network is of another architecture than the reference, or the statistics of other inputs.
    """
    in_features = reference["0.weight"].shape[1]
    if statistics is not None and any(len(numbers) != in_features for numbers in statistics):
        lengths = [len(numbers) for numbers in statistics]
        raise ValueError(f"`statistics` must be {in_features} numbers each, but received {lengths}.")
    wanted = {key: tuple(tensor.shape) for key, tensor in reference.items()}
    matched = []
    for network in networks:
        received = {key: tuple(tensor.shape) for key, tensor in network.items()}
        if received != wanted:
            raise ValueError(f"`networks` must have the shapes {wanted} of the reference, but one has {received}.")
        permutations = _match(_scaled(network, statistics), _scaled(reference, statistics))
        keys = layer_keys(len(network) // 2)
        layers = _permute([(network[weight], network[bias]) for weight, bias in keys], permutations)
        matched.append({key: tensor for pair in zip(keys, layers, strict=True) for key, tensor in zip(*pair)})
    return matched


def _scaled(network: StateDict, statistics: Statistics | None) -> Layers:
    """Weights `[O, I]`, scaled by the root of their fan-in, and biases `[O]` of every layer, in float64."""
    network = {key: tensor.detach().double().cpu() for key, tensor in network.items()}
    if statistics is not None:
        network = unfold_observation_statistics(network, *statistics)
    return [
        (network[weight] * (network[weight].shape[1] / 2) ** 0.5, network[bias])
        for weight, bias in layer_keys(len(network) // 2)
    ]


def _permute(layers: Layers, permutations: Sequence[torch.Tensor]) -> Layers:
    """Layers with the units of every hidden layer in the order of its permutation."""
    for hidden, order in enumerate(permutations):
        (weight, bias), (next_weight, next_bias) = layers[hidden : hidden + 2]
        order = order.to(weight.device)
        pair = [(weight[order], bias[order]), (next_weight[:, order], next_bias)]
        layers = [*layers[:hidden], *pair, *layers[hidden + 2 :]]
    return layers


def _match(layers: Layers, reference: Layers) -> list[torch.Tensor]:
    """Permutations of the hidden layers with the highest similarity that is found.

    The layers are matched in turn, while the others stay, until nothing changes. Of two starts, the better counts: the
    given order, and one that matches the layers from the first to the last by their inputs.
    """
    starts = [[torch.arange(len(bias)) for _, bias in layers[:-1]] for _ in range(2)]
    for hidden in range(len(layers) - 1):
        starts[1][hidden] = _match_layer(layers, reference, starts[1], hidden, outputs=False)
    for permutations in starts:
        for _ in range(MAX_SWEEPS):
            before = list(permutations)
            for hidden in range(len(layers) - 1):
                permutations[hidden] = _match_layer(layers, reference, permutations, hidden)
            if all(map(torch.equal, before, permutations)):
                break
    wanted = _vector(reference)
    return max(starts, key=lambda permutations: (_vector(_permute(layers, permutations)) @ wanted).item())


def _match_layer(
    layers: Layers, reference: Layers, permutations: Sequence[torch.Tensor], hidden: int, outputs: bool = True
) -> torch.Tensor:
    """Best permutation of one hidden layer given the others, by the weights into it and, if `outputs`, out of it."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    others = [torch.arange(len(order)) if layer == hidden else order for layer, order in enumerate(permutations)]
    (weight, bias), (next_weight, _) = _permute(layers, others)[hidden : hidden + 2]
    (wanted, wanted_bias), (wanted_next, _) = reference[hidden : hidden + 2]
    products = wanted @ weight.mT + wanted_bias[:, None] * bias
    if outputs:
        products += wanted_next.mT @ next_weight
    return torch.from_numpy(linear_sum_assignment(products.numpy(), maximize=True)[1])


def _vector(layers: Layers) -> torch.Tensor:
    """All weights and biases of a network, `[N]`."""
    return torch.cat([tensor.flatten() for layer in layers for tensor in layer])
