"""Stage 4: scores a pipeline. What the README, the model card and the figures say is read from the JSON it writes.

    python examples/evaluate_nnit.py --task digits --pretrained_model_name_or_path nnit/digits \
        --output_path nnit/digits/evaluation.json

Every part is written as soon as it is computed: the same command, given again, goes on where it was interrupted, and
`--sections` adds to the same file. Networks are scored on test data; those selected are selected on validation data.
"""

import hashlib
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from evaluation_comparison import baselines, closeness_of, ensemble
from evaluation_report import report_tables
from tqdm.auto import tqdm

from nnit_diffusers import MLP, MLPArchitecture, NNiTPipeline, Task, evaluate, get_task
from nnit_diffusers.evaluation import mean_interval, select_top
from nnit_diffusers.pipelines.fingerprint import fingerprint
from nnit_diffusers.splits import SPLITS
from nnit_diffusers.utils import provenance, write_json


# The architecture of the documentation: held out as a combination in every task.
DOCUMENTED_ARCHITECTURE = (48, 40)
# What says where things are and which of them are measured, not how.
PLACES = ("pretrained_model_name_or_path", "data_dir", "output_path", "sections", "splits")


@dataclass
class Arguments:
    """Scores a pipeline that has its GHN beside it."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline, a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Where the task finds or downloads its data, if it needs any."""
    output_path: str = "nnit/digits/evaluation.json"
    """The JSON to write, or to add to."""
    sections: tuple[Literal["splits", "widths", "joint", "comparison", "steps"], ...] = (
        "splits",
        "widths",
        "joint",
        "comparison",
        "steps",
    )
    """What to compute, unless it is there already."""
    seed: int = 1234
    """Seed of architectures and networks; training never uses it."""
    num_inference_steps: int = 20
    """Denoising steps, everywhere but in section `steps`."""

    splits: tuple[Literal["train", "held_out_combinations", "held_out_widths", "deeper", "wider"], ...] = SPLITS
    """`splits`: splits to draw architectures from, unless they are there already."""
    num_architectures: int = 10
    """`splits`: architectures drawn from each split."""
    num_networks: int = 100
    """`splits`: networks of each of them, and as many of the GHN."""
    num_selected: int = 10
    """`splits`: networks of each architecture selected on validation data."""

    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 37, 48, 56, 64, 72, 80, 96, 100, 112, 128, 160, 200)
    """`widths`: networks of two hidden layers of each of these widths."""
    num_width_networks: int = 30
    """`widths`: networks of each."""

    num_joint_networks: int = 200
    """`joint`: networks whose architectures the model chooses."""
    num_budget_networks: int = 100
    """`joint`: networks under each of the budgets below."""
    max_parameters: int = 4000
    """`joint`: upper end of a budget without a lower one."""
    parameter_range: tuple[int, int] = (3000, 3500)
    """`joint`: a budget with two ends."""
    fill_in_width: int = 48
    """`joint`: given first hidden layer of networks whose second one the model chooses."""
    fill_in_max_parameters: int = 5000
    """`joint`: the budget of these."""

    num_compared_networks: int = 32
    """`comparison`: networks of each architecture, and as many fresh ones of the GHN."""
    num_references: int = 256
    """`comparison`: networks of the GHN among which the nearest is looked for."""
    num_ensemble: int = 10
    """`comparison`: networks whose outputs an ensemble averages."""

    steps: tuple[int, ...] = (1, 2, 4, 8, 20, 50)
    """`steps`: numbers of denoising steps."""
    num_step_architectures: int = 5
    """`steps`: architectures of each of two splits."""
    num_step_networks: int = 20
    """`steps`: networks of each architecture, the same noise for every number of steps."""


class Part(NamedTuple):
    """A part of a section: how many networks the pipeline generates for it, and what computes it."""

    num_networks: int
    compute: Callable[[], dict[str, Any]]


@dataclass
class Evaluator:
    """What every section uses."""

    pipe: NNiTPipeline
    task: Task
    arguments: Arguments
    bar: tqdm

    def generator(self, *names: str) -> torch.Generator:
        """The randomness of one part of the evaluation, whatever else is computed."""
        key = ":".join((str(self.arguments.seed), *names))
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))

    def sample(self, split: str, num_architectures: int, generator: torch.Generator) -> list[MLPArchitecture]:
        return self.task.splits.sample(split, num_architectures, generator, distinct=True)

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

    def scores(self, networks: Sequence[MLP], split: str = "test") -> list[float]:
        return [result.score for result in evaluate(networks, self.task, split=split, progress_bar=False)]


