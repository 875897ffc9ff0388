"""Compares devices: times generation and training on an accelerator and on the CPU, in one run.

    python benchmarks/compare_devices.py --task pickcube --pretrained_model_name_or_path nnit/pickcube \
        --data_dir outputs/pickcube/demonstrations --output_path docs/measurements/pickcube_devices.json

For every device, precision and batch, it measures the seconds to generate, the peak memory where the device reports
it, and the difference of the weights from the first row at the same noise. It also times a training step with the
settings that the pipeline was trained with. There are no rollouts, so no simulator is needed.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from measuring import median_seconds
from tqdm.auto import tqdm
from training_cost import repeated_step

from nnit_diffusers import MLP, NNiTPipeline
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.provenance import provenance
from nnit_diffusers.writing import write_json


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Program of a separate process that times a training step, since accelerate uses one device per process.
TRAINING_PROGRAM = """
import json, sys
folder, arguments = sys.argv[1:]
sys.path.insert(0, folder)
from compare_devices import Arguments, time_training
print(json.dumps(time_training(Arguments(**json.loads(arguments)))))
"""


def available_devices() -> tuple[str, ...]:
    """The CPU, and the accelerator if there is one."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ("cpu",) if accelerator is None else ("cpu", accelerator.type)


@dataclass
class Arguments:
    """Compares the speed of devices."""

    output_path: str
    """JSON file to write."""
    pretrained_model_name_or_path: str = "nnit/pickcube"
    """Pipeline: a folder or a Hub repository."""
    task: str = "pickcube"
    """Name of a registered task."""
    data_dir: str | None = None
    """Folder of the data that the task needs for training."""
    hidden_sizes: tuple[int, ...] = (128, 256)
    """Architecture of every network."""
    devices: tuple[str, ...] = field(default_factory=available_devices)
    """Devices to compare."""
    dtypes: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", "bfloat16")
    """Precisions of the transformer during generation."""
    batches: tuple[int, ...] = (1, 8, 100)
    """Batch sizes of generation."""
    num_inference_steps: int = 20
    """Denoising steps."""
    num_repeats: int = 3
    """Timed runs per measurement, of which the median is reported."""
    seed: int = 0
    """Seed of generated networks."""


def generate(pipe: NNiTPipeline, arguments: Arguments, num_networks: int) -> list[MLP]:
    # a CPU generator, for the same noise on every device
    generator = torch.Generator().manual_seed(arguments.seed)
    return pipe(
        list(arguments.hidden_sizes),
        num_networks=num_networks,
        num_inference_steps=arguments.num_inference_steps,
        generator=generator,
    ).networks


def relative_difference(networks: Sequence[MLP], others: Sequence[MLP]) -> float:
    """Rms of the difference of all weights, divided by the rms of the others' weights."""
    vectors, other_vectors = (
        torch.cat([tensor.cpu().double().flatten() for network in some for tensor in network.state_dict().values()])
        for some in (networks, others)
    )
    return float((vectors - other_vectors).norm() / other_vectors.norm())


def measure_generation(arguments: Arguments, bar: tqdm) -> Iterator[dict[str, Any]]:
    """A row for every device, precision and batch."""
    references: dict[int, tuple[list[MLP], float]] = {}
    for device in arguments.devices:
        for dtype in arguments.dtypes:
            pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path, dtype=DTYPES[dtype])
            pipe.to(device)
            pipe.set_progress_bar_config(disable=True)
            for num_networks in arguments.batches:
                bar.set_postfix_str(f"{device}, {dtype}, batch of {num_networks}")
                # generate, timed
                if device != "cpu":
                    torch.accelerator.reset_peak_memory_stats()
                networks = generate(pipe, arguments, num_networks)
                seconds = median_seconds(partial(generate, pipe, arguments, num_networks), arguments.num_repeats)
                # relative to the first row of this batch size
                first, first_seconds = references.setdefault(num_networks, (networks, seconds))
                yield {
                    "device": device,
                    "dtype": dtype,
                    "num_networks": num_networks,
                    "seconds": seconds,
                    "networks_per_second": num_networks / seconds,
                    "times_as_fast_as_first": first_seconds / seconds,
                    "relative_difference_from_first": relative_difference(networks, first),
                    "peak_device_bytes": None if device == "cpu" else torch.accelerator.max_memory_allocated(),
                }
                bar.update()


def time_training(arguments: Arguments) -> dict[str, Any]:
    """Seconds per training step on the device that accelerate chooses."""
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    with repeated_step(pipe, arguments) as (step, num_networks):
        return {"num_networks": num_networks, "seconds": median_seconds(step, 10 * arguments.num_repeats)}


def measure_training(arguments: Arguments, device: str) -> dict[str, Any]:
    """Seconds per training step on one device."""
    command = [sys.executable, "-c", TRAINING_PROGRAM, str(Path(__file__).parent), json.dumps(asdict(arguments))]
    environment = {**os.environ, "ACCELERATE_USE_CPU": str(device == "cpu").lower()}
    finished = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return {"device": device, **json.loads(finished.stdout.splitlines()[-1])}


def measure(arguments: Arguments) -> dict[str, Any]:
    """The report."""
    # measure generation and training
    num_rows = len(arguments.devices) * len(arguments.dtypes) * len(arguments.batches)
    with tqdm(total=num_rows + len(arguments.devices), desc="Devices", unit="measurement") as bar:
        rows = list(measure_generation(arguments, bar))
        training = []
        for device in arguments.devices:
            bar.set_postfix_str(f"{device}, training")
            training.append(measure_training(arguments, device))
            training[-1]["times_as_fast_as_first"] = training[0]["seconds"] / training[-1]["seconds"]
            bar.update()
    # with where it was measured
    return {
        "arguments": asdict(arguments),
        **provenance(),
        "processor": platform.processor() or platform.machine(),
        "num_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "generation": rows,
        "training": training,
    }


def report_tables(report: dict[str, Any]) -> str:
    # generation
    generation = [
        [
            row["device"],
            row["dtype"],
            str(row["num_networks"]),
            f"{row['seconds']:.3g} s",
            f"{row['networks_per_second']:.1f}",
            f"{row['times_as_fast_as_first']:.2g}",
            f"{row['relative_difference_from_first']:.1e}",
        ]
        for row in report["generation"]
    ]
    header = ["Device", "Precision", "Batch", "Time", "Networks per second", "Speed-up", "Weights differ by"]
    # training
    training = [
        [row["device"], str(row["num_networks"]), f"{row['seconds']:.3g} s", f"{row['times_as_fast_as_first']:.2g}"]
        for row in report["training"]
    ]
    return "\n\n".join(
        (
            f"{list(report['arguments']['hidden_sizes'])} networks, {report['gpu'] or 'no CUDA GPU'}",
            markdown_table(header, generation),
            markdown_table(["Device", "Networks per training step", "Time", "Speed-up"], training),
        )
    )


def main(arguments: Arguments) -> None:
    report = measure(arguments)
    write_json(Path(arguments.output_path), report)
    print(report_tables(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
