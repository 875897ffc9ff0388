"""Measures what generating a network costs, beside what training it would have.

    python examples/benchmarks/benchmark_generation.py --pretrained_model_name_or_path nnit/digits \
        --output_path nnit/digits/benchmark.json

All of it in one run, so that the ratios are of one machine in one state: the time of one network at several numbers of
denoising steps, and of training one by SGD (Adam) until it is as accurate; networks a second in batches; peak memory;
and how much of the matrix products that this machine manages generation does.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from nnit_diffusers import MLP, MLPArchitecture, NNiTPipeline, Task, evaluate, get_task
from nnit_diffusers.networks import fold_observation_statistics, stack_state_dicts
from nnit_diffusers.utils import provenance, write_json


# Steps of SGD between two looks at the validation data, which are not timed.
VALIDATION_STEPS = 5
MATMUL_SIZE = 1024


@dataclass
class Arguments:
    """Measures what generation costs."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline, a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Where the task finds or downloads its data, if it needs any."""
    output_path: str = "nnit/digits/benchmark.json"
    """The JSON to write."""
    hidden_sizes: tuple[int, ...] = (48, 40)
    """Architecture of every network."""
    steps: tuple[int, ...] = (1, 2, 4, 8, 20)
    """Numbers of denoising steps; the last is that of everything but the first table."""
    batches: tuple[int, ...] = (1, 8, 100)
    """Networks generated at once."""
    num_scored: int = 32
    """Networks whose mean accuracy SGD has to reach."""
    num_repeats: int = 5
    """Runs that a time is the median of."""
    learning_rate: float = 1e-2
    """Of SGD."""
    train_batch_size: int = 128
    """Of SGD."""
    max_train_steps: int = 3000
    """Steps after which SGD is taken not to get there."""
    sgd_seeds: tuple[int, ...] = (0, 1, 2)
    """Trainings by SGD; the time is their median."""
    seed: int = 0
    """Of generated networks."""


