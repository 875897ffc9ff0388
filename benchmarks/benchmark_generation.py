"""Measures the cost of generating a network, beside the cost of training one.

    python benchmarks/benchmark_generation.py --pretrained_model_name_or_path nnit/digits \
        --output_path nnit/digits/benchmark.json

    python benchmarks/benchmark_generation.py --task pickcube --pretrained_model_name_or_path nnit/pickcube \
        --data_dir outputs/pickcube/demonstrations --output_path nnit/pickcube/benchmark.json --hidden_sizes 128 256 \
        --num_scored 4 --num_episodes 50 --learning_rate 1e-3 --train_batch_size 256 --max_train_steps 6000 \
        --validation_steps 100 --validation_growth 1.3

All measurements are made in one run, so that ratios compare one machine in one state:

- time to generate one network at several numbers of denoising steps,
- time to train one by SGD (Adam) to the same score, for robots by imitating the GHN's demonstrations,
- networks per second in batches, and peak memory,
- the share of this machine's matmul rate that generation and training reach,
- for robots, episodes per second.
"""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from measuring import count_operations, measure_memory, median_seconds, share_of_matmul_rate
from tqdm.auto import tqdm
from training_cost import compare_row, measure_training, sgd_curve

from nnit_diffusers import MLP, NNiTPipeline, Task, evaluate
from nnit_diffusers.evaluation.summary import with_interval_over_networks
from nnit_diffusers.markdown import markdown_table as table
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.simulation.portable_networks import PortableNetwork
from nnit_diffusers.tasks.simulation.rollouts import EpisodeJob
from nnit_diffusers.tasks.simulation.seeds import episode_seeds
from nnit_diffusers.writing import write_json


@dataclass
class Arguments:
    """Measures the cost of generation."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data or demonstrations, or where to download them, if the task needs any."""
    output_path: str = "nnit/digits/benchmark.json"
    """JSON file to write."""
    hidden_sizes: tuple[int, ...] = (48, 40)
    """Architecture of every network."""
    steps: tuple[int, ...] = (1, 2, 4, 8, 20)
    """Numbers of denoising steps for the first table; all other measurements use the last."""
    batches: tuple[int, ...] = (1, 8, 100)
    """Batch sizes of generation."""
    num_scored: int = 32
    """Generated networks whose mean score SGD has to reach."""
    num_episodes: int | None = None
    """Validation episodes or samples per evaluation of a network; the task's own number by default."""
    num_repeats: int = 5
    """Timed runs per measurement, of which the median is reported."""
    learning_rate: float = 1e-2
    """Learning rate of SGD."""
    train_batch_size: int = 128
    """Batch size of SGD."""
    max_train_steps: int = 3000
    """Steps of SGD after which the score counts as not reached."""
    validation_steps: int = 5
    """Steps of SGD before its first evaluation on validation data; evaluations are not timed."""
    validation_growth: float = 1.0
    """Growth of the interval from one evaluation to the next: for example 1.3 for rollouts, which take long."""
    sgd_seeds: tuple[int, ...] = (0, 1, 2)
    """Seed of each training run by SGD; the median time is reported."""
    evaluation_workers: tuple[int, ...] = (1, 2)
    """Numbers of worker processes to time rollouts with."""
    num_timed_episodes: int = 40
    """Rollouts to time with each number of workers."""
    seed: int = 0
    """Seed of generated networks."""


def generate(pipe: NNiTPipeline, arguments: Arguments, num_networks: int, num_steps: int) -> list[MLP]:
    generator = torch.Generator().manual_seed(arguments.seed)
    return pipe(
        list(arguments.hidden_sizes),
        num_networks=num_networks,
        num_inference_steps=num_steps,
        generator=generator,
    ).networks


def score(networks: Sequence[MLP], task: Task, num_episodes: int | None) -> dict[str, Any]:
    """Mean validation score, with its confidence interval over networks."""
    results = evaluate(networks, task, num_episodes, split="validation", progress_bar=False)
    metrics = with_interval_over_networks(results)
    return {
        "validation_score": metrics["mean"],
        "validation_score_interval": metrics["interval"],
        "validation_score_interval_method": metrics["interval_method"],
        "num_validation_episodes": results[0].num_episodes,
    }


