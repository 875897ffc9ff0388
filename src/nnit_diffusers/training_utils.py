"""What the scripts in `examples/` share: randomness by step, the EMA, whole checkpoints, a record of the training."""

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
    """Source of all randomness of one training step on one process.

    It depends on nothing but its arguments, so that a resumed training draws what the uninterrupted one would have.

    Parameters:
        seed (`int`): Seed of the training.
        step (`int`): Number of the step (of the micro-step, under gradient accumulation).
        process_index (`int`, defaults to 0): Process of a distributed training.
        stream (`int`, defaults to 0): Tells apart independent uses within one step.
    """
    mixed = seed
    for part in (step, process_index, stream):
        # One round of SplitMix64: neighbouring steps get unrelated seeds.
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed & (2**63 - 1))


def prefetch(prepare: Callable[[int], T], numbers: Iterable[int], num_workers: int) -> Iterator[T]:
    """`prepare(number)` for one number after the other, whatever `num_workers` is.

    Parameters:
        prepare (`Callable[[int], T]`): Called with each number, by several threads at once.
        numbers (`Iterable[int]`): What to prepare, in the order wanted.
        num_workers (`int`): Threads that work ahead, a result each; with 0 nothing is prepared before it is asked for.
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
    """Within it, the model has its averaged parameters; without an EMA, its own."""
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
    """`checkpoint-{step}` folders of a training, oldest first."""
    folders = [
        folder
        for folder in Path(output_dir).glob(f"{CHECKPOINT_PREFIX}*")
        if folder.name.removeprefix(CHECKPOINT_PREFIX).isdigit()
    ]
    return sorted(folders, key=checkpoint_step)


def checkpoint_step(folder: Path) -> int:
    """The optimisation step that a checkpoint was written after."""
    return int(folder.name.removeprefix(CHECKPOINT_PREFIX))


def find_checkpoint(output_dir: str | Path, resume_from_checkpoint: str | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` means: `"latest"`, a name in `output_dir`, or a path.

    Returns:
        `Path` or `None`: `None` if none was asked for, or `"latest"` when there is none yet.

    Raises:
        `ValueError`: If the checkpoint named does not exist.
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
    """Writes `checkpoint-{step}`, then removes the oldest ones beyond `total_limit`.

    The folder gets its name when everything is in it, and older ones go only then: whenever the training is killed,
    the newest checkpoint is whole. Call it on every process.
    """
    final = Path(output_dir) / f"{CHECKPOINT_PREFIX}{step}"
    partial = final.with_name(f"partial-{step}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        if total_limit is not None:
            for folder in list_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(folder)
    accelerator.wait_for_everyone()
    return final


class TrainingRecord:
    """`training.json`: how a training was called, with what, and what validation gave.

    A training that resumes keeps what was recorded up to its checkpoint, and says that it resumed.

    Parameters:
        output_dir (`str` or `Path`): Folder of the training.
        arguments (`Mapping[str, Any]`): Its arguments.
        step (`int`): The step it begins after, 0 unless it resumes.
    """

    def __init__(self, output_dir: str | Path, arguments: Mapping[str, Any], step: int = 0):
        self.path = Path(output_dir) / "training.json"
        self.content: dict[str, Any] = {"arguments": dict(arguments), **provenance(), "validation": []}
        if step and self.path.exists():
            earlier = read_json_object(self.path)
            self.content |= {
                **earlier,
                "arguments": dict(arguments),
                "validation": [figures for figures in earlier.get("validation", []) if figures["step"] <= step],
                "resumed": [*earlier.get("resumed", []), {"step": step, **provenance()}],
            }
        write_json(self.path, self.content)

    def add_validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a validation."""
        self.content["validation"].append({"step": step, **figures})
        write_json(self.path, self.content)


def register_model_hooks(
    accelerator: Accelerator, models: Mapping[str, ModelMixin], ema_models: Mapping[str, EMAModel]
) -> None:
    """Makes `accelerator.save_state` write every model as `from_pretrained` reads it, and its EMA beside it.

    A checkpoint holds a folder per model (`transformer/`, …) and one per EMA (`transformer_ema/`, …).
    """

    def save_hook(wrapped_models: list, weights: list, output_dir: str) -> None:
        if accelerator.is_main_process:
            for name, model in models.items():
                model.save_pretrained(Path(output_dir) / name)
            for name, ema in ema_models.items():
                ema.save_pretrained(Path(output_dir) / f"{name}_ema")
        # Emptied, so that accelerate does not write the same weights once more in its own format.
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
    """Uploads what a training saved, under a card that says which library loads it.

    Parameters:
        folder (`str` or `Path`): Folder of the model or pipeline.
        repo_id (`str`): Repository, made if there is none.

    Returns:
        `str`: Address of the commit.
    """
    repo_id = create_repo(repo_id, exist_ok=True).repo_id
    is_pipeline = Path(folder, NNiTPipeline.config_name).exists()
    config = read_json_object(Path(folder, NNiTPipeline.config_name if is_pipeline else "config.json"))
    model_card(repo_id, config["_class_name"]).save(Path(folder) / "README.md")
    if is_pipeline:
        Path(folder, PIPELINE_FILE_NAME).write_text(PIPELINE_FILE, encoding="utf-8")
    return upload_folder(repo_id=repo_id, folder_path=folder, commit_message="End of training").commit_url
