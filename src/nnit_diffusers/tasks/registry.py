"""Tasks by name. The module of a built-in task is imported when the task is first requested."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
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


def load_task(name: str, data_dir: str | Path | None = None) -> Task:
    """The task that a user names: one of the registry, or one of their own as `module:name`.

    The module, which may be in the working directory, is imported. `name` is then a name that it registered, or that
    of a [`Task`] in the module: a class, or an object.

    Parameters:
        name (`str`): Name of the task.
        data_dir (`str` or `Path`, *optional*): Folder of the task's data, if it reads any.

    Raises:
        `ValueError`: If the module can't be imported, there is no task of that name, or it takes no `data_dir`.
    """
    module_name, _, task_name = name.rpartition(":")
    found: Any = None
    if module_name:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            found = getattr(import_module(module_name), task_name, None)
        except (ImportError, TypeError) as error:
            raise ValueError(
                f"`task` must name a module that can be imported, but received {name!r}: {error}."
            ) from error
    options = {"data_dir": data_dir} if data_dir is not None else {}
    if isinstance(found, Task):
        if options:
            raise ValueError(
                f"`data_dir` must not be given for {name!r}, which is an object, but received {data_dir!r}."
            )
        _name(type(found), task_name)
        return found
    task_class = found if isinstance(found, type) and issubclass(found, Task) else None
    if task_class is None and task_name not in _PATHS:
        raise ValueError(f"`task` must be one of {list_tasks()} or `module:name`, but received {name!r}.")
    if task_class is not None:
        _name(task_class, task_name)
    try:
        return task_class(**options) if task_class is not None else get_task(task_name, **options)
    except TypeError as error:
        raise ValueError(f"Task {name!r} can't be made with {options or 'no arguments'}: {error}.") from error


def _name(task_class: type[Task], name: str) -> None:
    """Registers a class that has no name of its own; that of a base class is of another task."""
    if "name" not in vars(task_class):
        register_task(name)(task_class)


def spelled(task: Task) -> str:
    """What [`load_task`] finds a task by: its name, or `module:name` for one that is not built in."""
    module = type(task).__module__
    return task.name if module.startswith(f"{__package__}.") else f"{module}:{task.name}"
