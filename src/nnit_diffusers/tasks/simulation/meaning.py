"""The terms of a network's contract, from what an environment and its task describe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...contract import IOTerm
from ..metadata import Features
from .contract import Contract


def shortest(number: float) -> float:
    """A float32 as the shortest decimal that is read back as the same float32: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(number)))


def terms_of(layout: Sequence[Features]) -> tuple[IOTerm, ...]:
    """A layout as terms.

    The unit of [`Features`] may be a range or a list. What lists as many words as there are numbers names the numbers,
    and what has several words, such as `0 or 1`, is a description.
    """
    terms = []
    for features in layout:
        names = tuple(features.unit.split(", "))
        field = "description" if " " in features.unit else "units"
        meaning = {"element_names": names} if len(names) == features.size > 1 else {field: features.unit or None}
        terms.append(IOTerm(features.name, (features.size,), **meaning))
    return tuple(terms)


def observation_terms(contract: Contract, layout: Sequence[Features]) -> tuple[IOTerm, ...]:
    """The inputs of a policy, in the groups of a task's layout, with the joints that the environment names.

    Parameters:
        contract ([`Contract`]): The environment's own description.
        layout (`Sequence[Features]`): The task's own layout, which may be that of the contract.
    """
    if tuple(layout) == contract.observation_layout and contract.observation_terms:
        return contract.observation_terms
    joint_of: list[str | None] = []
    for term in contract.observation_terms:
        joint_of += term.joint_names or [None] * term.size
    terms, start = [], 0
    for term in terms_of(layout):
        joints = joint_of[start : start + term.size]
        start += term.size
        names = tuple(name for name in joints if name is not None)
        terms.append(replace(term, joint_names=names) if len(names) == term.size else term)
    return tuple(terms)


def action_terms(contract: Contract, layout: Sequence[Features]) -> tuple[IOTerm, ...]:
    """The outputs of a policy with their bounds: the parts that the environment names, or the task's layout."""
    terms = contract.action_terms or terms_of(layout)
    if contract.is_discrete:
        return terms
    pairs = [(_bound(low), _bound(high)) for low, high in zip(contract.action_low, contract.action_high)]
    bounded, start = [], 0
    for term in terms:
        own = pairs[start : start + term.size]
        start += term.size
        has_bounds = any(bound is not None for pair in own for bound in pair)
        # what a layout adds are the bounds, in words
        description = term.description if contract.action_terms else None
        bounded.append(replace(term, description=description, clip=tuple(own) if has_bounds else ()))
    return tuple(bounded)


def _bound(number: float) -> float | None:
    """A bound of an action; JSON has no infinity."""
    return shortest(number) if math.isfinite(number) else None
