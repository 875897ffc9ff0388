"""Shared parts of the training scripts in `examples/`: randomness per step, EMA, checkpoints, training record."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from huggingface_hub import create_repo, upload_folder

from .files import read_json_object
from .hub import model_card
from .pipelines import NNiTPipeline
from .pipelines.loading import PIPELINE_FILE, PIPELINE_FILE_NAME
from .utils import provenance, write_json


if TYPE_CHECKING:
    from accelerate import Accelerator


T = TypeVar("T")

CHECKPOINT_PREFIX = "checkpoint-"


def step_generator(seed: int, step: int, process_index: int = 0, stream: int = 0) -> torch.Generator:
    """Generator for all randomness of one training step on one process.

    It depends only on its arguments, so a resumed training run draws the same numbers as an uninterrupted one.

    Parameters:
        seed (`int`): Seed of the training run.
        step (`int`): Number of the step, or of the micro-step under gradient accumulation.
        process_index (`int`, defaults to 0): Index of the process in distributed training.
        stream (`int`, defaults to 0): Number of an independent generator within the step.
    """
    mixed = seed
    for part in (step, process_index, stream):
        # one round of SplitMix64, so that seeds of neighbouring steps are unrelated
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed & (2**63 - 1))


def prefetch(prepare: Callable[[int], T], numbers: Iterable[int], num_workers: int) -> Iterator[T]:
    """Yields `prepare(number)` for every number in order, and computes results ahead in threads.

    Parameters:
        prepare (`Callable[[int], T]`): Called with each number, by several threads at once.
        numbers (`Iterable[int]`): Numbers in the order of the results.
        num_workers (`int`): Threads, each of which computes one result ahead; 0 computes each result on request.
    """
    if num_workers == 0:
        yield from map(prepare, numbers)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        ahead: deque[Future[T]] = deque()
        for number in numbers:
            ahead.append(pool.submit(prepare, number))
            if len(ahead) > num_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@contextmanager
def averaged_weights(model: ModelMixin, ema: EMAModel | None) -> Iterator[None]:
    """Context in which the model has the averaged parameters of `ema`; without an EMA, its own."""
    if ema is None:
        yield
        return
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        ema.restore(model.parameters())


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """`checkpoint-{step}` folders of a training run, oldest first."""
    folders = [
        folder
        for folder in Path(output_dir).glob(f"{CHECKPOINT_PREFIX}*")
        if folder.name.removeprefix(CHECKPOINT_PREFIX).isdigit()
    ]
    return sorted(folders, key=checkpoint_step)


def checkpoint_step(folder: Path) -> int:
    """Optimisation step after which a checkpoint was written."""
    return int(folder.name.removeprefix(CHECKPOINT_PREFIX))


def find_checkpoint(output_dir: str | Path, resume_from_checkpoint: str | None) -> Path | None:
    """Checkpoint of `--resume_from_checkpoint`: `"latest"`, a name in `output_dir`, or a path.

    Returns:
        `Path` or `None`: `None` if none was requested, or `"latest"` when there is none yet.

    Raises:
        `ValueError`: If the named checkpoint does not exist.
    """
    if resume_from_checkpoint is None:
        return None
    if resume_from_checkpoint == "latest":
        return next(reversed(list_checkpoints(output_dir)), None)
    for folder in (Path(output_dir) / resume_from_checkpoint, Path(resume_from_checkpoint)):
        if folder.is_dir():
            return folder
    available = [folder.name for folder in list_checkpoints(output_dir)]
    raise ValueError(
        f'`resume_from_checkpoint` must be "latest" or one of {available} in {str(output_dir)!r}, but received '
        f"{resume_from_checkpoint!r}."
    )


def save_checkpoint(accelerator: Accelerator, output_dir: str | Path, step: int, total_limit: int | None) -> Path:
    """Writes `checkpoint-{step}` atomically, then removes the oldest checkpoints beyond `total_limit`.

    If the training run is killed at any time, the newest checkpoint is complete. Call it on every process.
    """
    # save to a temporary folder
    final = Path(output_dir) / f"{CHECKPOINT_PREFIX}{step}"
    partial = final.with_name(f"partial-{step}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    # rename the complete checkpoint, then remove old ones
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        if total_limit is not None:
            for folder in list_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(folder)
    accelerator.wait_for_everyone()
    return final


class TrainingRecord:
    """Record of a training run in `training.json`: arguments, provenance and validation metrics.

    A resumed training run keeps the record up to its checkpoint, and adds under `resumed` the step and provenance.

    Parameters:
        output_dir (`str` or `Path`): Folder of the training run.
        arguments (`Mapping[str, Any]`): Arguments of the training run.
        step (`int`, defaults to 0): Step of the checkpoint that the training run resumes from; 0 if it does not.
    """

    def __init__(self, output_dir: str | Path, arguments: Mapping[str, Any], step: int = 0):
        self.path = Path(output_dir) / "training.json"
        self.content: dict[str, Any] = {"arguments": dict(arguments), **provenance(), "validation": []}
        if step and self.path.exists():
            earlier = read_json_object(self.path)
            self.content |= {
                **earlier,
                "arguments": dict(arguments),
                "validation": [metrics for metrics in earlier.get("validation", []) if metrics["step"] <= step],
                "resumed": [*earlier.get("resumed", []), {"step": step, **provenance()}],
            }
        write_json(self.path, self.content)

    def add_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of a validation."""
        self.content["validation"].append({"step": step, **metrics})
        write_json(self.path, self.content)


