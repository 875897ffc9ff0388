"""Tasks in environments of Gymnasium. The library is imported when the first environment is created, not before."""

from .task import GymnasiumTask


__all__ = ["GymnasiumTask"]
