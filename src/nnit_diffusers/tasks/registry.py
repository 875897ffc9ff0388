"""Tasks by name. The module of a built-in task is imported when the task is first requested."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from .base import Task


TaskClass = TypeVar("TaskClass", bound=type[Task])

_PATHS = {
    "digits": "nnit_diffusers.tasks.digits.DigitsTask",
    "mnist": "nnit_diffusers.tasks.mnist.MNISTTask",
    "pickcube": "nnit_diffusers.tasks.maniskill.tasks.PickCubeTask",
    "pushcube": "nnit_diffusers.tasks.maniskill.tasks.PushCubeTask",
    "stackcube": "nnit_diffusers.tasks.maniskill.tasks.StackCubeTask",
    "stackcube-easy": "nnit_diffusers.tasks.maniskill.tasks.StackCubeEasyTask",
}
_CLASSES: dict[str, type[Task]] = {}


def register_task(name: str) -> Callable[[TaskClass], TaskClass]:
    """Class decorator that makes a [`Task`] available to [`get_task`] and sets its `name`.

    Raises:
        `ValueError`: If another class has that name. A class may be registered again, as notebooks do.
    """

    def register(task_class: TaskClass) -> TaskClass:
        path = f"{task_class.__module__}.{task_class.__qualname__}"
        if _PATHS.setdefault(name, path) != path:
            raise ValueError(f"`name` must be new, but received {name!r}, the name of {_PATHS[name]}.")
        task_class.name = name
        _CLASSES[name] = task_class
        return task_class

    return register


def list_tasks() -> list[str]:
    """Names of all tasks that [`get_task`] can construct."""
    return sorted(_PATHS)


def get_task(name: str, **kwargs: Any) -> Task:
    """The task registered as `name`, constructed with `kwargs`.

    Raises:
        `ValueError`: If no task has that name.
    """
    if name not in _PATHS:
        raise ValueError(f"`name` must be one of {list_tasks()}, but received {name!r}.")
    if name not in _CLASSES:
        import_module(_PATHS[name].rpartition(".")[0])
    return _CLASSES[name](**kwargs)
