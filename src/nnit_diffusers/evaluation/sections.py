"""Sections of an evaluation by `evaluate_nnit.py`. Each consists of parts that are computed and saved one by one."""

import hashlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from evaluation_novelty import baselines, closeness_of, ensemble
from evaluation_summary import (
    add_interval,
    difference_summary,
    summary,
    with_interval,
    with_interval_over_networks,
)
from tqdm.auto import tqdm

from nnit_diffusers import MLP, EvaluationResult, MLPArchitecture, NNiTPipeline, Task, evaluate
from nnit_diffusers.evaluation import select_top
from nnit_diffusers.regions import REGIONS


class Part(NamedTuple):
    """A part of a section: the number of networks that the pipeline generates for it, and its computation."""

    num_networks: int
    compute: Callable[[], dict[str, Any]]


@dataclass
class Evaluator:
    """Pipeline, task, arguments and progress bar, shared by all sections."""

    pipe: NNiTPipeline
    task: Task
    arguments: Any
    bar: tqdm

    def generator(self, *names: str) -> torch.Generator:
        """Random stream of one part of the evaluation. It does not depend on which other parts are computed."""
        key = ":".join((str(self.arguments.seed), *names))
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))

    def sample(self, region: str, num_architectures: int, generator: torch.Generator) -> list[MLPArchitecture]:
        return self.task.regions.sample(region, num_architectures, generator, distinct=True)

    def generate(
        self, arch: Any, num_networks: int, generator: torch.Generator, num_steps: int | None = None, **budget: int
    ) -> list[MLP]:
        steps = num_steps or self.arguments.num_inference_steps
        networks = self.pipe(
            arch, num_networks=num_networks, num_inference_steps=steps, generator=generator, **budget
        ).networks
        self.bar.update(len(networks))
        return networks

    def generate_by_ghn(
        self, architecture: MLPArchitecture, num_networks: int, generator: torch.Generator
    ) -> list[MLP]:
        return self.pipe.ghn.generate([architecture] * num_networks, generator=generator)

    @property
    def is_screened(self) -> bool:
        """Whether all networks are scored on validation episodes, and only the best ones on test episodes."""
        return self.arguments.num_final_episodes is not None

    def results(self, networks: Sequence[MLP]) -> list[EvaluationResult]:
        """Scores all networks on test data; by success alone if they are screened, to save time."""
        if self.is_screened:
            return self.screen(networks, "test")
        return self.score(self.task, networks, "test", self.arguments.num_episodes)

    def screen(self, networks: Sequence[MLP], split: str = "validation") -> list[EvaluationResult]:
        """Scores networks by success alone, which is faster for rollouts in a simulator."""
        return self.score(self.task.for_screening(), networks, split, self.arguments.num_episodes)

    def score(
        self, task: Task, networks: Sequence[MLP], split: str, num_episodes: int | None
    ) -> list[EvaluationResult]:
        return evaluate(networks, task, num_episodes, self.arguments.seed, split=split)


def describe(architecture: MLPArchitecture) -> dict[str, Any]:
    return {"hidden_sizes": list(architecture.hidden_sizes), "num_parameters": architecture.num_parameters}


# Section `regions`: architectures seen in training and held out, as in the paper's table.

# Random streams keep the names that sections and regions had when the published evaluations were made: `splits`,
# `train`, `joint`, `comparison`. A renamed stream would draw other architectures and other networks.
SEED_NAMES = {"seen": "train"}


def region_parts(evaluator: Evaluator) -> dict[str, Part]:
    """A part for every architecture of every region.

    The regions take turns, so that an interrupted evaluation has about as many architectures of each.
    """
    # draw the architectures of every region
    arguments, architectures = evaluator.arguments, {}
    for region in arguments.regions:
        generator = evaluator.generator("splits", SEED_NAMES.get(region, region))
        architectures[region] = evaluator.sample(region, arguments.num_architectures, generator)
    # alternate between regions
    parts = {}
    for number in range(arguments.num_architectures):
        for region in arguments.regions:
            architecture = architectures[region][number]
            name = "-".join(map(str, architecture.hidden_sizes))
            compute = partial(score_architecture, evaluator, region, architecture)
            parts[f"{region}/{name}"] = Part(arguments.num_networks, compute)
    return parts


def score_architecture(evaluator: Evaluator, region: str, architecture: MLPArchitecture) -> dict[str, Any]:
    """NNiT and the raw GHN on one architecture: all networks, and NNiT's best ones, chosen on validation data."""
    arguments = evaluator.arguments
    generator = evaluator.generator("splits", SEED_NAMES.get(region, region), str(architecture))
    num_ghn_networks = arguments.num_ghn_networks or arguments.num_networks
    results, selected = select(evaluator, evaluator.generate(architecture, arguments.num_networks, generator))
    ghn_networks = evaluator.generate_by_ghn(architecture, num_ghn_networks, generator)
    ghn_results = evaluator.screen(ghn_networks) if evaluator.is_screened else evaluator.results(ghn_networks)
    return {
        **describe(architecture),
        "nnit": {**summary(results), "selected": summary(selected)},
        "ghn": summary(ghn_results),
    }


