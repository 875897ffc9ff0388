"""Section `widths`: two hidden layers of one width, also narrower and wider than those trained on."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..summary import with_interval
from .base import Evaluator, Part, describe


def width_parts(evaluator: Evaluator) -> dict[str, Part]:
    num_networks = evaluator.config.num_width_networks
    return {
        str(width): Part(num_networks, partial(score_width, evaluator, width))
        for width in evaluator.config.widths or ()
    }


def score_width(evaluator: Evaluator, width: int) -> dict[str, Any]:
    regions, num_networks = evaluator.task.regions, evaluator.config.num_width_networks
    generator = evaluator.generator("widths", str(width))
    architecture = regions.architecture([width, width])
    result = {
        **describe(architecture),
        "region": regions.region_of([width, width]),
    }
    for name, generate in (("nnit", evaluator.generate), ("ghn", evaluator.generate_by_ghn)):
        result[name] = with_interval(evaluator.results(generate(architecture, num_networks, generator)))
    return result
