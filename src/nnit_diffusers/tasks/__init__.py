"""Tasks: the problems that networks are generated for. A task has data, a loss and a way to score networks."""

from .base import DATA_SPLITS, Score, Task
from .classification import ClassificationTask
from .imitation import ImitationTask
from .metadata import Features, Metric
from .registry import get_task, list_tasks, load_task, register_task
from .regression import RegressionTask


__all__ = [
    "DATA_SPLITS",
    "ClassificationTask",
    "Features",
    "ImitationTask",
    "Metric",
    "RegressionTask",
    "Score",
    "Task",
    "get_task",
    "list_tasks",
    "load_task",
    "register_task",
]
