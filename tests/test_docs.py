"""What the documents say to run, open and import exists, and what they say was measured was."""

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import nnit_diffusers


ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MAKE_TARGETS = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

EVALUATIONS = sorted(ROOT.glob("nnit/*/evaluation.json"))

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def markdown_tables(text: str) -> list[tuple[tuple[str, ...], ...]]:
    """Cells of every table that has a header: header, then rows; the rule between them is left out."""
    tables = []
    for lines in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        header, _, *rows = (tuple(cell.strip() for cell in line[1:-1].split("|")) for line in lines.splitlines())
        tables.append((header, *rows))
    return [table for table in tables if any(table[0])]


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


@pytest.fixture
def measured(monkeypatch):
    """Tables of every evaluation that is committed, and for each the one of its regions."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    from evaluation_report import regions_table, report_tables

    reports = {path: json.loads(path.read_text()) for path in EVALUATIONS}
    return {
        path: (markdown_tables(report_tables(report)), *markdown_tables(regions_table(report["regions"])))
        for path, report in reports.items()
    }


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.parent.name)
def test_tables_are_those_of_the_evaluation(evaluation, measured):
    tables, regions = measured[evaluation]
    card = markdown_tables(evaluation.with_name("README.md").read_text())
    assert regions in markdown_tables((ROOT / "README.md").read_text())
    assert [table for table in tables if table not in card] == []


def test_no_table_of_the_readme_is_out_of_date(measured):
    tables = [table for each, _ in measured.values() for table in each]
    headers = {table[0] for table in tables}
    in_readme = [table for table in markdown_tables((ROOT / "README.md").read_text()) if table[0] in headers]
    assert len(in_readme) >= len(EVALUATIONS)
    assert [table for table in in_readme if table not in tables] == []


@pytest.mark.parametrize("section", ["widths", "steps"])
def test_tables_of_all_robots_are_those_of_their_evaluations(section, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import evaluation_report

    tasks = {"PushCube": "pushcube", "PickCube": "pickcube", "StackCubeEasy": "stackcube-easy"}
    sections = {
        name: json.loads((ROOT / "nnit" / task / "evaluation.json").read_text()).get(section, {})
        for name, task in tasks.items()
    }
    (table,) = markdown_tables(getattr(evaluation_report, f"{section}_of_tasks_table")(sections))
    assert table in markdown_tables((ROOT / "README.md").read_text())


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.parent.name)
def test_pictures_are_of_the_evaluation_they_lie_beside(evaluation, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    from evaluation_report import PICTURES, section_fingerprint

    report = json.loads(evaluation.read_text())
    card = evaluation.with_name("README.md").read_text()
    for section in PICTURES:
        path = evaluation.with_name(f"{section}.png")
        assert path.exists() == (section in report) == (f"]({section}.png)" in card)
        if path.exists():
            with Image.open(path) as picture:
                assert picture.text["Source"] == section_fingerprint(report, section)
