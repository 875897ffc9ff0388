"""Times `nnit train` from start to end, and collects what the pipelines reach.

    python benchmarks/time_training.py --tasks digits examples.custom_task:breast_cancer --preset small \
        --work_dir outputs/presets --output_path docs/measurements/presets_small.json

Every task is trained in a process of its own, as a user would. Nothing else should run on the machine. A run that was
stopped is not resumed, since its time would be wrong: its folder has to be removed.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from nnit_diffusers.evaluation.tables import report_tables
from nnit_diffusers.loading.local import read_json_object
from nnit_diffusers.provenance import provenance
from nnit_diffusers.writing import write_json


@dataclass
class Arguments:
    """Times training runs of all stages."""

    tasks: tuple[str, ...] = ("digits",)
    """Names of tasks, or `module:name` for tasks of your own."""
    preset: Literal["small", "base", "large"] = "small"
    """Preset of all of them."""
    work_dir: str = "outputs/presets"
    """Folder of the pipelines, a new one for each task."""
    output_path: str = "docs/measurements/presets_small.json"
    """JSON file to write, or to add tasks to."""


def measure(task: str, arguments: Arguments) -> dict[str, Any]:
    """Trains a pipeline and returns the seconds that it took, with its evaluation without single networks."""
    folder = Path(arguments.work_dir) / task.rpartition(":")[2]
    command = [sys.executable, "-m", "nnit_diffusers", "train", task]
    command += ["--preset", arguments.preset, "--output", str(folder)]
    if folder.exists():
        raise ValueError(f"`work_dir` must have no folder of task {task!r} yet, but {str(folder)!r} exists.")
    start = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    report = read_json_object(folder / "evaluation.json")
    print(report_tables(report))  # type: ignore[arg-type]
    return {
        "seconds": seconds,
        "preset": arguments.preset,
        "num_threads": torch.get_num_threads(),
        **provenance(),
        "recipe": read_json_object(folder / "recipe.json"),
        "evaluation": report,
    }


def main(arguments: Arguments) -> None:
    path = Path(arguments.output_path)
    what = "Wall-clock time of `nnit train` with its evaluation, and the evaluation."
    tasks = read_json_object(path)["tasks"] if path.exists() else {}
    for task in arguments.tasks:
        tasks[task] = measure(task, arguments)
        print(f"{task}: {tasks[task]['seconds'] / 60:.1f} minutes")
        write_json(path, {"what": what, "tasks": tasks})


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
