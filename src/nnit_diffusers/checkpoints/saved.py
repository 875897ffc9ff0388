"""A network as a file of another program holds it, before it becomes an [`MLP`] or a teacher.

Shape legend: I/O input and output features of a layer or network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from ..architecture import ACTIVATIONS, MLPArchitecture
from ..folding import fold_observation_statistics
from ..loading.limits import MAX_DEPTH, MAX_PARAMETERS, MAX_WIDTH, check_total, shown


Layer = tuple[torch.Tensor, torch.Tensor]
"""Weight `[O, I]` and bias `[O]` of a linear layer."""
Statistics = tuple[torch.Tensor, torch.Tensor]
"""Mean `[I]` and standard deviation `[I]` that observations are normalised with: `(x - mean) / std`."""


class ActivationIsRecorded(ValueError):
    """An activation was named for a file that records another one."""


@dataclass(frozen=True, eq=False)
class SavedNetwork:
    """Linear layers, and what stands before, between and after them.

    Parameters:
        name (`str`): Path of the file.
        layers (`Sequence[Layer]`): Linear layers, from input to output.
        activation (`str`): Activation between them, one of `ACTIVATIONS`.
        statistics (`Statistics`, *optional*): What normalises observations before the first layer.
        squash (`tuple[torch.Tensor, torch.Tensor]`, *optional*):
            Scale `[O]` and offset `[O]` of outputs that tanh squashes: `scale * tanh(y) + offset`.

    Raises:
        `ValueError`: If layers are too many, too large, do not chain or are not finite.
    """

    name: str
    layers: Sequence[Layer]
    activation: str
    statistics: Statistics | None = None
    squash: tuple[torch.Tensor, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        name, layers = self.name, self.layers
        # sizes
        if len(layers) > MAX_DEPTH + 1:
            raise ValueError(f"{name!r} may have {MAX_DEPTH} hidden layers at most, but has {len(layers) - 1}.")
        if max(size for weight, _ in layers for size in weight.shape) > MAX_WIDTH:
            raise ValueError(f"{name!r} may have layers of {MAX_WIDTH} units at most, but has wider ones.")
        check_total(f"The parameters of {name!r}", sum(weight.numel() for weight, _ in layers), MAX_PARAMETERS)
        for (before, _), (after, _) in pairwise(layers):
            if before.shape[0] != after.shape[1]:
                raise ValueError(
                    f"{name!r} must have layers that chain, but one of {before.shape[0]} outputs is followed by one "
                    f"of {after.shape[1]} inputs."
                )
        # values
        for index, layer in enumerate(layers):
            if not all(tensor.isfinite().all() for tensor in layer):
                raise ValueError(f"{name!r} must have finite weights, but linear layer {index} has NaN or infinity.")
        if self.statistics is not None:
            check_statistics(f"The normaliser of {name!r}", self.statistics, self.in_features)

    @property
    def in_features(self) -> int:
        """Size of an observation."""
        return self.layers[0][0].shape[1]

    @property
    def out_features(self) -> int:
        """Size of an output."""
        return self.layers[-1][0].shape[0]

    @property
    def architecture(self) -> MLPArchitecture:
        """The architecture of an [`MLP`] that computes the same.

        Raises:
            `ValueError`: If there is none: without a hidden layer, or with outputs that are scaled after tanh.
        """
        if len(self.layers) < 2:
            raise ValueError(f"{self.name!r} must have a hidden layer to be an MLP, but is a single linear layer.")
        if self.squash is not None:
            scale_O, offset_O = self.squash
            if bool((scale_O != 1).any()) or bool((offset_O != 0).any()):
                low, high = ((offset_O + sign * scale_O).tolist() for sign in (-1, 1))
                raise ValueError(
                    f"{self.name!r} scales its outputs after tanh, to {shown(low)}…{shown(high)}, which an MLP can't "
                    "hold: it has tanh alone, for -1…1. A policy like that can still be a teacher."
                )
        hidden_sizes = tuple(weight.shape[0] for weight, _ in self.layers[:-1])
        output_activation = None if self.squash is None else "tanh"
        return MLPArchitecture(self.in_features, hidden_sizes, self.out_features, self.activation, output_activation)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights in float32, with the keys of an [`MLP`], for raw observations: statistics are folded in."""
        tensors = {
            f"{2 * index}.{name}": tensor.detach().float().contiguous()
            for index, layer in enumerate(self.layers)
            for name, tensor in zip(("weight", "bias"), layer)
        }
        return tensors if self.statistics is None else fold_observation_statistics(tensors, *self.statistics)

    def with_statistics(self, mean: object, std: object) -> SavedNetwork:
        """The same network behind a normaliser, `(x - mean) / std`.

        Raises:
            `ValueError`: If only one of both is given, they do not fit, or the file already has a normaliser.
        """
        if (mean is None) != (std is None):
            raise ValueError("`observation_mean` and `observation_std` must be given together, but one is missing.")
        if mean is None:
            return self
        if self.statistics is not None:
            raise ValueError(
                f"`observation_mean` must not be given for {self.name!r}, which has a normaliser of its own."
            )
        try:
            mean_I, std_I = (torch.as_tensor(values, dtype=torch.float64) for values in (mean, std))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"`observation_mean` and `observation_std` must be numbers, but received {shown(mean)} and "
                f"{shown(std)}."
            ) from error
        statistics = mean_I.reshape(-1), std_I.reshape(-1)
        check_statistics("`observation_mean` and `observation_std`", statistics, self.in_features)
        return replace(self, statistics=statistics)


def check_statistics(what: str, statistics: Statistics, in_features: int) -> None:
    """Raises `ValueError` unless mean and std are finite, of the right size, and std is positive."""
    for kind, values in zip(("mean", "std"), statistics):
        if values.numel() != in_features:
            raise ValueError(f"{what} must have {in_features} numbers each, but the {kind} has {values.numel()}.")
        is_valid = values.isfinite() & (values > 0) if kind == "std" else values.isfinite()
        if not is_valid.all():
            index = int((~is_valid).nonzero()[0])
            wanted = "positive and finite" if kind == "std" else "finite"
            raise ValueError(f"{what} must have a {wanted} {kind}, but received {values[index]} at index {index}.")


def chosen_activation(name: str, given: str | None, recorded: str | None, known: str | None = None) -> str:
    """The activation of a file: what it records, else what the user gives, else what its layout is known to have.

    Raises:
        `ActivationIsRecorded`: If the user gives another one than the file records.
        `ValueError`: If there is none, or it is not one of `ACTIVATIONS`.
    """
    for activation in (given, recorded):
        if activation is not None and activation not in ACTIVATIONS:
            raise ValueError(f"`activation` of {name!r} must be one of {ACTIVATIONS}, but is {shown(activation)}.")
    if recorded is not None and given not in (None, recorded):
        raise ActivationIsRecorded(f"`activation` of {name!r} is recorded as {recorded!r}, but received {given!r}.")
    chosen = recorded or given or known
    if chosen is None:
        raise ValueError(f"`activation` must be given for {name!r}, which does not record it: one of {ACTIVATIONS}.")
    return chosen