def median_seconds(function: Callable[[], Any], num_repeats: int) -> float:
    """Of running `function` once more than that: the first run, which sets things up, does not count."""
    times = []
    for _ in range(num_repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def generate(pipe: NNiTPipeline, arguments: Arguments, num_networks: int, num_steps: int) -> list[MLP]:
    generator = torch.Generator().manual_seed(arguments.seed)
    return pipe(
        list(arguments.hidden_sizes),
        num_networks=num_networks,
        num_inference_steps=num_steps,
        generator=generator,
    ).networks


def mean_score(networks: list[MLP], task: Task) -> float:
    return statistics.fmean(result.score for result in evaluate(networks, task, split="validation"))


def sgd_curve(
    task: Task, architecture: MLPArchitecture, arguments: Arguments, seed: int, target: float
) -> list[tuple[float, float]]:
    """Seconds of training and the validation score after them, until the score is `target`."""
    torch.manual_seed(seed)
    network = MLP.from_architecture(architecture)
    optimizer = torch.optim.Adam(network.parameters(), lr=arguments.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    seconds, curve = 0.0, []
    for step in range(1, arguments.max_train_steps + 1):
        start = time.perf_counter()
        inputs, targets = task.training_batch(arguments.train_batch_size, generator)
        outputs = network((inputs - task.observation_mean) / task.observation_std)
        optimizer.zero_grad()
        task.loss(outputs[None], targets).mean().backward()
        optimizer.step()
        seconds += time.perf_counter() - start
        if step % VALIDATION_STEPS == 0:
            stacked = stack_state_dicts([network.state_dict()])
            folded = fold_observation_statistics(stacked, task.observation_mean, task.observation_std)
            (score,) = task.score_batch(folded, architecture.activation, split="validation")
            curve.append((seconds, score.num_successes / score.num_episodes))
            if curve[-1][1] >= target:
                break
    return curve


def seconds_to_reach(curve: list[tuple[float, float]], target: float) -> float:
    return next((seconds for seconds, score in curve if score >= target), float("inf"))


def compare_with_sgd(pipe: NNiTPipeline, task: Task, arguments: Arguments, bar: tqdm) -> dict[str, Any]:
    """Time of one network by number of steps, and of training one by SGD to the same score on validation data."""
    rows = {}
    for steps in arguments.steps:
        bar.set_postfix_str(f"{steps} steps")
        rows[str(steps)] = {
            "seconds": median_seconds(lambda steps=steps: generate(pipe, arguments, 1, steps), arguments.num_repeats),
            "validation_score": mean_score(generate(pipe, arguments, arguments.num_scored, steps), task),
        }
        bar.update()
    highest = max(row["validation_score"] for row in rows.values())
    architecture = task.splits.architecture(arguments.hidden_sizes)
    curves = []
    for seed in arguments.sgd_seeds:
        bar.set_postfix_str(f"SGD, seed {seed}")
        curves.append(sgd_curve(task, architecture, arguments, seed, highest))
        bar.update()
    for row in rows.values():
        seconds = statistics.median(seconds_to_reach(curve, row["validation_score"]) for curve in curves)
        is_reached = seconds < float("inf")
        row["sgd_seconds"] = seconds if is_reached else None
        row["sgd_seconds_ratio"] = seconds / row["seconds"] if is_reached else None
    return rows


# What a process of its own runs to have its peak memory measured: after loading, then after every batch.
MEMORY_PROGRAM = """
import json, resource, sys
from nnit_diffusers import NNiTPipeline
name, hidden_sizes, num_steps, batches = map(json.loads, sys.argv[1:])
pipe = NNiTPipeline.from_pretrained(name)
pipe.set_progress_bar_config(disable=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
for num_networks in batches:
    pipe(hidden_sizes, num_networks=num_networks, num_inference_steps=num_steps)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure_memory(arguments: Arguments) -> dict[str, Any]:
    """Bytes that a process takes at most to load the pipeline, and to generate networks with it.

    On Linux a program's peak is never below that of the process that started it: so this one starts a shell, which
    takes next to nothing, and the shell starts the program.
    """
    batches = sorted(arguments.batches)
    request = (arguments.pretrained_model_name_or_path, arguments.hidden_sizes, arguments.steps[-1], batches)
    command = [sys.executable, "-c", MEMORY_PROGRAM, *map(json.dumps, request)]
    finished = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command], check=True, stdout=subprocess.PIPE, text=True
    )
    # macOS counts bytes, others kibibytes.
    unit = 1 if sys.platform == "darwin" else 1024
    loaded, *peaks = (int(line) * unit for line in finished.stdout.split())
    return {
        "loaded_bytes": loaded,
        "batches": {
            str(num_networks): {"peak_bytes": peak, "bytes_above_loaded": peak - loaded}
            for num_networks, peak in zip(batches, peaks, strict=True)
        },
    }


def matmul_rate(num_repeats: int) -> float:
    """Floating-point operations a second in the product of two large matrices."""
    left, right = torch.rand(2, MATMUL_SIZE, MATMUL_SIZE)
    return 2 * MATMUL_SIZE**3 / median_seconds(lambda: left @ right, num_repeats)


def measure_batches(pipe: NNiTPipeline, arguments: Arguments, bar: tqdm) -> dict[str, Any]:
    """Networks a second, and the share of the rate of matrix products that generating them comes to."""
    rows = {}
    for num_networks in arguments.batches:
        bar.set_postfix_str(f"batch of {num_networks}")
        # As matrix products: the counter knows no fused attention on a CPU.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            generate(pipe, arguments, num_networks, 1)
        num_operations = counter.get_total_flops() * arguments.steps[-1]
        seconds = median_seconds(
            lambda num_networks=num_networks: generate(pipe, arguments, num_networks, arguments.steps[-1]),
            arguments.num_repeats,
        )
        rate = matmul_rate(arguments.num_repeats)
        rows[str(num_networks)] = {
            "seconds": seconds,
            "networks_per_second": num_networks / seconds,
            "operations_per_second": num_operations / seconds,
            "matmul_operations_per_second": rate,
            "share_of_matmul_rate": num_operations / seconds / rate,
        }
        bar.update()
    return rows


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text too."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def one_network_table(report: dict[str, Any]) -> str:
    rows = []
    for steps, row in report["one_network"].items():
        sgd = ["not reached", "-"]
        if row["sgd_seconds"] is not None:
            sgd = [f"{1000 * row['sgd_seconds']:.0f} ms", f"{row['sgd_seconds_ratio']:.2g}"]
        rows.append([steps, f"{1000 * row['seconds']:.0f} ms", f"{row['validation_score']:.1%}", *sgd])
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


def report_tables(report: dict[str, Any]) -> str:
    architecture, steps = list(report["arguments"]["hidden_sizes"]), report["arguments"]["steps"][-1]
    return (
        f"{architecture} networks on {report['num_threads']} thread(s)\n\n{one_network_table(report)}\n\n"
        f"In batches, {steps} steps\n\n{batches_table(report)}"
    )


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    pipe.set_progress_bar_config(disable=True)
    task = get_task(arguments.task, **({"data_dir": arguments.data_dir} if arguments.data_dir else {}))
    num_measurements = len(arguments.steps) + len(arguments.sgd_seeds) + len(arguments.batches) + 1
    with tqdm(total=num_measurements, desc="Benchmark", unit="measurement") as bar:
        report = {
            "arguments": asdict(arguments),
            **provenance(),
            "processor": platform.processor() or platform.machine(),
            "num_threads": torch.get_num_threads(),
            "one_network": compare_with_sgd(pipe, task, arguments, bar),
            "batches": measure_batches(pipe, arguments, bar),
            "memory": measure_memory(arguments),
        }
        bar.update()
    write_json(Path(arguments.output_path), report)
    print(report_tables(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
