"""Times a training step of the transformer on the device at hand, in its parts.

    python benchmarks/training_step.py --task digits --pretrained_model_name_or_path nnit/digits \
        --output_path outputs/training_step.json
    python benchmarks/training_step.py --task digits --pretrained_model_name_or_path nnit/digits \
        --mixed_precision bf16 --output_path outputs/training_step_bf16.json

A step has the settings that the pipeline was trained with. It generates networks with the GHN, encodes them as
patches, adds noise, then runs forward, backward and the optimizer. The same step is repeated, on the same networks.
The share of the matmul rate is the rate of matrix products in a part, divided by that of one large product on the same
device. Where the GHN generates in threads ahead of the step, a run spends less time than the sum of the parts.
"""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from measuring import count_operations, median_seconds, share_of_matmul_rate
from training_cost import open_trainer

from nnit_diffusers import NNiTPipeline
from nnit_diffusers.provenance import provenance
from nnit_diffusers.training.randomness import step_generator
from nnit_diffusers.training.transformer import NNiTTrainer
from nnit_diffusers.writing import write_json


MATMUL_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Arguments:
    """Times a training step in its parts."""

    output_path: str
    """JSON file to write."""
    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline with its GHN: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Folder of the data that the task needs for training."""
    train_batch_size: int | None = None
    """Networks of a micro-step; those of the pipeline's own training run by default."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the forward pass, and of the matmul whose rate is compared with."""
    num_repeats: int = 10
    """Timed runs per measurement, of which the median is reported."""


def parts_of(trainer: NNiTTrainer) -> dict[str, Callable[[], Any]]:
    """The parts of a micro-step: `prepare` is what comes before the model, and `train` the rest."""

    def generator() -> torch.Generator:
        return step_generator(trainer.config.seed, 0)

    networks = trainer.source.networks(trainer.config.train_batch_size, generator())
    batch = trainer.prepare_batch(generator())
    return {
        "generate": lambda: trainer.source.networks(trainer.config.train_batch_size, generator()),
        "encode": lambda: trainer.tokenizer.encode_state_dicts(*networks),
        "prepare": lambda: trainer.prepare_batch(generator()),
        "train": lambda: trainer.train_step([batch] * trainer.num_micro_steps),
    }


def measure(pipe: NNiTPipeline, arguments: Arguments) -> dict[str, Any]:
    """The report: seconds, operations per second and share of the matmul rate of each part and of the step."""
    settings: dict[str, Any] = {"mixed_precision": arguments.mixed_precision}
    if arguments.train_batch_size is not None:
        settings["train_batch_size"] = arguments.train_batch_size
    with open_trainer(pipe, arguments, **settings) as trainer:
        device, num_micro_steps = trainer.accelerator.device, trainer.num_micro_steps
        # time and count every part; `train` is of all micro-steps, the others of one
        seconds: dict[str, float] = {}
        operations: dict[str, int] = {}
        for name, part in parts_of(trainer).items():
            repeats = 1 if name == "train" else num_micro_steps
            operations[name] = repeats * count_operations(part)
            seconds[name] = repeats * median_seconds(part, arguments.num_repeats)
        seconds["noise"] = max(0.0, seconds["prepare"] - seconds["generate"] - seconds["encode"])
        seconds["step"] = seconds["prepare"] + seconds["train"]
        operations["step"] = operations["prepare"] + operations["train"]
        # relative to a matmul
        dtype = MATMUL_DTYPES[arguments.mixed_precision]
        shares = {
            name: share_of_matmul_rate(operations[name], seconds[name], arguments.num_repeats, device, dtype)
            for name in ("generate", "train", "step")
        }
        return {
            "arguments": asdict(arguments),
            **provenance(),
            "device": device.type,
            "device_name": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor(),
            "num_threads": torch.get_num_threads(),
            "networks": trainer.config.train_batch_size * num_micro_steps,
            "micro_steps": num_micro_steps,
            "seconds": seconds,
            "operations": operations,
            "rates": shares,
        }


def report_lines(report: dict[str, Any]) -> str:
    """The report in a few lines."""
    seconds, rates = report["seconds"], report["rates"]
    parts = ", ".join(f"{name} {seconds[name] * 1000:.3g} ms" for name in ("generate", "encode", "noise", "train"))
    return "\n".join(
        (
            f"{report['networks']} networks on {report['device_name'] or report['device']}: "
            f"{seconds['step'] * 1000:.4g} ms a step",
            f"of which {parts}",
            f"share of the matmul rate: {rates['train']['share_of_matmul_rate']:.1%} in training, "
            f"{rates['step']['share_of_matmul_rate']:.1%} of the step",
        )
    )


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    if pipe.ghn is None:
        raise ValueError(
            "`pretrained_model_name_or_path` must be a pipeline with a GHN, but "
            f"{arguments.pretrained_model_name_or_path!r} has none."
        )
    report = measure(pipe, arguments)
    write_json(Path(arguments.output_path), report)
    print(report_lines(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
