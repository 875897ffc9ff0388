"""Regions of architectures: which are seen in training and which are held out, for all scripts and tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch

from .architecture import MLPArchitecture


RegionName = Literal["seen", "held_out_combinations", "held_out_widths", "deeper", "wider"]
REGIONS: tuple[RegionName, ...] = get_args(RegionName)
GRID = ("min_width", "max_width", "min_depth", "max_depth")
"""The parameters of [`ArchitectureRegions`] that a training run chooses."""

# Chosen so that common widths (16, 24, 32, 40, 48, 56, 64, 96, 128, 192, 256) are trained on, and the architectures of
# the documentation, [48, 40] and [128, 256], are held-out combinations. Changing it would invalidate every published
# result.
_SALT = "nnit-2692"


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{_SALT}:{key}".encode()).digest()[:8], "big")


def is_held_out_width(width: int) -> bool:
    """Whether `width` is held out; a fifth of all widths is in no training architecture.

    Widths under 16 are held out in equal distances. By the hash, 7 to 11 would all be, and nothing between 6 and 12
    would be trained on.
    """
    return width % 4 == 3 if width < 16 else _hash(str(width)) % 5 == 0


def is_held_out_combination(hidden_sizes: Sequence[int]) -> bool:
    """Whether `hidden_sizes` is held out; a quarter of all combinations of two or more widths is never trained on."""
    return len(hidden_sizes) > 1 and _hash("-".join(map(str, hidden_sizes))) % 4 == 0


@dataclass(frozen=True)
class ArchitectureRegions:
    """Training architectures of a task, and the held-out regions around them.

    An architecture is `"seen"` in training if it has `min_depth…max_depth` hidden layers and widths
    `min_width…max_width`, and neither a width nor its combination of widths is held out. The held-out regions are
    `"held_out_combinations"` of training widths, `"held_out_widths"`, `"deeper"` than `max_depth`, and `"wider"` than
    `max_width` in any layer. If several apply, the last of this list counts.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output of the task.
        activation (`str`, defaults to `"relu"`): Activation of every network.
        min_width, max_width (`int`, default to 16 and 64): Range of training widths, inclusive.
        min_depth, max_depth (`int`, default to 1 and 3): Range of the number of hidden layers in training, inclusive.

    Raises:
        `ValueError`: If a minimum is less than 1, or greater than its maximum.
    """

    in_features: int
    out_features: int
    activation: str = "relu"
    min_width: int = 16
    max_width: int = 64
    min_depth: int = 1
    max_depth: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.min_width <= self.max_width:
            raise ValueError(
                f"`min_width` and `max_width` must satisfy 1 <= min_width <= max_width, but received "
                f"{self.min_width} and {self.max_width}."
            )
        if not 1 <= self.min_depth <= self.max_depth:
            raise ValueError(
                f"`min_depth` and `max_depth` must satisfy 1 <= min_depth <= max_depth, but received "
                f"{self.min_depth} and {self.max_depth}."
            )

    @cached_property
    def train_widths(self) -> list[int]:
        """Widths of the range that are trained on."""
        return [w for w in range(self.min_width, self.max_width + 1) if not is_held_out_width(w)]

    @cached_property
    def held_out_widths(self) -> list[int]:
        """Widths of the range that are held out."""
        return [w for w in range(self.min_width, self.max_width + 1) if is_held_out_width(w)]

    def region_of(self, hidden_sizes: Sequence[int]) -> str:
        """Region of `hidden_sizes`: one of `REGIONS`, or `"shallower"` or `"narrower"`.

        Shallower networks have fewer layers than `min_depth`, and narrower ones have a layer narrower than
        `min_width`. [`~ArchitectureRegions.sample`] never draws them, but a user may request one.
        """
        if len(hidden_sizes) < self.min_depth:
            return "shallower"
        if min(hidden_sizes) < self.min_width:
            return "narrower"
        if max(hidden_sizes) > self.max_width:
            return "wider"
        if len(hidden_sizes) > self.max_depth:
            return "deeper"
        if any(is_held_out_width(width) for width in hidden_sizes):
            return "held_out_widths"
        return "held_out_combinations" if is_held_out_combination(hidden_sizes) else "seen"

    @cached_property
    def within_grid(self) -> list[str]:
        """The regions within the grid's widths and depths that have architectures: `"seen"` and what is held out.

        A grid of one layer has no held-out combinations, and a narrow one may have no held-out widths.
        """
        regions = []
        for region in ("seen", "held_out_combinations", "held_out_widths"):
            try:
                self.sample(region, 1, torch.Generator().manual_seed(0))
            except ValueError:
                continue
            regions.append(region)
        return regions

    def architecture(self, hidden_sizes: Sequence[int]) -> MLPArchitecture:
        """Architecture with these hidden sizes, and the inputs, outputs and activation of the task."""
        return MLPArchitecture(self.in_features, tuple(hidden_sizes), self.out_features, self.activation)

    def sample_training(
        self, num_architectures: int, generator: torch.Generator | None = None, narrow_fraction: float = 0.0
    ) -> list[MLPArchitecture]:
        """Draws architectures of the seen region, a fraction of them with log-uniform widths.

        Narrow networks are the hardest to generate, and few uniformly drawn widths are narrow.

        Parameters:
            num_architectures (`int`): Number of architectures.
            generator (`torch.Generator`, *optional*): Source of randomness, on the CPU.
            narrow_fraction (`float`, defaults to 0): That fraction, 0 to 1; its number of architectures is rounded.

        Raises:
            `ValueError`: If `narrow_fraction` is out of range.
        """
        if not 0 <= narrow_fraction <= 1:
            raise ValueError(f"`narrow_fraction` must be 0 to 1, but received {narrow_fraction}.")
        num_narrow = round(narrow_fraction * num_architectures)
        drawn = self.sample("seen", num_architectures - num_narrow, generator)
        return drawn + self.sample("seen", num_narrow, generator, log_uniform=True)

    def sample(
        self,
        region: str,
        num_architectures: int,
        generator: torch.Generator | None = None,
        distinct: bool = False,
        log_uniform: bool = False,
    ) -> list[MLPArchitecture]:
        """Draws architectures of one region: first a uniform depth, then uniform widths.

        In `"held_out_widths"` every width is held out. `"deeper"` has `max_depth + 1` layers of training widths.
        `"wider"` has widths of half of `max_width` to `2 * max_width`, at least one of them above `max_width`.

        Parameters:
            region (`str`): One of `REGIONS`.
            num_architectures (`int`): Number of architectures.
            generator (`torch.Generator`, *optional*): Source of randomness, on the CPU.
            distinct (`bool`, defaults to `False`): Never draw the same architecture twice.
            log_uniform (`bool`, defaults to `False`): Draw a width w with a probability proportional to 1 / w.

        Raises:
            `ValueError`: If `region` is unknown, or has fewer than `num_architectures` distinct architectures.
        """
        drawn = self._draw(region, num_architectures, generator, distinct, log_uniform)
        if len(drawn) < num_architectures:
            raise ValueError(
                f"`num_architectures` must be at most the number of distinct architectures of region {region!r} "
                f"with widths {self.min_width}…{self.max_width} and depths {self.min_depth}…{self.max_depth}, but "
                f"received {num_architectures}; found {len(drawn)}."
            )
        return drawn

    def sample_distinct(
        self, region: str, num_architectures: int, generator: torch.Generator | None = None
    ) -> list[MLPArchitecture]:
        """Draws distinct architectures of one region, as [`~ArchitectureRegions.sample`] does, or all it finds."""
        return self._draw(region, num_architectures, generator, distinct=True)

    def _draw(
        self,
        region: str,
        num_architectures: int,
        generator: torch.Generator | None,
        distinct: bool = False,
        log_uniform: bool = False,
    ) -> list[MLPArchitecture]:
        """Rejection sampling, with a limit for regions that are too small; returns what was found."""
        if region not in REGIONS:
            raise ValueError(f"`region` must be one of {REGIONS}, but received {region!r}.")
        # candidate widths
        widths = self.train_widths
        if region == "held_out_widths":
            widths = self.held_out_widths
        elif region == "wider":
            widths = list(range(max(self.min_width, self.max_width // 2), 2 * self.max_width + 1))
        # draw, and keep what is of the region
        drawn: list[tuple[int, ...]] = []
        for _ in range(1001 + 100 * num_architectures):
            if len(drawn) == num_architectures:
                break
            depth = self.max_depth + 1
            if region != "deeper":
                depth = int(torch.randint(self.min_depth, self.max_depth + 1, (), generator=generator))
            hidden_sizes = _draw_widths(widths, depth, generator, log_uniform)
            if not hidden_sizes or self.region_of(hidden_sizes) != region or (distinct and hidden_sizes in drawn):
                continue
            drawn.append(hidden_sizes)
        return [self.architecture(hidden_sizes) for hidden_sizes in drawn]


def _draw_widths(
    widths: Sequence[int], depth: int, generator: torch.Generator | None, log_uniform: bool
) -> tuple[int, ...]:
    """Draws `depth` of the widths, with replacement; an empty tuple if there are no widths."""
    if not widths:
        return ()
    if log_uniform:
        indices = torch.multinomial(1 / torch.tensor(widths), depth, replacement=True, generator=generator)
    else:
        indices = torch.randint(len(widths), (depth,), generator=generator)
    return tuple(widths[index] for index in indices.tolist())
