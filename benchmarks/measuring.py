"""Measurements shared by the benchmarks: seconds, floating-point operations, and a separate process or training."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nnit_diffusers.loading.local import read_json_object


# Side of the matrices that the rate is measured on: large enough for the device to be busy.
MATMUL_SIZE, ACCELERATOR_MATMUL_SIZE = 1024, 8192


def median_seconds(function: Callable[[], Any], num_repeats: int) -> float:
    """Median seconds of `num_repeats` runs of `function`, after one untimed run for initialisation."""
    times = []
    for _ in range(num_repeats + 1):
        start = time.perf_counter()
        function()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def count_operations(function: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions in `function`, forward and backward."""
    # Attention as matrix products, since the counter does not support fused attention on a CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def share_of_matmul_rate(
    num_operations: int,
    seconds: float,
    num_repeats: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Operations per second of a computation, and their share of the device's rate on a large matmul now."""
    size = MATMUL_SIZE if torch.device(device).type == "cpu" else ACCELERATOR_MATMUL_SIZE
    left, right = torch.rand(2, size, size, device=device, dtype=dtype)
    rate = 2 * size**3 / median_seconds(lambda: left @ right, num_repeats)
    return {
        "operations_per_second": num_operations / seconds,
        "matmul_operations_per_second": rate,
        "share_of_matmul_rate": num_operations / seconds / rate,
    }


# Program of a separate process that prints its peak memory: after loading, then after every batch.
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


def measure_memory(name: str, hidden_sizes: Sequence[int], num_steps: int, batches: Sequence[int]) -> dict[str, Any]:
    """Peak memory in bytes of a process that loads the pipeline and generates networks with it.

    On Linux, a process inherits the peak of the process that starts it. This function therefore starts a shell, which
    needs little memory, and the shell starts the program.
    """
    # run the program from a shell
    batches = sorted(batches)
    command = [sys.executable, "-c", MEMORY_PROGRAM, *map(json.dumps, (name, hidden_sizes, num_steps, batches))]
    finished = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command], check=True, stdout=subprocess.PIPE, text=True
    )
    # read the peaks; macOS reports bytes, others kibibytes
    unit = 1 if sys.platform == "darwin" else 1024
    loaded, *peaks = (int(line) * unit for line in finished.stdout.split())
    return {
        "loaded_bytes": loaded,
        "batches": {
            str(num_networks): {"peak_bytes": peak, "bytes_above_loaded": peak - loaded}
            for num_networks, peak in zip(batches, peaks, strict=True)
        },
    }


def run_training(command: list[str], folder: Path) -> tuple[float, dict[str, Any]]:
    """Runs `nnit train ...` in a process of its own; returns its minutes, and the evaluation in its folder."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nnit_diffusers", *command[1:]], check=True)
    return (time.perf_counter() - start) / 60, read_json_object(folder / "evaluation.json")
