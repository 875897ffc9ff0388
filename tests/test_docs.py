"""What the documents say to run, open and import exists, and what they say was measured was."""

import ast
import json
import re
from pathlib import Path

import pytest

import nnit_diffusers


ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MAKE_TARGETS = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

EVALUATIONS = sorted(ROOT.glob("nnit/*/evaluation.json"))

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def markdown_tables(text: str) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Cells of every table that has a header, by that header; rules between header and body are left out."""
    tables = {}
    for lines in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        header, _, *rows = (tuple(cell.strip() for cell in line[1:-1].split("|")) for line in lines.splitlines())
        tables[header] = rows
    return {header: rows for header, rows in tables.items() if any(header)}


@documents
def test_make_targets_exist(document):
    commands = re.findall(r"(?:^ +|`|^)make ([a-z_]+)", document.read_text(), re.MULTILINE)
    assert set(commands) <= MAKE_TARGETS


@documents
def test_files_exist(document):
    paths = re.findall(r"(?<![\w./-])(?:docs|examples|nnit|src|tests)/[\w./*-]*+(?!{)", document.read_text())
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("./")))] == []


@documents
def test_python_is_valid_and_imports_public_names(document):
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "nnit_diffusers":
                assert {name.name for name in node.names} <= set(nnit_diffusers.__all__)


def test_citation_is_of_this_version():
    assert f"\nversion: {nnit_diffusers.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.parent.name)
def test_tables_are_those_of_the_evaluation(evaluation, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    from evaluation_report import report_tables, splits_table

    report = json.loads(evaluation.read_text())
    measured = markdown_tables(report_tables(report))
    readme, card = (
        markdown_tables(path.read_text()) for path in (ROOT / "README.md", evaluation.with_name("README.md"))
    )
    assert readme.items() >= markdown_tables(splits_table(report["splits"])).items()
    assert card.items() >= measured.items()
    for header in readme.keys() & measured.keys():
        assert readme[header] == measured[header]
