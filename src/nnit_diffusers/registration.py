"""Makes diffusers load the components of [`NNiTPipeline`] from the Hub, also through a plain `DiffusionPipeline`.

diffusers loads components of the libraries in two tables of its own, under the public name of their library; anything
else only from a local folder. The tables have no public interface, so this package is tested with, and capped at, the
releases in `TESTED_DIFFUSERS`. Their module takes more than a second to import, so they are not touched before
something else imports it: whatever loads a pipeline does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


TESTED_DIFFUSERS = ">=0.42,<0.43"
LIBRARY = "nnit_diffusers"
# Every one has to be listed by its own name: diffusers looks a component's class up among these.
COMPONENTS = ("GraphHyperNetwork", "NNiTArchitectureScheduler", "NNiTTransformer", "WeightPatchTokenizer")
_TABLES_MODULE = "diffusers.pipelines.pipeline_loading_utils"


def register_components(tables: ModuleType) -> None:
    """Enters the components into diffusers' tables of what it may load.

    Raises:
        `ImportError`: If this release of diffusers has no such tables.
    """
    methods = {name: ["save_pretrained", "from_pretrained"] for name in COMPONENTS}
    try:
        tables.LOADABLE_CLASSES[LIBRARY] = methods
        tables.ALL_IMPORTABLE_CLASSES.update(methods)
    except AttributeError as error:
        raise ImportError(
            f"nnit_diffusers works with diffusers{TESTED_DIFFUSERS}: this release keeps what it can load elsewhere "
            f"({error}). Install one of those with `pip install 'diffusers{TESTED_DIFFUSERS}'`."
        ) from error


class _RegisteringLoader(Loader):
    """Loads the tables as `loader` would, and registers the components in them."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        register_components(module)


class _TablesFinder(MetaPathFinder):
    """Finds the tables' module where Python would, to be loaded by a [`_RegisteringLoader`]."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TABLES_MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def register() -> None:
    """Registers the components now if diffusers' tables are there, and as soon as they are if not."""
    if _TABLES_MODULE in sys.modules:
        register_components(sys.modules[_TABLES_MODULE])
    else:
        sys.meta_path.insert(0, _TablesFinder())
