"""Generate the weights of MLPs of any width and depth with one diffusion transformer (NNiT, arXiv 2603.00180)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any


__version__ = "0.1.0"

# Public names by module: imported when first used, so that `import nnit_diffusers` costs next to nothing.
_EXPORTS = {
    "architecture": ["MLPArchitecture"],
    "networks": ["MLP"],
    "splits": ["ArchitectureSplits"],
    "models.graph_hypernetwork": ["GraphHyperNetwork"],
    "tasks": ["ClassificationTask", "Task", "get_task", "list_tasks", "register_task"],
    "evaluation": ["EvaluationResult", "evaluate"],
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .architecture import MLPArchitecture
    from .evaluation import EvaluationResult, evaluate
    from .models.graph_hypernetwork import GraphHyperNetwork
    from .networks import MLP
    from .splits import ArchitectureSplits
    from .tasks import ClassificationTask, Task, get_task, list_tasks, register_task


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
