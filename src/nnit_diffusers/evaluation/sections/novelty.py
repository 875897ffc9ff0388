"""Section `novelty`: are generated networks copies of the GHN's, and how good are simpler ways to a new network?"""

from __future__ import annotations

from functools import partial
from typing import Any

from ...architecture import MLPArchitecture
from ...regions import REGIONS
from ..novelty import baselines, closeness_of, ensemble
from ..summary import summary
from .base import Evaluator, Part, describe


def novelty_parts(evaluator: Evaluator) -> dict[str, Part]:
    generator = evaluator.generator("comparison")
    architectures = [evaluator.task.regions.architecture(evaluator.config.documented_architecture or ())]
    for region in REGIONS:
        architectures += evaluator.sample(region, 1, generator)
    num_networks = evaluator.config.num_compared_networks
    return {
        "-".join(map(str, architecture.hidden_sizes)): Part(
            num_networks, partial(score_novelty, evaluator, architecture)
        )
        for architecture in architectures
    }


def score_novelty(evaluator: Evaluator, architecture: MLPArchitecture) -> dict[str, Any]:
    """Distances of generated networks to the GHN's and to each other, relative to those of new networks of the GHN."""
    config, generator = evaluator.config, evaluator.generator("comparison", str(architecture))
    num_networks = config.num_compared_networks
    # networks of both kinds, and references among which the nearest neighbour is searched
    references = evaluator.generate_by_ghn(architecture, config.num_references, generator)
    networks = {
        "nnit": evaluator.generate(architecture, num_networks, generator),
        "ghn": evaluator.generate_by_ghn(architecture, num_networks, generator),
    }
    # distances, and their ratios
    closeness = {
        name: closeness_of(networks[name], references, evaluator.pipe.tokenizer, evaluator.task) for name in networks
    }
    ratios = {
        f"{kind}_ratio": closeness["nnit"][kind] / closeness["ghn"][kind]
        for kind in ("nearest_distance", "mean_distance")
    }
    # simpler ways to a new network: interpolation, noise, ensembles
    networks |= baselines(networks["ghn"], evaluator.pipe.tokenizer, closeness["nnit"]["nearest_distance"], generator)
    for name in ("ghn", "nnit"):
        networks[f"{name}_ensemble"] = [
            ensemble(networks[name][start : start + config.num_ensemble])
            for start in range(0, num_networks - config.num_ensemble + 1, config.num_ensemble)
        ]
    return {
        **describe(architecture),
        "region": evaluator.task.regions.region_of(architecture.hidden_sizes),
        "num_references": config.num_references,
        **ratios,
        **closeness,
        "scores": {
            name: {**summary(evaluator.results(members)), "num_networks": len(members)}
            for name, members in networks.items()
        },
    }
