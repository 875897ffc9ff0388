"""Tasks in environments of Meta-World. The library is imported when the first environment is created, not before."""

from .descriptions import ENVIRONMENTS, MT10
from .task import MetaWorldTask


__all__ = ["ENVIRONMENTS", "MT10", "MetaWorldTask"]