def select(evaluator: Evaluator, networks: Sequence[MLP]) -> tuple[list[EvaluationResult], list[EvaluationResult]]:
    """Results of all networks, and of the best ones, chosen on validation data.

    By default all networks are scored on test data. With `num_final_episodes`, all networks are scored on validation
    episodes, by success alone, and only the best ones on test episodes, to the last step.
    """
    # choose the best on validation data
    arguments = evaluator.arguments
    validated = evaluator.screen(networks)
    num_selected = min(arguments.num_selected, len(networks))
    top = select_top([result.score for result in validated], num_selected)
    # score on test data
    if evaluator.is_screened:
        finalists = [networks[index] for index in top]
        return validated, evaluator.score(evaluator.task, finalists, "test", arguments.num_final_episodes)
    results = evaluator.results(networks)
    return results, [results[index] for index in top]


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
        **{name: sum_up([row[name] for row in rows]) for name in ("nnit", "ghn")},
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
    metrics = add_interval(metrics, means)
    if "success_at_end" in rows[0]:
        metrics["success_at_end"] = statistics.fmean(row["success_at_end"] for row in rows)
    if "selected" in rows[0]:
        metrics["selected"] = sum_up([row["selected"] for row in rows])
    return metrics


def is_architecture_stored(section: dict[str, Any], name: str) -> bool:
    region, sizes = name.split("/")
    rows = section.get(region, {}).get("architectures", [])
    return sizes in {"-".join(map(str, row["hidden_sizes"])) for row in rows}


# Section `widths`: two hidden layers of one width, also narrower and wider than those trained on.


def width_parts(evaluator: Evaluator) -> dict[str, Part]:
    num_networks = evaluator.arguments.num_width_networks
    return {
        str(width): Part(num_networks, partial(score_width, evaluator, width)) for width in evaluator.arguments.widths
    }


def score_width(evaluator: Evaluator, width: int) -> dict[str, Any]:
    regions, num_networks = evaluator.task.regions, evaluator.arguments.num_width_networks
    generator = evaluator.generator("widths", str(width))
    architecture = regions.architecture([width, width])
    result = {
        **describe(architecture),
        "region": regions.region_of([width, width]),
    }
    for name, generate in (("nnit", evaluator.generate), ("ghn", evaluator.generate_by_ghn)):
        result[name] = with_interval(evaluator.results(generate(architecture, num_networks, generator)))
    return result


# Section `unconditional`: architectures chosen by the model.


def unconditional_parts(evaluator: Evaluator) -> dict[str, Part]:
    arguments = evaluator.arguments
    least, most = arguments.parameter_range
    # what is requested of the architecture, by the name of the part
    requests = {
        "free": {},
        "max_parameters": {"max_parameters": arguments.max_parameters},
        "parameter_range": {"min_parameters": least, "max_parameters": most},
        "fill_in": {
            "arch": [arguments.fill_in_width, None],
            "max_parameters": arguments.fill_in_max_parameters,
        },
    }
    parts = {}
    for name, request in requests.items():
        num_networks = arguments.num_budget_networks if request else arguments.num_unconditional_networks
        parts[name] = Part(num_networks, partial(score_unconditional, evaluator, name, num_networks, **request))
    return parts


def score_unconditional(
    evaluator: Evaluator,
    name: str,
    num_networks: int,
    arch: list[int | None] | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
) -> dict[str, Any]:
    """Networks whose architectures the model chose, the best ones, and how many violate the request."""
    # generate architectures and weights, then score
    regions, request = evaluator.task.regions, {"min_parameters": min_parameters, "max_parameters": max_parameters}
    networks = evaluator.generate(arch, num_networks, evaluator.generator("joint", name), **request)
    results, selected = select(evaluator, networks)
    # compare the architectures with the request and with the training grid
    architectures = [network.architecture for network in networks]
    return {
        "arch": arch,
        **request,
        **with_interval_over_networks(results),
        "selected": {**with_interval_over_networks(selected), "num_networks": len(selected)},
        "num_violations": sum(
            not meets(architecture, arch, min_parameters, max_parameters) for architecture in architectures
        ),
        "num_distinct": len(set(architectures)),
        **describe_population(architectures),
        "regions": dict(Counter(regions.region_of(architecture.hidden_sizes) for architecture in architectures)),
        # the distribution that the model should reproduce without a request
        "training_grid": describe_population(regions.sample("seen", 2000, evaluator.generator("training grid"))),
        "networks": {
            "hidden_sizes": ["-".join(map(str, architecture.hidden_sizes)) for architecture in architectures],
            "num_parameters": [architecture.num_parameters for architecture in architectures],
            "score": [result.score for result in results],
        },
    }


