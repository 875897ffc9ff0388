"""Architectures that match a request and its parameter budget."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..architecture import MASK_TOKEN, NONE_TOKEN, WIDTH_TOKEN_OFFSET, MLPArchitecture, check_width
from ..loading.limits import MAX_GENERATED_DEPTH, shown


ArchitectureLike = MLPArchitecture | Sequence[int | None]
"""Architecture as a user requests it: hidden widths, `None` for those that the model chooses."""

HiddenSizes = tuple[int | None, ...] | None
"""Parsed request; `None` instead of a tuple leaves the depth open as well."""

MAX_WIDTH_FACTOR = 16
"""Maximum requested width, as a multiple of the largest width seen in training."""

# sizes from input to output: each is known, unknown (`None`), or an array of values that are tried at once
_Sizes = list[Any]


def parse_architectures(arch: ArchitectureLike | Sequence[ArchitectureLike] | None) -> list[HiddenSizes]:
    """Parses the `arch` of a pipeline call: one architecture or several, each known fully, partly or not at all.

    Raises:
        `ValueError`: If `arch` has another form.
    """
    if arch is None:
        return [None]
    entries = _listed(arch)
    if isinstance(entries, list) and any(isinstance(_listed(entry), (list, MLPArchitecture)) for entry in entries):
        return [_parse_architecture(entry) for entry in entries]
    return [_parse_architecture(entries)]


def _listed(arch: Any) -> Any:
    """Lists, tuples, ranges and arrays as lists; anything else as it is."""
    # A numpy array or a tensor, of any number of dimensions but none.
    if isinstance(arch, (np.ndarray, torch.Tensor)) and arch.ndim:
        return arch.tolist()
    return list(arch) if isinstance(arch, (list, tuple, range)) else arch


def _parse_architecture(arch: Any) -> HiddenSizes:
    arch = _listed(arch)
    if isinstance(arch, MLPArchitecture):
        return arch.hidden_sizes
    if not isinstance(arch, list):
        raise ValueError(
            "`arch` must be a list of hidden widths, an `MLPArchitecture`, a list of either, or `None`, but received "
            f"{shown(arch)}."
        )
    if not arch:
        raise ValueError("`arch` must name at least one hidden layer, but received none.")
    return tuple(None if width is None else check_width(width, "arch") for width in arch)


@dataclass(frozen=True)
class ArchitectureSpace:
    """Architectures that match a request: its known widths, the range of unknown ones, and the parameter budget.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output.
        hidden_sizes (`tuple[int | None, ...]`, *optional*):
            Known widths, `None` for unknown ones. `None` instead of a tuple leaves the depth open as well.
        min_width, max_width (`int`): Range of unknown widths, inclusive.
        min_depth, max_depth (`int`): Range of the number of hidden layers if the depth is open, inclusive.
        num_slots (`int`): Number of architecture tokens; a deeper request has one for each of its layers.
        min_parameters, max_parameters (`int`, *optional*): Parameter budget, inclusive.
    """

    in_features: int
    out_features: int
    hidden_sizes: HiddenSizes
    min_width: int
    max_width: int
    min_depth: int
    max_depth: int
    num_slots: int
    min_parameters: int | None = None
    max_parameters: int | None = None

    @property
    def narrowest(self) -> int:
        """The narrowest known width; `min_width` if none is known."""
        return min((width for width in self.hidden_sizes or () if width is not None), default=self.min_width)

    def tokens(self) -> list[int]:
        """Architecture tokens, `MASK_TOKEN` where unknown."""
        if self.hidden_sizes is None:
            return [MASK_TOKEN] * self.num_slots
        known = [MASK_TOKEN if width is None else width + WIDTH_TOKEN_OFFSET for width in self.hidden_sizes]
        return known + [NONE_TOKEN] * (self.num_slots - len(known))

    def check(self) -> None:
        """Checks that some architecture matches the request.

        Raises:
            `ValueError`: If the request is too deep or too wide, a range is invalid, or no architecture meets the
                budget. The message names what is allowed.
        """
        # requested depth and widths
        hidden_sizes = list(self.hidden_sizes or ())
        deepest = max(self.num_slots, MAX_GENERATED_DEPTH)
        if len(hidden_sizes) > deepest:
            raise ValueError(
                f"`arch` may have 1 to {deepest} hidden layers, but received {len(hidden_sizes)}: "
                f"{shown(hidden_sizes)}."
            )
        limit = MAX_WIDTH_FACTOR * self.max_width
        if any(width is not None and width > limit for width in hidden_sizes):
            raise ValueError(f"`arch` may have widths of 1 to {limit}, but received {shown(hidden_sizes)}.")
        # ranges of unknown widths and depths
        for name, value, most in (
            ("min_width", self.min_width, self.max_width),
            ("max_depth", self.max_depth, self.num_slots),
            ("min_depth", self.min_depth, self.max_depth),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"`{name}` must be 1 to {most}, but received {shown(value)}.")

        # parameter budget
        choices = [self._sizes(self.tokens(), depth) for depth in self._depths(self.tokens())]
        if any(self._can_meet(sizes) for sizes in choices):
            return
        fewest = min(self._count(sizes, self.min_width) for sizes in choices)
        most = max(self._count(sizes, self.max_width) for sizes in choices)
        wanted = None if self.hidden_sizes is None else list(self.hidden_sizes)
        reach = f"has {fewest}" if fewest == most else f"can have {fewest} to {most}"
        gaps = "" if fewest == most else ", but not every number in between"
        raise ValueError(
            f"`min_parameters` and `max_parameters` must leave an architecture to generate, but received "
            f"{self.min_parameters} and {self.max_parameters}: `arch={wanted}` {reach} parameters{gaps}."
        )

    def allowed_tokens(self, tokens: Sequence[int], slot: int) -> torch.Tensor:
        """Tokens that a masked slot may become, given the tokens of the other slots, of which some may be masked.

        Parameters:
            tokens (`Sequence[int]`): Tokens of all S slots.
            slot (`int`): Index of the masked slot.

        Returns:
            `torch.Tensor`: `[V]` booleans over the transformer's vocabulary.
        """
        return _allowed_tokens(self, tuple(tokens), slot)

    def _depths(self, tokens: Sequence[int]) -> list[int]:
        """Numbers of hidden layers that agree with the tokens."""
        depths = range(self.min_depth, self.max_depth + 1) if self.hidden_sizes is None else [len(self.hidden_sizes)]
        behind = (MASK_TOKEN, NONE_TOKEN)
        return [d for d in depths if NONE_TOKEN not in tokens[:d] and all(token in behind for token in tokens[d:])]

    def _sizes(self, tokens: Sequence[int], depth: int) -> _Sizes:
        """Sizes of a network of `depth` hidden layers, `None` where a token is masked."""
        hidden = [None if token == MASK_TOKEN else token - WIDTH_TOKEN_OFFSET for token in tokens[:depth]]
        return [self.in_features, *hidden, self.out_features]

    @property
    def _widths(self) -> np.ndarray:
        return np.arange(self.min_width, self.max_width + 1)

    @property
    def _least(self) -> int:
        return self.min_parameters or 0

    @property
    def _most(self) -> int:
        return sys.maxsize if self.max_parameters is None else self.max_parameters

    def _count(self, sizes: _Sizes, unknown: int = 0) -> Any:
        """Number of parameters of a network of these sizes, with `unknown` for every unknown size."""
        filled = [unknown if size is None else size for size in sizes]
        return sum((filled[i] + 1) * filled[i + 1] for i in range(len(filled) - 1))

    def _meets(self, count: Any) -> Any:
        return (count >= self._least) & (count <= self._most)

    def _verdict(self, sizes: _Sizes) -> tuple[Any, Any]:
        """Whether the unknown sizes can certainly meet the budget, and whether that is still undecided.

        The number of parameters grows with every size. Suppose the smallest network is below the budget and the
        largest above it. Growing the smallest one unit at a time to the largest then meets the budget, unless a single
        step adds more parameters than the budget range holds.
        """
        # networks with the smallest and with the largest unknown sizes
        fewest, most = self._count(sizes, self.min_width), self._count(sizes, self.max_width)
        straddles = (fewest < self._least) & (most > self._most)
        # most parameters that one more unit of an unknown size can add
        largest = [self.max_width if size is None else size for size in sizes]
        steps = [largest[i - 1] + 1 + largest[i + 1] for i, size in enumerate(sizes) if size is None]
        can_jump_over = np.max(np.broadcast_arrays(0, *steps), axis=0) > self._most - self._least + 1
        certain = self._meets(fewest) | self._meets(most) | (straddles & ~can_jump_over)
        return certain, straddles & can_jump_over

    def _can_meet(self, sizes: _Sizes) -> bool:
        """Whether the unknown sizes can meet the budget."""
        certain, is_open = self._verdict(sizes)
        if certain or not is_open:
            return bool(certain)
        # undecided: try every value of the first unknown size
        first, *others = [index for index, size in enumerate(sizes) if size is None]
        if len(others) > 1:
            return any(self._can_meet(_with(sizes, first, width)) for width in self._widths.tolist())
        tried = _with(sizes, first, self._widths) if others else sizes
        # The count is linear in the last unknown size, so solve for the values that meet the budget.
        last = others[0] if others else first
        offset, slope = self._count(_with(tried, last, 0)), tried[last - 1] + 1 + tried[last + 1]
        least = np.maximum(-((offset - self._least) // slope), self.min_width)
        most = np.minimum((self._most - offset) // slope, self.max_width)
        return bool(np.any(least <= most))

    def _widths_that_meet(self, sizes: _Sizes, index: int) -> np.ndarray:
        """`[max_width - min_width + 1]` booleans: values of one unknown size with which the budget can be met."""
        meets, is_open = self._verdict(_with(sizes, index, self._widths))
        for choice in np.flatnonzero(is_open):
            meets[choice] = self._can_meet(_with(sizes, index, int(self._widths[choice])))
        return meets


def _with(sizes: _Sizes, index: int, value: Any) -> _Sizes:
    return [*sizes[:index], value, *sizes[index + 1 :]]


@lru_cache(maxsize=4096)
def _allowed_tokens(space: ArchitectureSpace, tokens: tuple[int, ...], slot: int) -> torch.Tensor:
    allowed = torch.zeros(space.max_width + WIDTH_TOKEN_OFFSET + 1, dtype=torch.bool)
    widths = slice(space.min_width + WIDTH_TOKEN_OFFSET, space.max_width + WIDTH_TOKEN_OFFSET + 1)
    for depth in space._depths(tokens):
        sizes = space._sizes(tokens, depth)
        if slot < depth:
            allowed[widths] |= torch.from_numpy(space._widths_that_meet(sizes, slot + 1))
        else:
            allowed[NONE_TOKEN] |= space._can_meet(sizes)
    return allowed
