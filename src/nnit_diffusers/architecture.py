"""Architectures of MLPs, and their conversion to tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .loading.limits import MAX_DEPTH, MAX_PARAMETERS, MAX_WIDTH, as_integer, check_total, shown


ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "elu", "leaky_relu")
"""Activations between linear layers, with torch's defaults: alpha 1 for `elu`, slope 0.01 for `leaky_relu`."""
OUTPUT_ACTIVATIONS = ("tanh",)
"""Activations after the last linear layer."""

MASK_TOKEN = 0
"""Token of an unknown slot: the mask of the discrete diffusion."""
NONE_TOKEN = 1
"""Token of an unused slot, after the last hidden layer."""
WIDTH_TOKEN_OFFSET = 1
"""A hidden layer of width `w` has the token `w + WIDTH_TOKEN_OFFSET`; there is no largest token."""


def check_width(width: Any, name: str = "hidden_sizes") -> int:
    """Returns `width`, or raises `ValueError` if it is not an integer of 1 to `MAX_WIDTH`."""
    number = as_integer(width)
    if number is None or number < 1:
        kind = type(width).__name__
        raise ValueError(f"`{name}` must hold integers of 1 or more, but received {shown(width)} ({kind}).")
    if number > MAX_WIDTH:
        raise ValueError(f"`{name}` must hold integers of at most {MAX_WIDTH}, but received {shown(width)}.")
    return number


def check_activation(activation: Any) -> None:
    """Raises `ValueError` if `activation` is not one of `ACTIVATIONS`."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"`activation` must be one of {ACTIVATIONS}, but received {shown(activation)}.")


@dataclass(frozen=True)
class MLPArchitecture:
    """Layer sizes and activations of a multi-layer perceptron.

    Parameters:
        in_features (`int`): Size of one input.
        hidden_sizes (`tuple[int, ...]`): Width of every hidden layer, from input to output; at least one.
        out_features (`int`): Size of one output.
        activation (`str`, defaults to `"relu"`): Activation between the linear layers, one of `ACTIVATIONS`.
        output_activation (`str`, *optional*):
            `"tanh"` bounds the outputs to -1…1, as in some policies that others trained. Generated networks have none.

    Raises:
        `ValueError`: If a size is not a positive integer or exceeds what `loading.limits` allows, there is no hidden
            layer, or an activation is unknown.
    """

    in_features: int
    hidden_sizes: tuple[int, ...]
    out_features: int
    activation: str = "relu"
    output_activation: str | None = None

    def __post_init__(self) -> None:
        # check every size
        for name in ("in_features", "out_features"):
            object.__setattr__(self, name, check_width(getattr(self, name), name))
        if isinstance(self.hidden_sizes, (str, bytes)) or not isinstance(self.hidden_sizes, Iterable):
            raise ValueError(
                f"`hidden_sizes` must be a sequence of integers, but received {shown(self.hidden_sizes)}."
            )
        object.__setattr__(self, "hidden_sizes", tuple(check_width(width) for width in self.hidden_sizes))
        if not self.hidden_sizes:
            raise ValueError("`hidden_sizes` must name at least one hidden layer, but received none.")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"`hidden_sizes` may have {MAX_DEPTH} hidden layers at most, but received {self.depth}.")
        # check the activations and the total number of parameters
        check_activation(self.activation)
        if self.output_activation is not None and self.output_activation not in OUTPUT_ACTIVATIONS:
            raise ValueError(
                f"`output_activation` must be None or one of {OUTPUT_ACTIVATIONS}, but received "
                f"{shown(self.output_activation)}."
            )
        check_total(f"The parameters of {self}", self.num_parameters, MAX_PARAMETERS)

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.hidden_sizes)

    @property
    def layer_shapes(self) -> list[tuple[int, int]]:
        """`(out_features, in_features)` of every linear layer, from input to output."""
        sizes = (self.in_features, *self.hidden_sizes, self.out_features)
        return [(sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)]

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors in the state dict of an [`MLP`], by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (out_features, in_features) in enumerate(self.layer_shapes):
            shapes |= {f"{2 * layer}.weight": (out_features, in_features), f"{2 * layer}.bias": (out_features,)}
        return shapes

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(out_features * (in_features + 1) for out_features, in_features in self.layer_shapes)

    def tokens(self, max_depth: int) -> list[int]:
        """Converts the architecture to `max_depth` tokens: one per hidden layer, then `NONE_TOKEN`.

        Raises:
            `ValueError`: If the architecture has more than `max_depth` hidden layers.
        """
        if self.depth > max_depth:
            raise ValueError(
                f"`hidden_sizes` may have 1 to {max_depth} hidden layers, but received {self.depth}: "
                f"{list(self.hidden_sizes)}."
            )
        return [width + WIDTH_TOKEN_OFFSET for width in self.hidden_sizes] + [NONE_TOKEN] * (max_depth - self.depth)

    @classmethod
    def from_tokens(
        cls, tokens: Sequence[int], in_features: int, out_features: int, activation: str = "relu"
    ) -> MLPArchitecture:
        """Inverse of [`~MLPArchitecture.tokens`].

        Raises:
            `ValueError`: If a token is still masked, or a width follows a `NONE_TOKEN`.
        """
        tokens = [int(token) for token in tokens]
        depth = tokens.index(NONE_TOKEN) if NONE_TOKEN in tokens else len(tokens)
        if MASK_TOKEN in tokens or any(token != NONE_TOKEN for token in tokens[depth:]):
            raise ValueError(f"`tokens` must be widths followed by {NONE_TOKEN} (none), but received {tokens}.")
        return cls(in_features, tuple(t - WIDTH_TOKEN_OFFSET for t in tokens[:depth]), out_features, activation)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary; `MLPArchitecture(**architecture.to_dict())` restores the architecture.

        It has an `output_activation` only if the architecture has one.
        """
        return {
            "in_features": self.in_features,
            "hidden_sizes": list(self.hidden_sizes),
            "out_features": self.out_features,
            "activation": self.activation,
            **({} if self.output_activation is None else {"output_activation": self.output_activation}),
        }

    def __str__(self) -> str:
        sizes = "-".join(str(size) for size in (self.in_features, *self.hidden_sizes, self.out_features))
        return sizes if self.output_activation is None else f"{sizes}-{self.output_activation}"

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in vars(self).items() if value is not None]
        return f"{type(self).__name__}({', '.join(given)})"


def check_no_output_activation(name: str, architecture: MLPArchitecture) -> None:
    """Raises `ValueError`, about the argument `name`, if outputs are bounded, as those of no generated network are."""
    if architecture.output_activation is not None:
        raise ValueError(f"`{name}` must have no output activation, but received {architecture}.")