def meets(
    architecture: MLPArchitecture,
    arch: list[int | None] | None,
    min_parameters: int | None,
    max_parameters: int | None,
) -> bool:
    """Whether an architecture satisfies a request."""
    fits = arch is None or (
        len(arch) == architecture.depth
        and all(wanted in (None, width) for wanted, width in zip(arch, architecture.hidden_sizes))
    )
    least, most = min_parameters or 0, max_parameters or architecture.num_parameters
    return fits and least <= architecture.num_parameters <= most


def describe_population(architectures: Sequence[MLPArchitecture]) -> dict[str, Any]:
    """Share of every depth, and the percentiles 0, 5, …, 100 of the parameter counts."""
    depths = Counter(architecture.depth for architecture in architectures)
    counts = [architecture.num_parameters for architecture in architectures]
    return {
        "depths": {str(depth): depths[depth] / len(architectures) for depth in sorted(depths)},
        "num_parameters": np.percentile(counts, range(0, 101, 5)).tolist(),
    }


# Section `novelty`: are generated networks copies of the GHN's, and how good are simpler ways to a new network?


def novelty_parts(evaluator: Evaluator) -> dict[str, Part]:
    generator = evaluator.generator("comparison")
    architectures = [evaluator.task.regions.architecture(evaluator.arguments.documented_architecture)]
    architectures += [evaluator.sample(region, 1, generator)[0] for region in REGIONS]
    num_networks = evaluator.arguments.num_compared_networks
    return {
        "-".join(map(str, architecture.hidden_sizes)): Part(
            num_networks, partial(score_novelty, evaluator, architecture)
        )
        for architecture in architectures
    }


def score_novelty(evaluator: Evaluator, architecture: MLPArchitecture) -> dict[str, Any]:
    """Distances of generated networks to the GHN's and to each other, relative to those of new networks of the GHN."""
    arguments, generator = evaluator.arguments, evaluator.generator("comparison", str(architecture))
    num_networks = arguments.num_compared_networks
    # networks of both kinds, and references among which the nearest neighbour is searched
    references = evaluator.generate_by_ghn(architecture, arguments.num_references, generator)
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
            ensemble(networks[name][start : start + arguments.num_ensemble])
            for start in range(0, num_networks - arguments.num_ensemble + 1, arguments.num_ensemble)
        ]
    return {
        **describe(architecture),
        "region": evaluator.task.regions.region_of(architecture.hidden_sizes),
        "num_references": arguments.num_references,
        **ratios,
        **closeness,
        "scores": {
            name: {**summary(evaluator.results(members)), "num_networks": len(members)}
            for name, members in networks.items()
        },
    }


# Section `steps`: fewer and more denoising steps.


def step_parts(evaluator: Evaluator) -> dict[str, Part]:
    arguments = evaluator.arguments
    num_networks = 2 * arguments.num_step_architectures * arguments.num_step_networks
    return {str(steps): Part(num_networks, partial(score_steps, evaluator, steps)) for steps in arguments.steps}


def score_steps(evaluator: Evaluator, num_steps: int) -> dict[str, Any]:
    """Scores and generation time of two regions after `num_steps` denoising steps."""
    arguments, result = evaluator.arguments, {}
    for region in ("held_out_combinations", "held_out_widths"):
        # the same architectures and noise for every number of steps
        generator = evaluator.generator("steps", region)
        architectures = evaluator.sample(region, arguments.num_step_architectures, generator)
        # generate, timed
        start = time.perf_counter()
        networks = evaluator.generate(architectures, arguments.num_step_networks, generator, num_steps)
        seconds = time.perf_counter() - start
        # score, and summarise every architecture
        results = evaluator.results(networks)
        rows = [
            {**describe(architecture), **summary([r for r in results if r.architecture == architecture])}
            for architecture in architectures
        ]
        result[region] = {
            **with_interval(results),
            "seconds_per_network": seconds / len(networks),
            "architectures": rows,
        }
    return result


def store(section: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    section[name] = result


def is_stored(section: dict[str, Any], name: str) -> bool:
    return name in section


class Section(NamedTuple):
    """The parts of a section, and how they are stored in the report."""

    parts: Callable[[Evaluator], dict[str, Part]]
    store: Callable[[dict[str, Any], str, dict[str, Any]], None] = store
    is_stored: Callable[[dict[str, Any], str], bool] = is_stored


SECTIONS = {
    "regions": Section(region_parts, store_architecture, is_architecture_stored),
    "widths": Section(width_parts),
    "unconditional": Section(unconditional_parts),
    "novelty": Section(novelty_parts),
    "steps": Section(step_parts),
}
