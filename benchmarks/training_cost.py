"""Cost of training: one network by SGD to the score of a generated one, and one step of the transformer."""

import copy
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import count_operations, median_seconds, share_of_matmul_rate

from nnit_diffusers import MLP, MLPArchitecture, NNiTPipeline, Task, evaluate
from nnit_diffusers.folding import fold_observation_statistics
from nnit_diffusers.tasks import load_task
from nnit_diffusers.training import NNiTTrainingConfig
from nnit_diffusers.training.transformer import NNiTTrainer


def evaluation_steps(max_train_steps: int, first: int, growth: float) -> Iterator[int]:
    """Steps after which SGD's network is evaluated; the interval, `first` at the beginning, grows by `growth`."""
    step, interval = 0, float(first)
    while (step := step + max(1, round(interval))) <= max_train_steps:
        yield step
        interval *= growth


def sgd_step(
    task: Task, network: MLP, optimizer: torch.optim.Optimizer, batch_size: int, generator: torch.Generator
) -> torch.Tensor:
    """A training step of one network on standardised inputs; returns its loss."""
    inputs, targets = task.training_batch(batch_size, generator)
    outputs = network((inputs - task.observation_mean) / task.observation_std)
    loss = task.loss(outputs[None], targets).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def sgd_curve(
    task: Task, architecture: MLPArchitecture, arguments: Any, seed: int, target: float
) -> list[tuple[float, float]]:
    """Pairs of training seconds and validation score, until the score reaches `target`.

    The seconds are of training only, without evaluation.
    """
    # one network and its optimizer
    torch.manual_seed(seed)
    network = MLP.from_architecture(architecture)
    optimizer = torch.optim.Adam(network.parameters(), lr=arguments.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    seconds, curve, step = 0.0, [], 0
    steps = evaluation_steps(arguments.max_train_steps, arguments.validation_steps, arguments.validation_growth)
    for evaluation_step in steps:
        # train, timed
        start = time.perf_counter()
        while step < evaluation_step:
            sgd_step(task, network, optimizer, arguments.train_batch_size, generator)
            step += 1
        seconds += time.perf_counter() - start
        # evaluate, untimed
        folded = fold_observation_statistics(network.state_dict(), task.observation_mean, task.observation_std)
        raw = MLP.from_architecture(architecture, folded)
        (result,) = evaluate([raw], task, arguments.num_episodes, split="validation", progress_bar=False)
        curve.append((seconds, result.score))
        if curve[-1][1] >= target:
            break
    return curve


def seconds_to_reach(curve: Sequence[tuple[float, float]], target: float) -> float:
    """Seconds at the first evaluation with a score of at least `target`; infinity if there is none."""
    return next((seconds for seconds, score in curve if score >= target), float("inf"))


def seconds_not_reached(curve: Sequence[tuple[float, float]], target: float) -> float:
    """Seconds at the evaluation before that one: the score was reached between the two."""
    seconds = 0.0
    for now, score in curve:
        if score >= target:
            return seconds
        seconds = now
    return float("inf")


def compare_row(
    generation_seconds: float, target: float, num_episodes: int, curves: Sequence[Sequence[tuple[float, float]]]
) -> dict[str, Any]:
    """Time of SGD to a score, as the median over its seeds, with its precision.

    The true time lies between two evaluations, given as `sgd_seconds_interval`. An evaluation has the standard error
    `sgd_score_standard_error`, and the first that reaches the score by chance counts. With few episodes, the times are
    therefore more likely too short than too long.
    """
    if not curves:
        return {}
    # seconds and their bounds
    highs = [seconds_to_reach(curve, target) for curve in curves]
    lows = [seconds_not_reached(curve, target) for curve in curves]
    seconds = statistics.median(highs)
    interval = [statistics.median(lows), seconds]
    # relative to generation
    is_reached = math.isfinite(seconds)
    return {
        "sgd_seconds": seconds if is_reached else None,
        "sgd_seconds_interval": interval if is_reached else None,
        "sgd_seconds_ratio": seconds / generation_seconds if is_reached else None,
        "sgd_seconds_ratio_interval": [bound / generation_seconds for bound in interval] if is_reached else None,
        "sgd_score_standard_error": math.sqrt(target * (1 - target) / num_episodes),
        "num_sgd_looks": [len(curve) for curve in curves],
    }


def training_config(pipe: NNiTPipeline, arguments: Any) -> NNiTTrainingConfig:
    """Settings of a training run like the pipeline's own.

    They are read from the pipeline's `training_nnit.json` if there is one, and are the defaults otherwise.
    """
    # recorded arguments
    recorded = Path(arguments.pretrained_model_name_or_path) / "training_nnit.json"
    trained_with = json.loads(recorded.read_text(encoding="utf-8"))["arguments"] if recorded.exists() else {}
    # replaced: what must not happen in a benchmark
    replaced = {
        "patch_size": pipe.transformer.config.patch_size,
        "dataloader_num_workers": 0,
        "resume_from_checkpoint": None,
        "report_to": "none",
        "push_to_hub": False,
    }
    # settings that there still are
    known = {field.name for field in fields(NNiTTrainingConfig)}
    return NNiTTrainingConfig(**{name: value for name, value in (trained_with | replaced).items() if name in known})


@contextmanager
def open_trainer(pipe: NNiTPipeline, arguments: Any, **settings: Any) -> Iterator[NNiTTrainer]:
    """A training run like the pipeline's own, with other `settings` if given, in a temporary folder."""
    task = load_task(arguments.task, arguments.data_dir).with_grid(**pipe.grid)
    config = replace(training_config(pipe, arguments), **settings)
    with tempfile.TemporaryDirectory() as folder:
        yield NNiTTrainer(task, pipe.ghn, config, folder, pretrained=copy.deepcopy(pipe.transformer))


@contextmanager
def repeated_step(pipe: NNiTPipeline, arguments: Any) -> Iterator[tuple[Callable[[], None], int]]:
    """A step of `train_nnit` that can be called repeatedly, and its number of networks.

    Every call repeats the same step, including drawing its networks, since other architectures would take other times.
    """
    with open_trainer(pipe, arguments) as trainer:
        yield partial(repeat_step, trainer), trainer.config.train_batch_size * trainer.num_micro_steps


def repeat_step(trainer: NNiTTrainer) -> None:
    """The first step of a training run, on its own batches."""
    trainer.step = 0
    batches = trainer.batches()
    trainer.train_step([next(batches) for _ in range(trainer.num_micro_steps)])


def measure_training(pipe: NNiTPipeline, arguments: Any) -> dict[str, Any]:
    """Time of a training step of the transformer, and its share of the matmul rate."""
    with open_trainer(pipe, arguments) as trainer:
        step = partial(repeat_step, trainer)
        num_operations = count_operations(step)
        seconds = median_seconds(step, arguments.num_repeats)
        return {
            "seconds": seconds,
            "networks": trainer.config.train_batch_size * trainer.num_micro_steps,
            **share_of_matmul_rate(num_operations, seconds, arguments.num_repeats, trainer.accelerator.device),
        }
