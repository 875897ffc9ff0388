"""Makes diffusers load our pipelines and their components, by a plain `DiffusionPipeline` too.

`import nnit_diffusers` changes two things in diffusers, and nothing for any other pipeline:

- Components: diffusers loads those of the libraries in two tables of its own, under the public name of the library,
  and others from a local folder alone. Our components are added to the tables.
- The pipeline: `DiffusionPipeline.from_pretrained("nnit/digits")` and `DiffusionPipeline.download` look for the class
  that `model_index.json` names in diffusers alone, and fail. That failure is caught: if the index names our pipeline,
  the call goes to `NNiTPipeline`, with all its checks. Were the class found in diffusers instead, `DiffusionPipeline`
  would load the components itself, and leave the checks out.

The modules concerned take more than a second to import. Whatever loads a pipeline imports them, and they are changed
right then, or at once if they are there already.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ..diffusers_internals import LOADING_TABLES, add_loadable_components


LIBRARY = "nnit_diffusers"
PIPELINE = "NNiTPipeline"
COMPONENTS = (
    "GraphHyperNetwork",
    "NestedMLP",
    "NNiTArchitectureScheduler",
    "NNiTTransformer",
    "WeightPatchTokenizer",
)
_MODEL_INDEX = "model_index.json"


def register_components(tables: ModuleType) -> None:
    """Adds our components to diffusers' tables; see [`~diffusers_internals.add_loadable_components`]."""
    add_loadable_components(tables, LIBRARY, COMPONENTS)


def route_pipelines(pipelines: ModuleType) -> None:
    """Makes the `DiffusionPipeline` of a module hand our pipelines to [`NNiTPipeline`]."""
    base = pipelines.DiffusionPipeline
    for name in ("from_pretrained", "download"):
        setattr(base, name, classmethod(_routed(base, getattr(base, name).__func__)))


def _routed(base: type, load: Callable[..., Any]) -> Callable[..., Any]:
    """A class method of `DiffusionPipeline` that continues with that of [`NNiTPipeline`] where it fails on one."""
    first_parameter = list(inspect.signature(load).parameters)[1]  # folder or repository

    @wraps(load)
    def load_ours_too(cls: type, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(cls, *args, **kwargs)
        except Exception:
            # On ours it always fails, and has read nothing but the model index by then.
            name_or_path = args[0] if args else kwargs.get(first_parameter)
            if cls is not base or not _is_ours(name_or_path, **kwargs):
                raise
        pipeline_class = getattr(import_module(LIBRARY), PIPELINE)
        return getattr(pipeline_class, load.__name__)(*args, **kwargs)

    return load_ours_too


def _is_ours(
    name_or_path: Any,
    cache_dir: str | Path | None = None,
    revision: str | None = None,
    custom_pipeline: str | None = None,
    **kwargs: Any,
) -> bool:
    """Whether the model index of a folder, or of a repository as it was just downloaded, names our pipeline."""
    from huggingface_hub import try_to_load_from_cache

    from .local import read_json_object

    if custom_pipeline is not None:
        return False
    try:
        if os.path.isdir(name_or_path):
            path = Path(name_or_path, _MODEL_INDEX)
        else:
            cached = try_to_load_from_cache(name_or_path, _MODEL_INDEX, cache_dir, revision)
            if not isinstance(cached, str):
                return False
            path = Path(cached)
        return read_json_object(path).get("_class_name") == PIPELINE
    except (OSError, TypeError, ValueError):  # no index, no JSON, or neither a folder nor the name of a repository
        return False


# What is done to which module of diffusers.
_CHANGES: dict[str, Callable[[ModuleType], None]] = {
    LOADING_TABLES: register_components,
    "diffusers.pipelines.pipeline_utils": route_pipelines,
}


class _ChangingLoader(Loader):
    """Loads a module as `loader` would, and then changes it."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _CHANGES[module.__name__](module)


class _ChangingFinder(MetaPathFinder):
    """Finds the modules to be changed where Python would, to be loaded by a [`_ChangingLoader`]."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _CHANGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ChangingLoader(spec.loader)
        return spec


def register() -> None:
    """Changes those modules of diffusers that are there now, and the others as soon as they are."""
    for name, change in _CHANGES.items():
        if name in sys.modules:
            change(sys.modules[name])
    sys.meta_path.insert(0, _ChangingFinder())
