"""What the documents say to run, open and import exists."""

import ast
import re
from pathlib import Path

import pytest

import nnit_diffusers


ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(ROOT.glob("*.md"))
MAKE_TARGETS = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


@documents
def test_make_targets_exist(document):
    commands = re.findall(r"(?:^ +|`|^)make ([a-z_]+)", document.read_text(), re.MULTILINE)
    assert set(commands) <= MAKE_TARGETS


@documents
def test_files_exist(document):
    paths = re.findall(r"(?<![\w./-])(?:docs|examples|nnit|src|tests)/[\w./-]*", document.read_text())
    assert [path for path in paths if not (ROOT / path.rstrip(".")).exists()] == []


@documents
def test_python_is_valid_and_imports_public_names(document):
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "nnit_diffusers":
                assert {name.name for name in node.names} <= set(nnit_diffusers.__all__)


def test_citation_is_of_this_version():
    assert f"\nversion: {nnit_diffusers.__version__}\n" in (ROOT / "CITATION.cff").read_text()
