"""Settings of an evaluation. Sizes that are not given are derived from the task's architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from ..loading.limits import MAX_GENERATED_DEPTH
from ..regions import REGIONS, RegionName
from ..settings import check_ranges
from ..tasks.base import Task


SectionName = Literal["regions", "direct", "widths", "depths", "unconditional", "novelty", "steps"]
# Settings that choose what is measured now. They do not change what a part measures.
CHOICES = frozenset({"sections", "regions"})
# Sizes that are derived from the task where they are not given.
DERIVED = (
    "num_inference_steps",
    "widths",
    "depths",
    "max_parameters",
    "parameter_range",
    "fill_in_width",
    "fill_in_max_parameters",
    "documented_architecture",
)

# Draws of the seen region that budgets are derived from, and their seed.
_NUM_DRAWS, _SEED = 500, 0


@dataclass
class EvaluationConfig:
    """Settings of [`evaluate_pipeline`]."""

    sections: tuple[SectionName, ...] = (
        "regions",
        "direct",
        "widths",
        "depths",
        "unconditional",
        "novelty",
        "steps",
    )
    """Sections to compute. Parts that the file already has are skipped."""
    seed: int = 1234
    """Seed of architectures, networks and episodes. Training does not use it."""
    num_inference_steps: int | None = None
    """Denoising steps in all sections but `steps`. Default: those of the pipeline."""
    num_episodes: int | None = None
    """Episodes (samples) per network. Default: the number that the task defines."""

    regions: tuple[RegionName, ...] = REGIONS
    """`regions`: regions to draw architectures from."""
    num_architectures: int = 10
    """`regions`: architectures per region; fewer in a region that has fewer."""
    num_networks: int = 100
    """`regions`: generated networks per architecture."""
    num_ghn_networks: int | None = None
    """`regions`: networks of the GHN per architecture. Default: as many as generated ones."""
    num_selected: int = 10
    """`regions`, `unconditional`: best networks, chosen on validation data, per architecture or request."""
    num_final_episodes: int | None = None
    """`regions`, `unconditional`: test episodes of the best networks. The rest get validation episodes only."""

    num_direct_architectures: int = 5
    """`direct`: architectures of each held-out region that networks are trained for directly, the first ones above."""
    num_direct_networks: int = 3
    """`direct`: networks trained per architecture, each with its own seed."""
    direct_steps: int = 2000
    """`direct`: optimisation steps of each network, with Adam."""
    direct_batch_size: int = 128
    """`direct`: samples per step."""
    direct_learning_rate: float = 3e-3
    """`direct`: peak learning rate, with cosine decay."""

    widths: tuple[int, ...] | None = None
    """`widths`: widths of networks with two equal hidden layers. Default: from a quarter of the minimum to three times
    the maximum of the task."""
    num_width_networks: int = 30
    """`widths`: networks per width."""

    depths: tuple[int, ...] | None = None
    """`depths`: numbers of hidden layers. Default: all of the task, one and two more, and 2 and 8/3 times its
    maximum."""
    num_depth_architectures: int = 5
    """`depths`: architectures per depth, of widths that are trained on."""
    num_depth_networks: int = 20
    """`depths`: networks per architecture."""

    num_unconditional_networks: int = 200
    """`unconditional`: networks without a request."""
    num_budget_networks: int = 100
    """`unconditional`: networks for each of the requests below."""
    max_parameters: int | None = None
    """`unconditional`: a parameter budget with an upper bound. Default: the median of the task's architectures."""
    parameter_range: tuple[int, int] | None = None
    """`unconditional`: a parameter budget with two bounds. Default: the second fifth of the task's architectures."""
    fill_in_width: int | None = None
    """`unconditional`: width of the first hidden layer; the model chooses the second, and more where a task demands
    them. Default: three quarters of the maximum of the task. Tasks of one hidden layer skip this request."""
    fill_in_max_parameters: int | None = None
    """`unconditional`: upper bound of the parameters of these. Default: with further layers of the mean width."""

    documented_architecture: tuple[int, ...] | None = None
    """`novelty`: this architecture, and one of every region. Default: two layers of three quarters of the maximum."""
    num_compared_networks: int = 32
    """`novelty`: generated networks per architecture, and as many of the GHN."""
    num_references: int = 256
    """`novelty`: networks of the GHN among which the nearest neighbour is searched."""
    num_ensemble: int = 10
    """`novelty`: networks per ensemble, which averages their outputs."""

    steps: tuple[int, ...] = (1, 2, 4, 8, 20, 50)
    """`steps`: numbers of denoising steps."""
    num_step_architectures: int = 5
    """`steps`: architectures in each of two regions, held-out combinations and held-out widths."""
    num_step_networks: int = 20
    """`steps`: networks per architecture, from the same noise for every number of steps."""

    def for_task(self, task: Task) -> EvaluationConfig:
        """The same settings, with everything that is not given derived from the architectures of a task."""
        regions = task.regions
        drawn = regions.sample("seen", _NUM_DRAWS, torch.Generator().manual_seed(_SEED))
        # counts that architectures have: between two of them, a budget may allow none
        counts = [architecture.num_parameters for architecture in drawn]
        low, middle, high = np.percentile(counts, [20, 50, 40], method="lower").tolist()
        # at least two layers, and as deep as the task demands
        wide, depth = max(task.min_width, task.max_width * 3 // 4), max(2, task.min_depth)
        depth = min(depth, task.max_depth)
        mean_width = (task.min_width + task.max_width) // 2
        filled = [wide, *[mean_width] * (depth - 1)]
        derived = {
            "widths": _widths_of(task.min_width, task.max_width),
            "depths": _depths_of(task.min_depth, task.max_depth),
            "max_parameters": middle,
            "parameter_range": (low, max(high, low + 1)),
            "fill_in_width": wide,
            "fill_in_max_parameters": regions.architecture(filled).num_parameters,
            "documented_architecture": (wide,) * depth,
        }
        missing = {name: value for name, value in derived.items() if getattr(self, name) is None}
        return replace(self, **missing)


def _widths_of(min_width: int, max_width: int) -> tuple[int, ...]:
    """About ten widths from a quarter of the minimum to three times the maximum, at equal ratios."""
    spaced = np.geomspace(max(1, min_width // 4), 3 * max_width, num=10).round().astype(int)
    return tuple(dict.fromkeys(spaced.tolist()))


def _depths_of(min_depth: int, max_depth: int) -> tuple[int, ...]:
    """Every depth of the task, and up to four beyond: 7, 8, 12 and 16 for a maximum of 6."""
    beyond = (max_depth + 1, max_depth + 2, 2 * max_depth, round(8 * max_depth / 3))
    depths = {*range(min_depth, max_depth + 1), *beyond}
    return tuple(sorted(depth for depth in depths if depth <= MAX_GENERATED_DEPTH))


def check_choices(config: EvaluationConfig, known: Sequence[str]) -> None:
    """Raises `ValueError` if a section or region is unknown, or a number is out of range."""
    for name, allowed in (("sections", known), ("regions", REGIONS)):
        unknown = [value for value in getattr(config, name) if value not in allowed]
        if unknown:
            raise ValueError(f"`{name}` must be among {list(allowed)}, but received {unknown}.")
    too_deep = [depth for depth in config.depths or () if depth > MAX_GENERATED_DEPTH]
    if "depths" in config.sections and too_deep:
        raise ValueError(f"`depths` must be at most {MAX_GENERATED_DEPTH}, but received {too_deep}.")
    check_ranges(config, may_be_zero=("seed", "num_direct_architectures"))
    # distances between networks need two, and an ensemble its members
    most = config.num_compared_networks
    if "novelty" in config.sections and not (most > 1 and config.num_ensemble <= most):
        raise ValueError(
            "`num_compared_networks` must be 2 or more, and not less than `num_ensemble`, but received "
            f"{most} and {config.num_ensemble}."
        )
