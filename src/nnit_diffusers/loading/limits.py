"""Limits on sizes, checked before memory is allocated.

Configurations, indices and requests are untrusted. Every size in them is checked by [`check_size`] or
[`check_number`], and every list by [`check_numbers`] or a limit on its length. [`check_total`] checks what is built or
held at once. The limits are far above the size of any trainable model, and below the memory of a machine.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any


MAX_WIDTH = 2**16
"""Units of a layer, inputs or outputs of a network, channels of a model."""
MAX_DEPTH = 2**8
"""Hidden layers of a network, and blocks, heads or convolutions of a model."""
MAX_GENERATED_DEPTH = 2**6
"""Hidden layers of a network that is cut into patches."""
MAX_PATCH_SIZE = 2**7
"""Side of a patch of weights."""
MAX_TIMESTEPS = 10**5
"""Timesteps of a scheduler."""
MAX_PARAMETERS = 2**30
"""Parameters of one network or model: 4 GiB in single precision."""
MAX_NETWORKS = 2**17
"""Networks of one request."""
MAX_PATCHES = 2**24
"""Patches of one batch, padding included."""
MAX_WEIGHTS = 2**30
"""Weights of one batch, padding included."""
MAX_JSON_BYTES = 2**24
"""Size of a JSON file."""
MAX_TASKS = 2**10
"""Tasks of one model."""
MAX_ROWS = 10**8
"""Networks of a weight dataset."""


def check_size(name: str, value: Any, most: int = MAX_WIDTH, least: int = 1) -> int:
    """Returns `value` if it is an integer of `least` to `most`.

    Raises:
        `ValueError`: If it is not. The message has `name`, the received value and the allowed values.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of {least} or more, but received {shown(value)}.")
    if value > most:
        raise ValueError(f"`{name}` must be an integer of at most {most}, but received {shown(value)}.")
    return value


def as_integer(value: Any) -> int | None:
    """The integer that a value is: an `int`, or an integer of NumPy or torch; `None` for everything else."""
    # NumPy's booleans have no `__index__`; Python's have one.
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def check_count(name: str, value: Any, most: int = MAX_WIDTH, least: int = 1) -> int:
    """[`check_size`] of a request, which may be an integer of NumPy or torch as well; returns it as an `int`."""
    number = as_integer(value)
    return check_size(name, value if number is None else number, most, least)


def check_sizes(most: int = MAX_WIDTH, least: int = 1, **sizes: Any) -> None:
    """Calls [`check_size`] for several named arguments."""
    for name, value in sizes.items():
        check_size(name, value, most, least)


def check_number(name: str, value: Any, least: float, most: float) -> float:
    """Returns `value` if it is a number of `least` to `most`; NaN is refused.

    Raises:
        `ValueError`: If it is not.
    """
    if not _is_number(value) or not least <= value <= most:
        raise ValueError(f"`{name}` must be a number of {least} to {most}, but received {shown(value)}.")
    return value


def check_numbers(name: str, values: Any, count: int, positive: bool = False) -> None:
    """Raises `ValueError` unless `values` is a list or tuple of `count` finite numbers, above zero if `positive`."""
    kind = "positive" if positive else "finite"
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise ValueError(f"`{name}` must be {count} {kind} numbers, but received {shown(values)}.")
    for value in values:
        # Networks are float32, where larger float64 values would be infinite.
        if not _is_number(value) or not abs(value) < 2.0**127 or (positive and not value > 2.0**-126):
            raise ValueError(f"`{name}` must be {count} {kind} numbers, but received {shown(value)} among them.")


def check_statistics(
    mean: Sequence[float] | None, std: Sequence[float] | None, num_features: int, kind: str = "observation"
) -> None:
    """Raises `ValueError` unless both are `None` or valid statistics of `num_features` inputs or outputs."""
    if (mean is None) != (std is None):
        raise ValueError(f"`{kind}_mean` and `{kind}_std` must be given together, but received only one.")
    if mean is not None:
        check_numbers(f"{kind}_mean", mean, num_features)
        check_numbers(f"{kind}_std", std, num_features, positive=True)


def check_total(what: str, total: float, most: int, remedy: str = "") -> None:
    """Raises `ValueError` if `total` exceeds `most`.

    Parameters:
        what (`str`): Subject of the message, such as "The parameters of ...".
        total (`float`): Requested number.
        most (`int`): Maximum number.
        remedy (`str`, *optional*): A sentence with advice.
    """
    if total > most:
        raise ValueError(f"{what} may be {most:,} at most, but would be {int(total):,}.{remedy and ' ' + remedy}")


def shown(value: Any) -> str:
    """A value as text for an error message, shortened if long."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"an integer of {value.bit_length()} bits"


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False
