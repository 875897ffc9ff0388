"""Generate the weights of MLPs of any width and depth with one diffusion transformer (NNiT, arXiv 2603.00180)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .loading.registration import register as _register


__version__ = "0.1.0"

# Public names by module: imported when first used, so that `import nnit_diffusers` costs next to nothing.
_EXPORTS = {
    "architecture": ["MLPArchitecture"],
    "networks": ["MLP"],
    "folding": ["fold_observation_statistics", "fold_output_statistics"],
    "contract": ["NetworkContract"],
    "regions": ["ArchitectureRegions"],
    "export": ["EXPORT_FORMATS", "export_network"],
    "data": ["GHNWeightStream", "WeightDataset", "WeightDatasetWriter"],
    "models.graph_hypernetwork": ["GraphHyperNetwork"],
    "models.nested_mlp": ["NestedMLP"],
    "models.transformer_nnit": ["NNiTTransformer", "NNiTTransformerOutput"],
    "models.patches": ["WeightPatchBatch"],
    "models.weight_patch_tokenizer": ["WeightPatchTokenizer"],
    "pipelines": ["NNiTPipeline", "NNiTPipelineOutput", "split_generator"],
    "schedulers": ["NNiTArchitectureScheduler", "NNiTArchitectureSchedulerOutput"],
    "tasks.contracts": ["contract_of"],
    "tasks": ["ClassificationTask", "Task", "get_task", "list_tasks", "register_task"],
    "evaluation": ["EvaluationResult", "evaluate"],
    "network_search": ["SearchResult", "search"],
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:  # each name as itself: that is what makes it public to type checkers
    from .architecture import MLPArchitecture as MLPArchitecture
    from .contract import NetworkContract as NetworkContract
    from .data import GHNWeightStream as GHNWeightStream
    from .data import WeightDataset as WeightDataset
    from .data import WeightDatasetWriter as WeightDatasetWriter
    from .evaluation import EvaluationResult as EvaluationResult
    from .evaluation import evaluate as evaluate
    from .export import EXPORT_FORMATS as EXPORT_FORMATS
    from .export import export_network as export_network
    from .folding import fold_observation_statistics as fold_observation_statistics
    from .folding import fold_output_statistics as fold_output_statistics
    from .models.graph_hypernetwork import GraphHyperNetwork as GraphHyperNetwork
    from .models.nested_mlp import NestedMLP as NestedMLP
    from .models.patches import WeightPatchBatch as WeightPatchBatch
    from .models.transformer_nnit import NNiTTransformer as NNiTTransformer
    from .models.transformer_nnit import NNiTTransformerOutput as NNiTTransformerOutput
    from .models.weight_patch_tokenizer import WeightPatchTokenizer as WeightPatchTokenizer
    from .network_search import SearchResult as SearchResult
    from .network_search import search as search
    from .networks import MLP as MLP
    from .pipelines import NNiTPipeline as NNiTPipeline
    from .pipelines import NNiTPipelineOutput as NNiTPipelineOutput
    from .pipelines import split_generator as split_generator
    from .regions import ArchitectureRegions as ArchitectureRegions
    from .schedulers import NNiTArchitectureScheduler as NNiTArchitectureScheduler
    from .schedulers import NNiTArchitectureSchedulerOutput as NNiTArchitectureSchedulerOutput
    from .tasks import ClassificationTask as ClassificationTask
    from .tasks import Task as Task
    from .tasks import get_task as get_task
    from .tasks import list_tasks as list_tasks
    from .tasks import register_task as register_task
    from .tasks.contracts import contract_of as contract_of


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


_register()
