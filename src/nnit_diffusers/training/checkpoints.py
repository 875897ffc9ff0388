"""Checkpoints and the record of a training run: written atomically, resumed exactly, one run a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError

from ..loading.local import read_json_object
from ..provenance import provenance
from ..writing import replace_folder, write_json
from .config import OPERATIONAL_FIELDS, TrainingConfig


if TYPE_CHECKING:
    from accelerate import Accelerator


CHECKPOINT_PREFIX = "checkpoint-"
RECORD_NAME = "training.json"


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


def find_checkpoints(output_dir: str | Path, resume_from_checkpoint: str | None) -> list[Path]:
    """Checkpoints to try in this order: all, newest first, for `"latest"`, or the one of that name or path.

    Raises:
        `ValueError`: If the named checkpoint does not exist.
    """
    if resume_from_checkpoint is None:
        return []
    if resume_from_checkpoint == "latest":
        return list_checkpoints(output_dir)[::-1]
    for folder in (Path(output_dir) / resume_from_checkpoint, Path(resume_from_checkpoint)):
        if folder.is_dir():
            return [folder]
    available = [folder.name for folder in list_checkpoints(output_dir)]
    raise ValueError(
        f'`resume_from_checkpoint` must be "latest" or one of {available} in {str(output_dir)!r}, but received '
        f"{resume_from_checkpoint!r}."
    )


def claim_folder(output_dir: str | Path, config: TrainingConfig) -> None:
    """Makes sure that the checkpoints in a folder are those of this run.

    Newer checkpoints than the one that a run begins at belong to another run. They would be resumed in its place, or
    removed as the oldest of too many.

    Raises:
        `ValueError`: If there are such checkpoints and `config.overwrite` is false, or if a resumed run was configured
            differently.
    """
    output_dir = Path(output_dir)
    if config.resume_from_checkpoint is not None:
        _check_resumed_config(output_dir, config)
    # checkpoints behind the one to begin at, which is the last one for "latest"
    first = find_checkpoints(output_dir, config.resume_from_checkpoint)
    begin = checkpoint_step(first[0]) if first and first[0].parent == output_dir else 0
    newer = [folder for folder in list_checkpoints(output_dir) if checkpoint_step(folder) > begin]
    if newer and not config.overwrite:
        raise ValueError(
            f"`output_dir` must hold no checkpoints of another run, but {str(output_dir)!r} holds "
            f"{[folder.name for folder in newer]}. Resume with `resume_from_checkpoint='latest'`, remove them with "
            "`overwrite=True`, or choose another folder."
        )
    for folder in newer:
        shutil.rmtree(folder)


def _check_resumed_config(output_dir: Path, config: TrainingConfig) -> None:
    """Raises `ValueError` if a setting that shapes the weights differs from the record of the run to resume."""
    path = output_dir / RECORD_NAME
    if not path.exists() or not list_checkpoints(output_dir):
        return
    recorded = read_json_object(path).get("arguments", {})
    wanted = json.loads(json.dumps(asdict(config)))
    changed = [
        f"`{name}` is {recorded[name]!r} there and {value!r} here"
        for name, value in wanted.items()
        if name not in OPERATIONAL_FIELDS and name in recorded and recorded[name] != value
    ]
    if changed:
        raise ValueError(
            f"A resumed run must have the settings it began with, but in {str(path)!r} {'; '.join(changed)}. Begin "
            "another run in another folder, or replace this one with `overwrite=True`."
        )


def load_checkpoint(candidates: Sequence[Path], load: Callable[[Path], None]) -> tuple[Path | None, list[str]]:
    """Loads the first checkpoint that is intact.

    Returns:
        `tuple[Path | None, list[str]]`: The one loaded, `None` without candidates, and what was wrong with others.

    Raises:
        `ValueError`: If none of them is intact.
    """
    problems: list[str] = []
    for folder in candidates:
        try:
            load(folder)
        except Exception as error:  # what a damaged file raises depends on the file
            problems.append(f"{str(folder)!r} is damaged: {' '.join(f'{type(error).__name__}: {error}'.split())}")
        else:
            return folder, problems
    if problems:
        raise ValueError(f"No checkpoint could be resumed. {' '.join(problems)}")
    return None, []


def save_checkpoint(accelerator: Accelerator, output_dir: str | Path, step: int, total_limit: int | None) -> Path:
    """Writes `checkpoint-{step}` atomically, then removes the oldest checkpoints beyond `total_limit`.

    If the training run is killed at any time, the newest checkpoint is complete. Call it on every process.

    Raises:
        `OSError`: If it cannot be written, on a full disk for example; earlier checkpoints are kept.
    """
    # save to a temporary folder
    final = Path(output_dir) / f"{CHECKPOINT_PREFIX}{step}"
    partial = final.with_name(f"partial-{step}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        free = shutil.disk_usage(output_dir).free / 2**20
        raise OSError(
            f"Checkpoint {str(final)!r} could not be written; its disk has {free:,.0f} MiB free. Earlier checkpoints "
            f"are intact. ({' '.join(str(error).split())[:200]})"
        ) from error
    accelerator.wait_for_everyone()
    # rename the complete checkpoint, then remove old ones
    if accelerator.is_main_process:
        replace_folder(partial, final)
        if total_limit is not None:
            # A newer one can only be a damaged one that was passed over on resuming.
            until_now = [folder for folder in list_checkpoints(output_dir) if checkpoint_step(folder) <= step]
            for folder in until_now[: -max(total_limit, 1)]:
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
        self.path = Path(output_dir) / RECORD_NAME
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

    def has_validation(self, step: int) -> bool:
        """Whether the metrics of this step are in the record."""
        return any(metrics["step"] == step for metrics in self.content["validation"])

    def add_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of a validation."""
        self.content["validation"].append({"step": step, **metrics})
        write_json(self.path, self.content)


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


def register_model_hooks(
    accelerator: Accelerator, models: Mapping[str, ModelMixin], ema_models: Mapping[str, EMAModel]
) -> None:
    """Makes checkpoints of `accelerator` store models and their EMAs in the format of `from_pretrained`.

    A checkpoint holds a folder per model (`transformer/`, …) and one per EMA (`transformer_ema/`, …).
    """

    def save_hook(wrapped_models: list[Any], weights: list[Any], output_dir: str) -> None:
        if accelerator.is_main_process:
            for name, model in models.items():
                model.save_pretrained(Path(output_dir) / name)
            for name, ema in ema_models.items():
                ema.save_pretrained(Path(output_dir) / f"{name}_ema")
        # An empty list keeps accelerate from storing the same weights again in its own format.
        weights.clear()

    def load_hook(wrapped_models: list[Any], input_dir: str) -> None:
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
