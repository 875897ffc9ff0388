"""What a task reports about itself: its metric, and the meaning of inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What the score of a network is called.

    Parameters:
        name (`str`): Name on the Hub, such as `"accuracy"`.
        title (`str`): Name for people, such as `"Accuracy"`.
        is_share (`bool`, defaults to `True`): Whether a score is the share of successes, rather than another number.
    """

    name: str
    title: str
    is_share: bool = True


@dataclass(frozen=True)
class Features:
    """Consecutive inputs or outputs of the same kind.

    Parameters:
        name (`str`): What they measure or control.
        size (`int`): Their number.
        unit (`str`, defaults to `""`): Their unit or range; empty if there is none.
    """

    name: str
    size: int
    unit: str = ""


def describe_layout(layout: Sequence[Features]) -> str:
    """A layout as one line: every group with its range of indices and its unit, such as `goal 25:28 (m)`."""
    parts, start = [], 0
    for features in layout:
        stop = start + features.size
        indices = f"{start}:{stop}" if features.size > 1 else f"{start}"
        parts.append(f"{features.name} {indices}" + (f" ({features.unit})" if features.unit else ""))
        start = stop
    return ", ".join(parts)