def register_model_hooks(
    accelerator: Accelerator, models: Mapping[str, ModelMixin], ema_models: Mapping[str, EMAModel]
) -> None:
    """Makes checkpoints of `accelerator` store models and their EMAs in the format of `from_pretrained`.

    A checkpoint holds a folder per model (`transformer/`, …) and one per EMA (`transformer_ema/`, …).
    """

    def save_hook(wrapped_models: list, weights: list, output_dir: str) -> None:
        if accelerator.is_main_process:
            for name, model in models.items():
                model.save_pretrained(Path(output_dir) / name)
            for name, ema in ema_models.items():
                ema.save_pretrained(Path(output_dir) / f"{name}_ema")
        # An empty list keeps accelerate from storing the same weights again in its own format.
        weights.clear()

    def load_hook(wrapped_models: list, input_dir: str) -> None:
        wrapped_models.clear()
        for name, model in models.items():
            saved = type(model).from_pretrained(Path(input_dir) / name)
            model.load_state_dict(saved.state_dict())
        for name, ema in ema_models.items():
            saved_ema = EMAModel.from_pretrained(Path(input_dir) / f"{name}_ema", type(models[name]))
            ema.load_state_dict(saved_ema.state_dict())
            ema.to(accelerator.device)

    accelerator.register_save_state_pre_hook(save_hook)
    accelerator.register_load_state_pre_hook(load_hook)


def push_to_hub(folder: str | Path, repo_id: str) -> str:
    """Uploads a trained model or pipeline, with a model card that shows how to load it.

    Parameters:
        folder (`str` or `Path`): Folder of the model or pipeline.
        repo_id (`str`): Name of the repository; it is created if it does not exist.

    Returns:
        `str`: URL of the commit.
    """
    repo_id = create_repo(repo_id, exist_ok=True).repo_id
    is_pipeline = Path(folder, NNiTPipeline.config_name).exists()
    config = read_json_object(Path(folder, NNiTPipeline.config_name if is_pipeline else "config.json"))
    model_card(repo_id, config["_class_name"]).save(Path(folder) / "README.md")
    if is_pipeline:
        Path(folder, PIPELINE_FILE_NAME).write_text(PIPELINE_FILE, encoding="utf-8")
    return upload_folder(repo_id=repo_id, folder_path=folder, commit_message="End of training").commit_url
