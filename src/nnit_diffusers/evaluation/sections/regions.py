"""Section `regions`: architectures seen in training and held out, as in the paper's table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...architecture import MLPArchitecture
from ...regions import REGIONS
from ..summary import AT_END, RETURNS, add_interval, add_return_intervals, difference_summary, summary
from .base import Evaluator, Part, describe


# Random streams keep the names that sections and regions had when the published evaluations were made: `splits`,
# `train`, `joint`, `comparison`. A renamed stream would draw other architectures and other networks.
SEED_NAMES = {"seen": "train"}
# What networks come from. Nested slices have neither other depths nor larger widths than they were trained on.
SOURCES = ("nnit", "ghn", "nested")


def region_parts(evaluator: Evaluator) -> dict[str, Part]:
    """A part for every architecture of every region.

    The regions take turns, so that an interrupted evaluation has about as many architectures of each.
    """
    # draw the architectures of every region
    config = evaluator.config
    architectures: dict[str, list[MLPArchitecture]] = {}
    for region in config.regions:
        generator = evaluator.generator("splits", SEED_NAMES.get(region, region))
        architectures[region] = evaluator.sample(region, config.num_architectures, generator)
    # alternate between regions
    parts = {}
    for number in range(config.num_architectures):
        for region in config.regions:
            if number >= len(architectures[region]):  # a small region
                continue
            architecture = architectures[region][number]
            name = "-".join(map(str, architecture.hidden_sizes))
            compute = partial(score_architecture, evaluator, region, architecture)
            parts[f"{region}/{name}"] = Part(config.num_networks, compute)
    return parts


def score_architecture(evaluator: Evaluator, region: str, architecture: MLPArchitecture) -> dict[str, Any]:
    """NNiT, the raw GHN and nested slices on one architecture; NNiT's best networks are chosen on validation data."""
    config = evaluator.config
    generator = evaluator.generator("splits", SEED_NAMES.get(region, region), str(architecture))
    num_ghn_networks = config.num_ghn_networks or config.num_networks
    results, selected = evaluator.select(evaluator.generate(architecture, config.num_networks, generator))
    ghn_networks = evaluator.generate_by_ghn(architecture, num_ghn_networks, generator)
    ghn_results = evaluator.screen(ghn_networks) if evaluator.is_screened else evaluator.results(ghn_networks)
    row = {
        **describe(architecture),
        "nnit": {**summary(results), "selected": summary(selected)},
        "ghn": summary(ghn_results),
    }
    nested = evaluator.pipe.nested
    if nested is not None and nested.has(architecture.hidden_sizes):
        slices = nested.generate([architecture])
        row["nested"] = summary(evaluator.screen(slices) if evaluator.is_screened else evaluator.results(slices))
    return row


def store_architecture(section: dict[str, Any], name: str, row: dict[str, Any]) -> None:
    """Adds the row of an architecture to its region and updates the region's summary. Regions keep their order."""
    region, _ = name.split("/")
    section[region] = summarise_region([*section.get(region, {}).get("architectures", []), row])
    # move later regions behind this one
    for later in REGIONS[REGIONS.index(region) + 1 :]:
        if later in section:
            section[later] = section.pop(later)


def summarise_region(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summary of a region from the rows of its architectures."""
    return {
        **{name: sum_up([row[name] for row in rows]) for name in SOURCES if all(name in row for row in rows)},
        "nnit_minus_ghn": difference_summary([row["nnit"]["mean"] - row["ghn"]["mean"] for row in rows]),
        "num_networks": sum(row["num_networks"] for row in rows),
        "architectures": list(rows),
    }


def sum_up(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summary over architectures, which must all have the same number of networks."""
    means = [row["mean"] for row in rows]
    metrics = {
        "mean": statistics.fmean(means),
        "min": min(row["min"] for row in rows),
        "max": max(row["max"] for row in rows),
        "num_episodes": sum(row["num_episodes"] for row in rows),
    }
    if not all(row.get("is_share", True) for row in rows):
        metrics["is_share"] = False
    for name in (AT_END, *RETURNS):
        if all(name in row for row in rows):
            metrics[name] = statistics.fmean(row[name] for row in rows)
    metrics = add_return_intervals(add_interval(metrics, means), rows)
    if "selected" in rows[0]:
        metrics["selected"] = sum_up([row["selected"] for row in rows])
    return metrics


def is_architecture_stored(section: dict[str, Any], name: str) -> bool:
    region, sizes = name.split("/")
    rows = section.get(region, {}).get("architectures", [])
    return sizes in {"-".join(map(str, row["hidden_sizes"])) for row in rows}
