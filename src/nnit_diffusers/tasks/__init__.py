"""Tasks: the problems that networks are generated for. A task has data, a loss and a way to score networks."""

from .base import DATA_SPLITS, Score, SearchPlan, Task
from .classification import ClassificationTask
from .imitation import ImitationTask
from .registry import get_task, list_tasks, register_task


__all__ = [
    "DATA_SPLITS",
    "ClassificationTask",
    "ImitationTask",
    "Score",
    "SearchPlan",
    "Task",
    "get_task",
    "list_tasks",
    "register_task",
]
