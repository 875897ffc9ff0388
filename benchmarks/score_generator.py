"""Scores a hypernetwork or nested slices alone, without a transformer.

    python benchmarks/score_generator.py --task stackcube --model_name_or_path outputs/stackcube/ghn/ghn \
        --num_networks 10 --num_episodes 20 --output_path docs/measurements/stackcube_ghn_scores.json

Several architectures of every region are scored on test data, with several latents each. Nested slices have one
network of each shape, and no depth or width but those they were trained on. These are the columns "GHN" and "Nested
slices" of an evaluation, on other architectures and episodes. The report is written after every architecture, so the
same command resumes an interrupted run.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm.auto import tqdm

from nnit_diffusers import GraphHyperNetwork, MLPArchitecture, NestedMLP, Task, evaluate
from nnit_diffusers.evaluation.report import open_report
from nnit_diffusers.evaluation.sections.base import describe
from nnit_diffusers.evaluation.sections.regions import sum_up
from nnit_diffusers.evaluation.summary import summary
from nnit_diffusers.loading.local import find_folder, read_json_object
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.provenance import provenance
from nnit_diffusers.regions import REGIONS, RegionName
from nnit_diffusers.tasks import load_task
from nnit_diffusers.training.randomness import step_generator
from nnit_diffusers.writing import write_json


Generator = GraphHyperNetwork | NestedMLP
MODELS: dict[str, Any] = {"GraphHyperNetwork": GraphHyperNetwork, "NestedMLP": NestedMLP}


@dataclass
class Arguments:
    """Scores a hypernetwork or nested slices alone."""

    model_name_or_path: str
    """`GraphHyperNetwork` or `NestedMLP`: a folder or a Hub repository."""
    output_path: str
    """JSON file to write or to add to."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    regions: tuple[RegionName, ...] = REGIONS
    """Regions to draw architectures from."""
    num_architectures: int = 10
    """Architectures of each region; fewer in a region that has fewer."""
    num_networks: int = 10
    """Networks of each architecture; nested slices have one."""
    num_episodes: int | None = None
    """Test episodes or samples per network; the task's own number by default."""
    seed: int = 4321
    """Seed of architectures, latents and episodes."""


def load(name_or_path: str) -> Generator:
    """The model, of the class that its configuration names."""
    path = find_folder(name_or_path, ("config.json",)) / "config.json"
    name = read_json_object(path).get("_class_name")
    if name not in MODELS:
        raise ValueError(f"`model_name_or_path` must be one of {list(MODELS)}, but {str(path)!r} is of a {name!r}.")
    return MODELS[name].from_pretrained(name_or_path)


def draw(task: Task, region: str, model: Generator, arguments: Arguments) -> list[MLPArchitecture]:
    """Architectures of a region, those that the model has."""
    generator = step_generator(arguments.seed, REGIONS.index(region), stream=1)
    drawn = task.regions.sample_distinct(region, arguments.num_architectures, generator)
    if isinstance(model, NestedMLP):
        return [architecture for architecture in drawn if model.has(architecture.hidden_sizes)]
    return drawn


def score(model: Generator, task: Task, architecture: MLPArchitecture, arguments: Arguments) -> dict[str, Any]:
    """Scores of the networks of one architecture; every episode runs to its last step."""
    # the same latents for every architecture, in any order
    generator = torch.Generator().manual_seed(arguments.seed)
    num_networks = 1 if isinstance(model, NestedMLP) else arguments.num_networks
    networks = model.generate([architecture] * num_networks, generator=generator)
    results = evaluate(networks, task, arguments.num_episodes, arguments.seed, progress_bar=False)
    return {**describe(architecture), **summary(results)}


def report_table(report: dict[str, Any]) -> str:
    rows = []
    for region, section in report["regions"].items():
        low, high = section["interval"]
        minimum = min(section["architectures"], key=lambda row: row["mean"])
        rows.append(
            [
                region,
                str(len(section["architectures"])),
                f"{section['mean']:.1%} ({100 * low:.1f} to {100 * high:.1f})",
                f"{section['success_at_end']:.1%}" if "success_at_end" in section else "-",
                f"{minimum['hidden_sizes']}: {minimum['mean']:.1%}",
            ]
        )
    return markdown_table(["Region", "Architectures", "Mean", "Success at episode end", "Minimum"], rows)


def main(arguments: Arguments) -> None:
    model = load(arguments.model_name_or_path)
    task = load_task(arguments.task)
    # start or resume the report
    report: dict[str, Any] = {**open_report(Path(arguments.output_path), json.loads(json.dumps(asdict(arguments))))}
    report["runs"].append(provenance())
    regions = report.setdefault("regions", {})
    drawn = {region: draw(task, region, model, arguments) for region in arguments.regions}
    with tqdm(total=sum(map(len, drawn.values())), unit="architecture") as bar:
        for region, architectures in drawn.items():
            rows = regions.get(region, {}).get("architectures", [])
            bar.update(len(rows))
            # architectures not scored yet
            for architecture in architectures[len(rows) :]:
                rows.append(score(model, task, architecture, arguments))
                regions[region] = {**sum_up(rows), "architectures": rows}
                write_json(Path(arguments.output_path), report)
                bar.update()
    print(report_table(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
