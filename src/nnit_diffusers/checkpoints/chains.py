"""Graphs of operators as a chain of linear layers: what a program computes, found without running it.

A graph is walked node by node. A value is a constant, or a [`Signal`]: what observations have become so far, as linear
layers and the elementwise steps since the last of them. Before a layer, and before the outputs, these steps have to be
an activation, recognised by what it computes, or part of a normaliser or a squashing.

Shape legend: I/O input and output features of a layer, F features of a signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import torch

from ..loading.limits import MAX_PARAMETERS, check_total
from .saved import SavedNetwork, chosen_activation


Elementwise = Callable[[np.ndarray], np.ndarray]
_EXPORT = "Only linear layers and activations become an MLP."
_MOST_STEPS = 64
"""Elementwise operators between two layers. GELU is the longest activation, of five."""


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, in float64."""
    return torch.erf(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, in float64."""
    return torch.sigmoid(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """ELU of any `alpha`."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def leaky_relu(x: np.ndarray, slope: float = 0.01) -> np.ndarray:
    """Leaky ReLU of any slope."""
    return np.where(x > 0, x, slope * x)


NUMPY_ACTIVATIONS: dict[str, Callable[..., np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "silu": lambda x: x * sigmoid(x),
    "elu": elu,
    "leaky_relu": leaky_relu,
}
"""The activations of `ACTIVATIONS` in float64; `elu` and `leaky_relu` take their parameter as well."""
# where functions are compared: near zero, and far out, where a clip would show
_POINTS = np.concatenate([np.linspace(-12, 12, 481), 10.0 ** np.arange(-4, 7), -(10.0 ** np.arange(-4, 7))])


@dataclass(frozen=True)
class Step:
    """An elementwise operator.

    Parameters:
        name (`str`): Name of the operator, for errors.
        function (`Elementwise`): What it computes.
        affine (`tuple[np.ndarray, np.ndarray]`, *optional*): Scale and shift, of shape `[F]` or `[]`.
        clip (`tuple[float, float]`, *optional*): Lowest and highest value.
        cost (`int`, defaults to 1): Number of operators in it.
    """

    name: str
    function: Elementwise
    affine: tuple[np.ndarray, np.ndarray] | None = None
    clip: tuple[float, float] | None = None
    cost: int = 1


@dataclass(frozen=True, eq=False)
class Signal:
    """What observations have become at some point of a graph.

    Parameters:
        num_features (`int`): Features F of the signal.
        layers (`tuple[tuple[np.ndarray, np.ndarray], ...]`): Weight `[O, I]` and bias `[O]` of the layers so far.
        activations (`tuple[str, ...]`): Activations between them.
        steps (`tuple[Step, ...]`): Elementwise operators since the last layer, or since the observations.
        statistics (`tuple[np.ndarray, np.ndarray]`, *optional*): Mean `[I]` and standard deviation `[I]`.
    """

    num_features: int
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    activations: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    statistics: tuple[np.ndarray, np.ndarray] | None = field(default=None)


Value = np.ndarray | Signal


class ChainReader:
    """Applies operators to values.

    Parameters:
        name (`str`): Path of the file, for errors.
        ignore_clip (`bool`): Leave out clips of observations and outputs.
    """

    def __init__(self, name: str, ignore_clip: bool):
        self.name = name
        self.ignore_clip = ignore_clip

    def refusal(self, what: str) -> ValueError:
        """The error for a graph that is no MLP."""
        return ValueError(f"{self.name!r} {what}. {_EXPORT}")

    # operators

    def linear(self, signal: Value, weight_OI: Value, bias_O: Value | None) -> Signal:
        """A linear layer."""
        if not isinstance(signal, Signal) or isinstance(weight_OI, Signal) or isinstance(bias_O, Signal):
            raise self.refusal("multiplies matrices that are no weights")
        if weight_OI.dtype.kind != "f" or (bias_O is not None and bias_O.dtype.kind != "f"):
            raise self.refusal(f"has weights of type {weight_OI.dtype}, where floating point is expected")
        if weight_OI.ndim != 2 or weight_OI.shape[1] != signal.num_features:
            raise self.refusal(f"has a layer of weights {list(weight_OI.shape)} for {signal.num_features} features")
        out_features = weight_OI.shape[0]
        bias_O = np.zeros(out_features, weight_OI.dtype) if bias_O is None else np.squeeze(bias_O)
        if bias_O.size not in (1, out_features) or bias_O.ndim > 1:
            raise self.refusal(f"has a bias {list(bias_O.shape)} for weights {list(weight_OI.shape)}")
        layer = (weight_OI, np.broadcast_to(bias_O, (out_features,)))
        if not signal.layers:
            return Signal(out_features, (layer,), statistics=self._normaliser(signal))
        # what stands between the last layer and this one must be an activation
        before, activation, after = self._resolved(signal)
        if activation is None or after:
            found = ", ".join(step.name for step in signal.steps) or "nothing"
            raise self.refusal(f"has {found} between two linear layers, where one activation is expected")
        layers = (*signal.layers[:-1], _rescaled(signal.layers[-1], before), layer)
        return Signal(out_features, layers, (*signal.activations, activation), statistics=signal.statistics)

    def apply(self, value: Value, name: str, function: Elementwise) -> Value:
        """An elementwise function."""
        if not isinstance(value, Signal):
            return function(value)
        return self._with_step(value, Step(name, function))

    def clip(self, value: Value, low: float, high: float) -> Value:
        """Limits values to `low`…`high`, which may be infinite."""

        def function(x: np.ndarray) -> np.ndarray:
            return np.clip(x, low, high)

        if not isinstance(value, Signal):
            return function(value)
        is_relu = (low, high) == (0.0, math.inf)
        return self._with_step(value, Step("Clip", function, clip=None if is_relu else (low, high)))

    def arithmetic(self, name: str, left: Value, right: Value) -> Value:
        """`Add`, `Sub`, `Mul` or `Div` of constants, of a signal and a constant, or of two branches of a signal."""
        operation = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[name]
        if not isinstance(left, Signal) and not isinstance(right, Signal):
            check_total(f"The numbers of {self.name!r}", left.size * right.size, MAX_PARAMETERS)
            return np.asarray(operation(left, right))
        if isinstance(left, Signal) and isinstance(right, Signal):
            return self._joined(name, operation, left, right)
        # a signal and a constant: an affine step, except for a constant divided by a signal
        signal, constant, is_first = (left, right, True) if isinstance(left, Signal) else (right, left, False)
        assert isinstance(signal, Signal) and not isinstance(constant, Signal)
        constant_F = self._per_feature(signal, constant)
        one, zero = np.ones(()), np.zeros(())
        with np.errstate(divide="ignore", invalid="ignore"):
            affine = {
                "Add": (one, constant_F),
                "Sub": (one, -constant_F) if is_first else (-one, constant_F),
                "Mul": (constant_F, zero),
                "Div": (1 / constant_F, zero) if is_first else None,
            }[name]
        if affine is None:
            raise self.refusal("divides a constant by observations")
        scale_F, shift_F = affine
        return self._with_step(signal, Step(name, lambda x: x * scale_F + shift_F, affine=affine))

    def finish(self, value: Value, activation: str | None) -> SavedNetwork:
        """The network whose outputs are a signal.

        Parameters:
            value (`Value`): The outputs.
            activation (`str`, *optional*): Activation that a user names.

        Raises:
            `ValueError`: If it is not an MLP, or another activation is named than it has.
        """
        if not isinstance(value, Signal) or not value.layers:
            raise self.refusal("has outputs that no linear layer computes from the observations")
        before, last, after = self._resolved(value)
        if last not in (None, "tanh"):
            raise self.refusal(f"ends in {last}, where tanh or nothing is expected")
        # after tanh, a scale and an offset; a clip to -1…1 changes nothing there
        scale_O, shift_O = np.ones(()), np.zeros(())
        is_bounded = last == "tanh"
        for step in after:
            if step.clip is not None:
                is_idle = is_bounded and step.clip[0] <= -1 and step.clip[1] >= 1
                if not is_idle:
                    self._check_clip(step.clip, "its outputs")
                continue
            scale, shift = step.affine or (np.ones(()), np.zeros(()))
            scale_O, shift_O, is_bounded = scale_O * scale, shift_O * scale + shift, False
        if last is None:  # what follows a clip that is ignored belongs to the layer as well
            before = [*before, *(step for step in after if step.affine is not None)]
        layers = (*value.layers[:-1], _rescaled(value.layers[-1], before))
        kinds = sorted(set(value.activations))
        if len(kinds) > 1:
            raise self.refusal(f"mixes the activations {kinds}")
        # a single layer has no activation
        recorded = kinds[0] if kinds else "relu"
        num_outputs = (value.num_features,)
        squash = tuple(torch.tensor(np.broadcast_to(each, num_outputs)).float() for each in (scale_O, shift_O))
        return SavedNetwork(
            self.name,
            [(_tensor(weight), _tensor(bias)) for weight, bias in layers],
            chosen_activation(self.name, activation if kinds else None, recorded),
            None if value.statistics is None else (_tensor(value.statistics[0]), _tensor(value.statistics[1])),
            (squash[0], squash[1]) if last == "tanh" else None,
        )

    # steps between layers

    def _with_step(self, signal: Signal, step: Step) -> Signal:
        steps = (*signal.steps, step)
        if sum(each.cost for each in steps) > _MOST_STEPS:
            raise self.refusal(f"has more than {_MOST_STEPS} operators between two layers")
        return Signal(signal.num_features, signal.layers, signal.activations, steps, signal.statistics)

    def _per_feature(self, signal: Signal, constant: np.ndarray) -> np.ndarray:
        """A constant `[F]`, or `[]` if it is the same for every feature, in float64."""
        is_vector = constant.dtype.kind in "fiu" and constant.size == max((1, *constant.shape))
        if not is_vector or constant.size not in (1, signal.num_features):
            raise self.refusal(
                f"combines {signal.num_features} features with a constant of shape {list(constant.shape)}"
            )
        flat = constant.astype(np.float64).reshape(-1)
        return flat.reshape(()) if flat.size == 1 and signal.num_features > 1 else flat

    def _joined(self, name: str, operation: Callable[..., np.ndarray], left: Signal, right: Signal) -> Signal:
        """Two branches of one signal as one step: `x * sigmoid(x)`."""
        common = 0
        for one, other in zip(left.steps, right.steps):
            if one is not other:
                break
            common += 1
        branches = left.steps[common:], right.steps[common:]
        is_scalar = all(_is_scalar(step) for branch in branches for step in branch)
        if left.layers is not right.layers or left.num_features != right.num_features or not is_scalar:
            raise self.refusal(f"has {name} of two branches, which is no activation")
        steps = Step(
            name,
            lambda x: operation(_composed(branches[0])(x), _composed(branches[1])(x)),
            cost=1 + sum(step.cost for branch in branches for step in branch),
        )
        base = Signal(left.num_features, left.layers, left.activations, left.steps[:common], left.statistics)
        return self._with_step(base, steps)

    def _normaliser(self, signal: Signal) -> tuple[np.ndarray, np.ndarray] | None:
        """The steps before the first layer, as mean and standard deviation."""
        scale_F, shift_F = np.ones(signal.num_features), np.zeros(signal.num_features)
        is_normalised = False
        for step in signal.steps:
            if step.clip is not None:
                self._check_clip(step.clip, "its normalised observations" if is_normalised else "its observations")
            elif step.affine is not None:
                scale_F, shift_F = scale_F * step.affine[0], shift_F * step.affine[0] + step.affine[1]
                is_normalised = True
            else:
                raise self.refusal(f"has {step.name} before the first layer")
        if not is_normalised:
            return None
        if not (np.isfinite(scale_F) & (scale_F > 0)).all():
            raise self.refusal("scales observations by a number that is not positive and finite")
        return -shift_F / scale_F, 1 / scale_F

    def _resolved(self, signal: Signal) -> tuple[list[Step], str | None, list[Step]]:
        """The steps after a layer: affine ones, the activation, and what follows it."""
        steps = list(signal.steps)
        nonlinear = [index for index, step in enumerate(steps) if step.affine is None and step.clip is None]
        if not nonlinear:
            # affine steps up to a clip belong to the layer
            end = next((index for index, step in enumerate(steps) if step.clip is not None), len(steps))
            return steps[:end], None, steps[end:]
        first, last = nonlinear[0], nonlinear[-1]
        # a scale that follows may be a part of the activation: 0.5 of GELU
        for end in (last + 1, last + 2):
            with np.errstate(over="ignore", invalid="ignore"):
                found = _recognised(steps[first:end])
            if found is not None:
                before = steps[:first]
                if any(step.clip is not None for step in before):
                    raise self.refusal(f"clips values before {found}")
                return before, found, steps[end:]
        names = ", ".join(step.name for step in steps[first : last + 1])
        raise self.refusal(
            f"has {names} after a linear layer, which is none of the activations {list(NUMPY_ACTIVATIONS)}"
        )

    def _check_clip(self, bounds: tuple[float, float], what: str) -> None:
        if not self.ignore_clip:
            raise ValueError(
                f"{self.name!r} clips {what} to {bounds[0]:g}…{bounds[1]:g}, which an MLP can't hold. Pass "
                "`ignore_clip=True`, on the command line `--ignore-clip`, to read it without: where the clip never "
                "acts, or where the environment clips."
            )


def _is_scalar(step: Step) -> bool:
    return step.affine is None or all(each.size == 1 for each in step.affine)


def _composed(steps: Sequence[Step]) -> Elementwise:
    return lambda x: reduce(lambda value, step: step.function(value), steps, x)


def _recognised(steps: Sequence[Step]) -> str | None:
    """The activation that elementwise steps compute, found by comparing values."""
    if not all(map(_is_scalar, steps)):
        return None
    found = np.broadcast_to(_composed(steps)(_POINTS), _POINTS.shape)
    for name, function in NUMPY_ACTIVATIONS.items():
        # float32 constants, such as the square root of 2, are this exact
        if np.allclose(found, function(_POINTS), rtol=1e-6, atol=1e-6):
            return name
    return None


def _rescaled(layer: tuple[np.ndarray, np.ndarray], steps: Sequence[Step]) -> tuple[np.ndarray, np.ndarray]:
    """A layer with the affine steps that follow it."""
    weight, bias = (tensor.astype(np.float64) for tensor in layer)
    for step in steps:
        scale, shift = step.affine or (np.ones(()), np.zeros(()))
        weight, bias = weight * (scale[:, None] if scale.ndim else scale), bias * scale + shift
    return weight, bias


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.asarray(array, dtype=np.float64))
