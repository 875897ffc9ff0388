"""Teachers: functions from observations to actions that networks learn to imitate, from Python or from files."""

from .base import Teacher
from .loading import load_teacher


__all__ = ["Teacher", "load_teacher"]
