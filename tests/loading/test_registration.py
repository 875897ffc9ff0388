"""Components are known to diffusers whichever of the two packages is imported first."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from diffusers.pipelines import pipeline_loading_utils as tables
from tiny import tiny_pipeline

import nnit_diffusers
from nnit_diffusers.diffusers_internals import TESTED_DIFFUSERS
from nnit_diffusers.loading.registration import COMPONENTS, register_components


def run_python(code):
    """What `code` prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_every_component_of_the_pipeline_that_is_ours_is_registered():
    ours = {
        type(component).__name__
        for component in tiny_pipeline(ghn=True).components.values()
        if type(component).__module__.startswith("nnit_diffusers")
    }
    assert ours == set(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_registered_component_can_do_what_the_tables_promise(name):
    component = getattr(nnit_diffusers, name)
    for table in (tables.LOADABLE_CLASSES["nnit_diffusers"], tables.ALL_IMPORTABLE_CLASSES):
        assert all(callable(getattr(component, method)) for method in table[name])


def test_registering_imports_nothing_of_diffusers_and_is_in_force_when_that_is_imported():
    printed = run_python(
        "import sys, nnit_diffusers\n"
        "print('diffusers.pipelines.pipeline_loading_utils' in sys.modules, 'diffusers' in sys.modules)\n"
        "from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, LOADABLE_CLASSES\n"
        "print(*LOADABLE_CLASSES['nnit_diffusers'])\n"
        "print('NNiTTransformer' in ALL_IMPORTABLE_CLASSES, 'ModelMixin' in LOADABLE_CLASSES['diffusers'])\n"
    )
    assert printed == ["False", "False", *COMPONENTS, "True", "True"]


def test_a_diffusers_without_the_tables_is_an_error_that_names_the_releases_tested():
    with pytest.raises(ImportError, match=f"works with diffusers{TESTED_DIFFUSERS}.*LOADABLE_CLASSES"):
        register_components(ModuleType("diffusers.pipelines.pipeline_loading_utils"))


def test_the_package_asks_for_the_releases_tested():
    assert f'"diffusers{TESTED_DIFFUSERS}"' in (Path(__file__).parents[2] / "setup.py").read_text()