def summary(scores: Sequence[float]) -> dict[str, float]:
    """Scores of the networks of one architecture."""
    return {"mean": statistics.fmean(scores), "std": statistics.pstdev(scores), "min": min(scores), "max": max(scores)}


def summary_with_interval(scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Scores of the networks of several architectures; the interval is over architectures."""
    pooled = [score for of_one_architecture in scores for score in of_one_architecture]
    groups = [group for group, of_one_architecture in enumerate(scores) for _ in of_one_architecture]
    return {**summary(pooled), "interval": list(mean_interval(pooled, groups))}


def describe(architecture: MLPArchitecture) -> dict[str, Any]:
    return {"hidden_sizes": list(architecture.hidden_sizes), "num_parameters": architecture.num_parameters}


# Section `splits`: the paper's table.


def split_parts(evaluator: Evaluator) -> dict[str, Part]:
    num_networks = evaluator.arguments.num_architectures * evaluator.arguments.num_networks
    splits = evaluator.arguments.splits
    return {split: Part(num_networks, partial(score_split, evaluator, split)) for split in splits}


def score_split(evaluator: Evaluator, split: str) -> dict[str, Any]:
    """NNiT and the raw GHN on the same architectures: all networks, and those selected on validation data."""
    arguments, generator = evaluator.arguments, evaluator.generator("splits", split)
    rows, scores, selected = [], {"nnit": [], "ghn": []}, {"nnit": [], "ghn": []}
    for architecture in evaluator.sample(split, arguments.num_architectures, generator):
        row = describe(architecture)
        for name, generate in (("nnit", evaluator.generate), ("ghn", evaluator.generate_by_ghn)):
            networks = generate(architecture, arguments.num_networks, generator)
            test_scores = evaluator.scores(networks)
            top = select_top(evaluator.scores(networks, "validation"), arguments.num_selected)
            scores[name].append(test_scores)
            selected[name].append([test_scores[index] for index in top])
            row[name] = {**summary(test_scores), "selected": statistics.fmean(selected[name][-1])}
        rows.append(row)
    differences = [row["nnit"]["mean"] - row["ghn"]["mean"] for row in rows]
    return {
        **{
            name: {**summary_with_interval(scores[name]), "selected": summary_with_interval(selected[name])}
            for name in scores
        },
        "nnit_minus_ghn": {"mean": statistics.fmean(differences), "interval": list(mean_interval(differences))},
        "num_networks": arguments.num_architectures * arguments.num_networks,
        "architectures": rows,
    }


# Section `widths`: narrower and wider than trained.


def width_parts(evaluator: Evaluator) -> dict[str, Part]:
    num_networks = evaluator.arguments.num_width_networks
    return {
        str(width): Part(num_networks, partial(score_width, evaluator, width)) for width in evaluator.arguments.widths
    }


def score_width(evaluator: Evaluator, width: int) -> dict[str, Any]:
    splits, num_networks = evaluator.task.splits, evaluator.arguments.num_width_networks
    generator = evaluator.generator("widths", str(width))
    architecture = splits.architecture([width, width])
    result = {
        **describe(architecture),
        "split": "narrower" if width < splits.min_width else splits.split_of([width, width]),
        "num_networks": num_networks,
    }
    for name, generate in (("nnit", evaluator.generate), ("ghn", evaluator.generate_by_ghn)):
        scores = evaluator.scores(generate(architecture, num_networks, generator))
        result[name] = {**summary(scores), "interval": list(mean_interval(scores))}
    return result


# Section `joint`: architectures chosen by the model.


def joint_parts(evaluator: Evaluator) -> dict[str, Part]:
    arguments = evaluator.arguments
    least, most = arguments.parameter_range
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
        num_networks = arguments.num_budget_networks if request else arguments.num_joint_networks
        parts[name] = Part(num_networks, partial(score_joint, evaluator, name, num_networks, **request))
    return parts


def score_joint(
    evaluator: Evaluator,
    name: str,
    num_networks: int,
    arch: list[int | None] | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
) -> dict[str, Any]:
    """Networks whose architectures the model chose, and whether these are what was asked for."""
    splits, request = evaluator.task.splits, {"min_parameters": min_parameters, "max_parameters": max_parameters}
    networks = evaluator.generate(arch, num_networks, evaluator.generator("joint", name), **request)
    scores, architectures = evaluator.scores(networks), [network.architecture for network in networks]
    return {
        "arch": arch,
        **request,
        **summary(scores),
        "interval": list(mean_interval(scores)),
        "num_networks": num_networks,
        "num_violations": sum(
            not meets(architecture, arch, min_parameters, max_parameters) for architecture in architectures
        ),
        "num_distinct": len(set(architectures)),
        **describe_population(architectures),
        "splits": dict(Counter(splits.split_of(architecture.hidden_sizes) for architecture in architectures)),
        # As many of the training grid, for what the model should do when it is asked for nothing in particular.
        "training_grid": describe_population(splits.sample("train", 2000, evaluator.generator("training grid"))),
        "networks": {
            "hidden_sizes": ["-".join(map(str, architecture.hidden_sizes)) for architecture in architectures],
            "num_parameters": [architecture.num_parameters for architecture in architectures],
            "score": scores,
        },
    }


def meets(
    architecture: MLPArchitecture,
    arch: list[int | None] | None,
    min_parameters: int | None,
    max_parameters: int | None,
) -> bool:
    """Whether an architecture is what was asked for."""
    fits = arch is None or (
        len(arch) == architecture.depth
        and all(wanted in (None, width) for wanted, width in zip(arch, architecture.hidden_sizes))
    )
    least, most = min_parameters or 0, max_parameters or architecture.num_parameters
    return fits and least <= architecture.num_parameters <= most


def describe_population(architectures: Sequence[MLPArchitecture]) -> dict[str, Any]:
    """Share of every depth, and the 0th, 5th, …, 100th percentile of the parameter counts."""
    depths = Counter(architecture.depth for architecture in architectures)
    counts = [architecture.num_parameters for architecture in architectures]
    return {
        "depths": {str(depth): depths[depth] / len(architectures) for depth in sorted(depths)},
        "num_parameters": np.percentile(counts, range(0, 101, 5)).tolist(),
    }


# Section `comparison`: are they copies, and what do simpler ways to get a new network from the GHN's give?


def comparison_parts(evaluator: Evaluator) -> dict[str, Part]:
    generator = evaluator.generator("comparison")
    architectures = [evaluator.task.splits.architecture(DOCUMENTED_ARCHITECTURE)]
    architectures += [evaluator.sample(split, 1, generator)[0] for split in SPLITS]
    num_networks = evaluator.arguments.num_compared_networks
    return {
        "-".join(map(str, architecture.hidden_sizes)): Part(num_networks, partial(compare, evaluator, architecture))
        for architecture in architectures
    }


def compare(evaluator: Evaluator, architecture: MLPArchitecture) -> dict[str, Any]:
    """Distances of generated networks to the GHN's and to one another, against those of fresh ones of the GHN."""
    arguments, generator = evaluator.arguments, evaluator.generator("comparison", str(architecture))
    num_networks = arguments.num_compared_networks
    references = evaluator.generate_by_ghn(architecture, arguments.num_references, generator)
    networks = {
        "nnit": evaluator.generate(architecture, num_networks, generator),
        "ghn": evaluator.generate_by_ghn(architecture, num_networks, generator),
    }
    closeness = {
        name: closeness_of(networks[name], references, evaluator.pipe.tokenizer, evaluator.task) for name in networks
    }
    ratios = {
        f"{kind}_ratio": closeness["nnit"][kind] / closeness["ghn"][kind]
        for kind in ("nearest_distance", "mean_distance")
    }
    networks |= baselines(networks["ghn"], evaluator.pipe.tokenizer, closeness["nnit"]["nearest_distance"], generator)
    for name in ("ghn", "nnit"):
        networks[f"{name}_ensemble"] = [
            ensemble(networks[name][start : start + arguments.num_ensemble])
            for start in range(0, num_networks - arguments.num_ensemble + 1, arguments.num_ensemble)
        ]
    return {
        **describe(architecture),
        "split": evaluator.task.splits.split_of(architecture.hidden_sizes),
        "num_networks": num_networks,
        "num_references": arguments.num_references,
        **ratios,
        **closeness,
        "scores": {
            name: {**summary(evaluator.scores(members)), "num_networks": len(members)}
            for name, members in networks.items()
        },
    }


# Section `steps`: fewer and more denoising steps.


def step_parts(evaluator: Evaluator) -> dict[str, Part]:
    arguments = evaluator.arguments
    num_networks = 2 * arguments.num_step_architectures * arguments.num_step_networks
    return {str(steps): Part(num_networks, partial(score_steps, evaluator, steps)) for steps in arguments.steps}


def score_steps(evaluator: Evaluator, num_steps: int) -> dict[str, Any]:
    arguments, result = evaluator.arguments, {}
    for split in ("held_out_combinations", "held_out_widths"):
        generator = evaluator.generator("steps", split)
        architectures = evaluator.sample(split, arguments.num_step_architectures, generator)
        start = time.perf_counter()
        networks = evaluator.generate(architectures, arguments.num_step_networks, generator, num_steps)
        seconds = time.perf_counter() - start
        scores = np.reshape(evaluator.scores(networks), (len(architectures), -1)).tolist()
        result[split] = {**summary_with_interval(scores), "seconds_per_network": seconds / len(networks)}
    return {**result, "num_networks": arguments.num_step_architectures * arguments.num_step_networks}


SECTIONS: dict[str, Callable[[Evaluator], dict[str, Part]]] = {
    "splits": split_parts,
    "widths": width_parts,
    "joint": joint_parts,
    "comparison": comparison_parts,
    "steps": step_parts,
}


def settings_of(pipe: NNiTPipeline, task: Task, arguments: Arguments) -> dict[str, Any]:
    """What makes an evaluation this one: arguments, weights, task; as JSON has it."""
    network = pipe.ghn.generate([task.splits.architecture(DOCUMENTED_ARCHITECTURE)])
    settings = {
        **{name: value for name, value in asdict(arguments).items() if name not in PLACES},
        "weights_sha256": fingerprint(pipe),
        "training_grid": {name: getattr(task, name) for name in ("min_width", "max_width", "max_depth")},
        "num_test_episodes": evaluate(network, task, split="test")[0].num_episodes,
    }
    return json.loads(json.dumps(settings))


def open_report(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The evaluation begun at `path`, or an empty one.

    Raises:
        `ValueError`: If it is of other weights, or was made with other arguments.
    """
    if not path.exists():
        return {"settings": settings, "runs": []}
    report = json.loads(path.read_text(encoding="utf-8"))
    others = [name for name in settings if report["settings"].get(name) != settings[name]]
    if others:
        raise ValueError(
            f"`output_path` must be a new file or an evaluation with the same settings, but received {str(path)!r}, "
            f"which differs in {others}."
        )
    return report


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    if pipe.ghn is None:
        raise ValueError(
            "`pretrained_model_name_or_path` must be a pipeline with a GHN to compare with, but received "
            f"{arguments.pretrained_model_name_or_path!r}, which has none."
        )
    pipe.set_progress_bar_config(disable=True)
    task = get_task(arguments.task, **({"data_dir": arguments.data_dir} if arguments.data_dir else {}))
    path = Path(arguments.output_path)
    report = open_report(path, settings_of(pipe, task, arguments))

    with tqdm(desc="Evaluation", unit="network") as bar:
        evaluator = Evaluator(pipe, task, arguments, bar)
        parts = {
            (section, name): part
            for section in arguments.sections
            for name, part in SECTIONS[section](evaluator).items()
            if name not in report.get(section, {})
        }
        bar.reset(total=sum(part.num_networks for part in parts.values()))
        if parts:
            report["runs"].append(provenance())
        for (section, name), part in parts.items():
            bar.set_postfix_str(f"{section} {name}")
            start = time.perf_counter()
            result = part.compute()
            report.setdefault(section, {})[name] = {**result, "seconds": time.perf_counter() - start}
            write_json(path, report)
    print(report_tables(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
