"""What is checked before the first stage of a training run, because a later one would refuse it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from accelerate import PartialState

from ..evaluation.config import check_choices
from ..evaluation.sections import SECTIONS
from ..tasks.base import Task
from ..tasks.imitation import ImitationTask
from ..tasks.simulation.task import SimulatorTask
from .one_step import check_teacher
from .recipe import Recipe
from .trainer import check_schedule


# What the last stage needs, to be missed at the beginning instead.
_NEEDED_PACKAGES = ("jinja2", "matplotlib", "PIL")


def check_environment() -> None:
    """Raises an error for what would fail after hours otherwise."""
    missing = [name for name in _NEEDED_PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(f"Training needs {missing}: `pip install nnit-diffusers[training]`.")
    if PartialState().num_processes > 1:
        raise ValueError(
            f"`train` must run in one process, but received {PartialState().num_processes}. For more, launch "
            "`train_ghn` and `train_nnit` with accelerate."
        )


def check_recipe(task: Task, recipe: Recipe, recording: str | Path | None = None) -> None:
    """Checks before the first stage what a later one would refuse.

    Raises:
        `ValueError`: If the recipe is of another task, or a setting does not fit the task or is out of range.
    """
    if recipe.task != task.name:
        raise ValueError(f"`recipe` must be of task {task.name!r}, but is of {recipe.task!r}.")
    _check_data_source(task, recipe, recording)
    for name, stage in (("nested", recipe.nested), ("ghn", recipe.ghn)):
        if stage and stage.dagger_steps and not (isinstance(task, ImitationTask) and task.can_label):
            raise ValueError(
                f"`{name}.dagger_steps` must be () for task {task.name!r}, which has no expert or teacher, but "
                f"received {stage.dagger_steps}."
            )
    for config in filter(None, (recipe.nested, recipe.ghn, recipe.nnit, recipe.tuning)):
        check_schedule(config)
    check_teacher(recipe.nnit, is_there=False)
    evaluation = recipe.evaluation.for_task(task)
    check_choices(evaluation, list(SECTIONS))
    if task.sample_name == "sample":
        most = min(task.num_evaluation_samples(split) for split in ("validation", "test"))
        for name in ("num_episodes", "num_final_episodes"):
            if (getattr(evaluation, name) or 0) > most:
                raise ValueError(
                    f"`evaluation.{name}` must be at most {most}, the samples of a split, but received "
                    f"{getattr(evaluation, name)}."
                )


def _check_data_source(task: Task, recipe: Recipe, recording: str | Path | None) -> None:
    """Raises `ValueError` unless a task in a simulator has exactly one source of demonstrations, and others none."""
    if not isinstance(task, SimulatorTask):
        if recipe.demonstrations is not None:
            raise ValueError(f"`demonstrations` must be None for task {task.name!r}, which has no expert to record.")
        if recording is not None:
            raise ValueError(f"`recording` must be None for task {task.name!r}, but received {str(recording)!r}.")
        return
    is_file = recording is not None and Path(recording).suffix in (".h5", ".hdf5", ".npz", ".safetensors")
    if recording is not None and is_file and not Path(recording).exists():
        raise FileNotFoundError(f"`recording` must be a file or a data set, but there is no {str(recording)!r}.")
    if task.data_dir is not None and recording is not None:
        raise ValueError(f"`recording` must be None with a `data_dir`, but received {str(recording)!r}.")
    has_data = task.data_dir is not None or recording is not None
    if recipe.demonstrations is not None and has_data:
        raise ValueError(
            f"`demonstrations` must be None with a `data_dir` or a `recording`, but received {recipe.demonstrations}."
        )
    if recipe.demonstrations is None and not has_data:
        raise ValueError(
            f"Task {task.name!r} must have a `teacher` to record or recorded demonstrations (`recording`, "
            "`--demonstrations`), but has neither."
        )
    if recipe.demonstrations is not None and not task.can_label:
        raise ValueError(f"`demonstrations` must be None for task {task.name!r}, which has no teacher to record.")
