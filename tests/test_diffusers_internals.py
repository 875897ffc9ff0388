"""What is private in diffusers is still there, is used as it can be, and is used by nobody but those on the list."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tiny import tiny_transformer

import nnit_diffusers
from nnit_diffusers.diffusers_internals import PRIVATE_NAMES, register_transformer_block


SOURCE = Path(nnit_diffusers.__file__).parent
INTERNALS = "diffusers_internals.py"
LIBRARIES = ("accelerate", "diffusers", "huggingface_hub", "peft", "safetensors", "torch", "transformers")
# Of ManiSkill: the task switches its rewards off, and sees whether a controller scales in its own way. Of
# Stable-Baselines3: a policy without an environment. Of torch: whether a module has hooks. Of Meta-World: what its
# benchmarks set, so that seeds decide the scene and the goal is observed.
OF_OTHER_LIBRARIES = {
    "_reward_mode",
    "_clip_and_scale_action",
    "_setup_model",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_freeze_rand_vec",
    "_partially_observable",
    "_set_task_called",
}
PRIVATE_MODULES = {row.owner for row in PRIVATE_NAMES if row.use == "imported"}
LISTED = {row.name for row in PRIVATE_NAMES}
NEED_OTHERS = ("integrations/", "tasks/maniskill/")  # modules that need LeRobot, or ManiSkill's simulator


def owner_of(row):
    module, _, path = row.owner.partition(":")
    owner = import_module(module)
    for name in filter(None, path.split(".")):
        owner = getattr(owner, name)
    return owner


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def source_trees():
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text())


def imported_privately(tree):
    """Private names of the libraries, and names of private modules of theirs, that a module imports or spells out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if re.fullmatch(r"\w+(\.\w+)+(:\w+)?", node.value) else []
        else:
            continue
        for name in names:
            is_of_library = name.split(".")[0] in LIBRARIES
            is_listed = any(name == module or name.startswith(f"{module}.") for module in PRIVATE_MODULES)
            if is_of_library and (is_listed or any(map(is_private, re.split(r"[.:]", name)))):
                yield name


def defined_by_us(tree):
    """Private names that a module gives to functions, variables, and attributes of its own instances."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") else []


def looked_up(tree):
    """Private names that a module reads or sets as attributes."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)}


def class_bodies(tree):
    """`(name of a class, private names in its body)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            functions = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            assigned = [name.id for item in node.body for name in ast.walk(item) if isinstance(name, ast.Name)]
            yield node.name, {name for name in [*functions, *assigned] if is_private(name)}


def overriding(path, tree):
    """Private names in the bodies of a module's classes that a class of the libraries has given a meaning."""
    bodies = dict(class_bodies(tree))
    if not any(bodies.values()):
        return set()
    module = import_module(f"nnit_diffusers.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}")
    found = set()
    for class_name, names in bodies.items():
        bases = [base for base in getattr(module, class_name).__mro__ if base.__module__.split(".")[0] in LIBRARIES]
        found |= {name for name in names if any(name in vars(base) for base in bases)}
    return found


@pytest.mark.parametrize("row", PRIVATE_NAMES, ids=lambda row: row.name)
def test_the_installed_release_has_every_private_name_as_it_is_used(row):
    owner = owner_of(row)
    # What a class has is an attribute of it; what a method gives to or reads from an instance stands in its source.
    assert row.name in (inspect.getsource(owner) if inspect.isfunction(owner) else dir(owner))
    if row.use == "overridden":
        assert callable(getattr(owner, row.name))
    if row.parameters:
        parameters = inspect.signature(getattr(owner, row.name)).parameters
        assert tuple(parameters)[: len(row.parameters)] == row.parameters
        others = list(parameters.values())[len(row.parameters) :]
        assert all(parameter.default is not parameter.empty for parameter in others)


def test_every_row_has_its_reason_and_no_name_stands_twice():
    assert len(LISTED) == len(PRIVATE_NAMES)
    assert all(row.reason.endswith(".") for row in PRIVATE_NAMES)


def test_no_other_module_imports_what_is_private():
    found = {path: set(imported_privately(tree)) for path, tree in source_trees()}
    assert {"diffusers.hooks._helpers"} <= found.pop(INTERNALS)
    assert {path: names for path, names in found.items() if names} == {}


def test_every_private_attribute_that_is_used_is_listed_and_none_besides():
    trees = dict(source_trees())
    del trees[INTERNALS]
    ours = {name for tree in trees.values() for name in defined_by_us(tree)}
    foreign = {name for tree in trees.values() for name in looked_up(tree)} - ours
    for path, tree in trees.items():
        if not path.startswith(NEED_OTHERS):
            foreign |= overriding(path, tree)
    listed = {row.name for row in PRIVATE_NAMES if row.use in ("called", "overridden", "set")}
    assert foreign - OF_OTHER_LIBRARIES == listed


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from diffusers.hooks._helpers import TransformerBlockRegistry", True),
        ("import diffusers.hooks._helpers as helpers", True),
        ("from diffusers.utils import _add_variant", True),
        ("from diffusers.pipelines import pipeline_loading_utils", True),
        ("from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES", True),
        ("def f():\n    from torch._dynamo import config", True),
        ("import_module('huggingface_hub._commit_api')", True),
        ("from diffusers.utils import logging", False),
        ("from .budget import _with", False),
        ("from torch import __version__", False),
    ],
)
def test_a_private_import_is_found_wherever_it_stands(code, found):
    assert bool(set(imported_privately(ast.parse(code)))) == found


def test_what_diffusers_looks_for_on_a_processor_it_finds_there():
    model = tiny_transformer()
    processors = [block.attn.processor for block in model.transformer_blocks]
    wanted = {row.name for row in PRIVATE_NAMES if row.use == "looked for"}
    assert all(hasattr(processor, name) for processor in processors for name in wanted)
    model.set_attention_backend("native")
    assert {processor._attention_backend.value for processor in processors} == {"native"}


def test_a_registered_block_is_known_to_the_caches():
    from diffusers.hooks._helpers import TransformerBlockRegistry

    class Block(torch.nn.Module):
        def forward(self, hidden_states):
            return hidden_states

    with pytest.raises(ValueError, match="not registered"):
        TransformerBlockRegistry.get(Block)
    register_transformer_block(Block)
    assert TransformerBlockRegistry.get(Block).return_hidden_states_index == 0
