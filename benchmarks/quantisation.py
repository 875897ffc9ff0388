"""Compares networks with 32-bit floats and with 8-bit weights, on the same episodes.

    python benchmarks/quantisation.py --output_path docs/measurements/digits_int8.json

    python benchmarks/quantisation.py --task pickcube --pretrained_model_name_or_path nnit/pickcube \
        --hidden_sizes 82 --num_networks 4 --num_episodes 50 --output_path docs/measurements/pickcube_int8.json

Every generated network is scored twice: as it is, and as `nnit export --format c --quantize int8` writes it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import tyro

from nnit_diffusers import EvaluationResult, NNiTPipeline, evaluate
from nnit_diffusers.evaluation.summary import difference_summary, with_interval_over_networks
from nnit_diffusers.export import footprint, quantize
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.writing import write_json


PRECISIONS = (None, "int8")


@dataclass
class Arguments:
    """Scores networks with 32-bit floats and with 8-bit weights."""

    output_path: str
    """JSON file to write."""
    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data or demonstrations, or where to download them, if the task needs any."""
    hidden_sizes: tuple[int, ...] = (48, 40)
    """Architecture of every network."""
    num_networks: int = 16
    """Number of networks."""
    num_episodes: int | None = None
    """Episodes or samples for each network; the task's own number by default."""
    num_workers: int | None = None
    """Processes that run episodes; the task's own number by default."""
    num_inference_steps: int = 20
    """Denoising steps."""
    seed: int = 0
    """Seed of the networks and of the episodes."""


def row(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """Scores of the networks of one precision, with the interval of their mean."""
    counts = [result.num_successes for result in results]
    return {**with_interval_over_networks(results), "scores": [r.score for r in results], "num_successes": counts}


def main(arguments: Arguments) -> None:
    # the same weights in both precisions
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    pipe.set_progress_bar_config(disable=True)
    networks = pipe(
        list(arguments.hidden_sizes),
        num_networks=arguments.num_networks,
        num_inference_steps=arguments.num_inference_steps,
        generator=torch.Generator().manual_seed(arguments.seed),
    ).networks

    # the same episodes for both
    task = load_task(arguments.task, arguments.data_dir)
    candidates = [*networks, *(quantize(network) for network in networks)]
    results = evaluate(candidates, task, arguments.num_episodes, arguments.seed, arguments.num_workers)
    floats, integers = results[: len(networks)], results[len(networks) :]
    differences = [after.score - before.score for before, after in zip(floats, integers, strict=True)]
    costs = {precision or "float32": footprint(networks[0].architecture, precision) for precision in PRECISIONS}

    # report
    report = {
        "settings": {**asdict(arguments), **provenance()},
        "architecture": networks[0].architecture.to_dict(),
        "footprint": {precision: cost.to_dict() for precision, cost in costs.items()},
        "float32": row(floats),
        "int8": row(integers),
        "int8_minus_float32": difference_summary(differences, "num_networks"),
    }
    write_json(arguments.output_path, report)
    rows = [
        [precision, f"{statistics.fmean(r.score for r in each):.4f}", f"{costs[precision].weight_bytes:,}"]
        for precision, each in (("float32", floats), ("int8", integers))
    ]
    print(markdown_table(["weights", f"mean score on {task.name}", "bytes"], rows))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