def compare_with_sgd(pipe: NNiTPipeline, task: Task, arguments: Arguments, bar: tqdm) -> dict[str, Any]:
    """Time to generate one network at each number of steps, and to train one by SGD to the same validation score."""
    # generation
    rows = {}
    for steps in arguments.steps:
        bar.set_postfix_str(f"{steps} steps")
        rows[str(steps)] = {
            "seconds": median_seconds(partial(generate, pipe, arguments, 1, steps), arguments.num_repeats),
            **score(generate(pipe, arguments, arguments.num_scored, steps), task, arguments.num_episodes),
        }
        bar.update()
    # SGD, until the highest of the scores
    highest = max(row["validation_score"] for row in rows.values())
    architecture = task.regions.architecture(arguments.hidden_sizes)
    curves = []
    for seed in arguments.sgd_seeds:
        bar.set_postfix_str(f"SGD, seed {seed}")
        curves.append(sgd_curve(task, architecture, arguments, seed, highest))
        bar.update()
    # time to each score
    for row in rows.values():
        row |= compare_row(row["seconds"], row["validation_score"], row["num_validation_episodes"], curves)
    return rows


def measure_batches(pipe: NNiTPipeline, arguments: Arguments, bar: tqdm) -> dict[str, Any]:
    """Networks per second in batches, and the share of the matmul rate that generation reaches."""
    rows = {}
    for num_networks in arguments.batches:
        bar.set_postfix_str(f"batch of {num_networks}")

        def run(num_steps: int = arguments.steps[-1], num_networks: int = num_networks) -> list[MLP]:
            return generate(pipe, arguments, num_networks, num_steps)

        # operations of one step, times the number of steps
        num_operations = count_operations(partial(run, 1)) * arguments.steps[-1]
        seconds = median_seconds(run, arguments.num_repeats)
        rows[str(num_networks)] = {
            "seconds": seconds,
            "networks_per_second": num_networks / seconds,
            **share_of_matmul_rate(num_operations, seconds, arguments.num_repeats),
        }
        bar.update()
    return rows


def measure_rollouts(pipe: NNiTPipeline, task: ManiSkillTask, arguments: Arguments, bar: tqdm) -> dict[str, Any]:
    """Episodes per second for each number of worker processes, and the seconds to start them."""
    # one policy, the same episodes every time
    (policy,) = generate(pipe, arguments, 1, arguments.steps[-1])
    network = PortableNetwork.from_network(policy)
    seeds = episode_seeds("validation", arguments.seed, arguments.num_timed_episodes)
    jobs = [EpisodeJob(seed, network) for seed in seeds]
    rows = {}
    for num_workers in arguments.evaluation_workers:
        bar.set_postfix_str(f"rollouts, {num_workers} workers")
        task.close()
        times = [time.perf_counter()]
        # First one job per worker, so that all have started: the first episode of a process takes longer.
        for some in (jobs[:1] * num_workers, jobs):
            task.run(some, num_workers)
            times.append(time.perf_counter())
        rows[str(num_workers)] = {
            "start_seconds": times[1] - times[0],
            "seconds": times[2] - times[1],
            "episodes_per_second": len(jobs) / (times[2] - times[1]),
        }
        bar.update()
    return rows


def duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def one_network_table(report: dict[str, Any]) -> str:
    rows = []
    for steps, row in report["one_network"].items():
        # score with its interval
        reached = f"{row['validation_score']:.1%}"
        if row.get("validation_score_interval"):
            low, high = row["validation_score_interval"]
            reached += f" ({100 * low:.1f} to {100 * high:.1f})"
        # time of SGD and its ratio: intervals where the report has them
        sgd = ["not reached", "-"]
        if "sgd_seconds" not in row:
            sgd = ["-", "-"]
        elif row["sgd_seconds"] is not None:
            sgd = [duration(row["sgd_seconds"]), f"{row['sgd_seconds_ratio']:.2g}"]
            if "sgd_seconds_interval" in row:
                sgd = [
                    f"{duration(row['sgd_seconds_interval'][0])} to {duration(row['sgd_seconds_interval'][1])}",
                    "{:.2g} to {:.2g}".format(*row["sgd_seconds_ratio_interval"]),
                ]
        rows.append([steps, duration(row["seconds"]), reached, *sgd])
    header = ["Steps", "Generating one", "Validation score", "Training one to the same", "Training / generating"]
    return table(header, rows)


def batches_table(report: dict[str, Any]) -> str:
    rows = []
    for batch, row in report["batches"].items():
        memory = report["memory"]["batches"][batch]
        sizes = [f"{memory[name] / 2**20:.0f} MiB" for name in ("peak_bytes", "bytes_above_loaded")]
        rows.append([batch, f"{row['networks_per_second']:.1f}", f"{row['share_of_matmul_rate']:.0%}", *sizes])
    header = ["Batch", "Networks a second", "Share of matmul rate", "Peak memory", "More than after loading"]
    return table(header, rows)


def other_lines(report: dict[str, Any]) -> str:
    """Measurements without a table of their own; older reports lack them."""
    lines = []
    if "training" in report:
        step = report["training"]
        lines.append(
            f"- A training step of the transformer, on {step['networks']} networks: {duration(step['seconds'])}, "
            f"{step['share_of_matmul_rate']:.0%} of the matmul rate."
        )
    for num_workers, row in report.get("rollouts", {}).items():
        lines.append(f"- Rollouts in {num_workers} process(es): {row['episodes_per_second']:.1f} episodes a second.")
    return "\n".join(lines)


def report_tables(report: dict[str, Any]) -> str:
    architecture, steps = list(report["arguments"]["hidden_sizes"]), report["arguments"]["steps"][-1]
    parts = [
        f"{architecture} networks on {report['num_threads']} thread(s)",
        one_network_table(report),
        f"In batches, {steps} steps",
        batches_table(report),
        other_lines(report),
    ]
    return "\n\n".join(filter(None, parts))


def measure(pipe: NNiTPipeline, task: Task, arguments: Arguments) -> dict[str, Any]:
    """The report."""
    # Loads the data untimed, so that missing demonstrations raise an error before anything is measured.
    task.training_batch(1, torch.Generator().manual_seed(0))
    # number of measurements, for the progress bar
    num_measurements = len(arguments.steps) + len(arguments.sgd_seeds) + len(arguments.batches) + 2
    num_measurements += len(arguments.evaluation_workers) if isinstance(task, ManiSkillTask) else 0
    with tqdm(total=num_measurements, desc="Benchmark", unit="measurement") as bar:
        # generation, for every task
        report = {
            "arguments": asdict(arguments),
            **provenance(),
            "processor": platform.processor() or platform.machine(),
            "num_threads": torch.get_num_threads(),
            "one_network": compare_with_sgd(pipe, task, arguments, bar),
            "batches": measure_batches(pipe, arguments, bar),
            "memory": measure_memory(
                arguments.pretrained_model_name_or_path, arguments.hidden_sizes, arguments.steps[-1], arguments.batches
            ),
        }
        bar.update()
        # training step and rollouts, where possible
        if pipe.ghn is not None:
            report["training"] = measure_training(pipe, arguments)
        bar.update()
        if isinstance(task, ManiSkillTask):
            report["rollouts"] = measure_rollouts(pipe, task, arguments, bar)
    return report


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    pipe.set_progress_bar_config(disable=True)
    task = load_task(arguments.task, arguments.data_dir).with_grid(**pipe.grid)
    try:
        report = measure(pipe, task, arguments)
    finally:
        if isinstance(task, ManiSkillTask):
            task.close()
    write_json(Path(arguments.output_path), report)
    print(report_tables(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
