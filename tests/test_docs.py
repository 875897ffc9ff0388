"""Commands, files and imports in the documents exist, and their results are those of the JSON files."""

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import nnit_diffusers
from nnit_diffusers.evaluation.tables import PICTURES, report_tables, section_fingerprint


ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MAKE_TARGETS = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

EVALUATIONS = sorted(ROOT.glob("nnit/*/evaluation.json"))
# Folders of earlier versions, which the change log names.
MOVED = ("examples/benchmarks", "examples/space")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def markdown_tables(text: str) -> list[tuple[tuple[str, ...], ...]]:
    """Cells of every table with a header: the header, then the rows, without the line between them."""
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
    paths = re.findall(
        r"(?<![\w./-])(?:benchmarks|docs|examples|nnit|scripts|space|src|tests)/[\w./*-]*+(?!{)", document.read_text()
    )
    gone = [path for path in paths if not any(ROOT.glob(path.rstrip("./")))]
    assert [path for path in gone if not (document.name == "CHANGELOG.md" and path in MOVED)] == []


@documents
def test_python_is_valid_and_imports_public_names(document):
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "nnit_diffusers":
                assert {name.name for name in node.names} <= set(nnit_diffusers.__all__)


def test_citation_is_of_this_version():
    assert f"\nversion: {nnit_diffusers.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.fixture
def scripts(monkeypatch):
    """Makes `scripts/` and `benchmarks/` importable."""
    for folder in ("scripts", "benchmarks"):
        monkeypatch.syspath_prepend(ROOT / folder)


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.parent.name)
def test_model_cards_have_the_tables_of_their_evaluations(evaluation):
    tables = markdown_tables(report_tables(json.loads(evaluation.read_text())))
    card = markdown_tables(evaluation.with_name("README.md").read_text())
    assert tables and [table for table in tables if table not in card] == []


def test_the_page_of_results_is_up_to_date(scripts):
    from write_results import results

    # `make figures` writes it again.
    assert (ROOT / "docs" / "results.md").read_text() == results()


def test_the_tables_of_the_readme_are_up_to_date(scripts):
    from results_of_sizes import sizes_table
    from write_results import README_MARKER, SIZES_MARKER, readme_table

    # `python scripts/write_results.py --readme_table` prints them.
    for marker, table in ((README_MARKER, readme_table()), (SIZES_MARKER, sizes_table())):
        _, _, after = (ROOT / "README.md").read_text().partition(marker)
        assert after.lstrip("\n").startswith(table)


def test_other_tables_of_results_in_documents_are_up_to_date(scripts):
    generated = markdown_tables((ROOT / "docs" / "results.md").read_text())
    headers = {table[0] for table in generated}
    for document in DOCUMENTS:
        shown = [table for table in markdown_tables(document.read_text()) if table[0] in headers]
        assert [table for table in shown if table not in generated] == []


def test_results_in_tables_of_robots_are_those_of_their_evaluations(scripts):
    import results_of_robots

    for section in ("widths", "steps"):
        sections = results_of_robots.of_robots(section)
        (table,) = markdown_tables(getattr(results_of_robots, f"{section}_of_tasks_table")(sections))
        # A row for every width or number of steps that any task has, and a column for every task.
        assert {row[0] for row in table[1:]} == {name for of_task in sections.values() for name in of_task}
        assert table[0][1:] == ("PickCube", "PushCube", "StackCubeEasy")


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.parent.name)
def test_pictures_are_up_to_date_with_their_evaluation(evaluation):
    report = json.loads(evaluation.read_text())
    card = evaluation.with_name("README.md").read_text()
    for section in PICTURES:
        path = evaluation.with_name(f"{section}.png")
        assert path.exists() == (section in report) == (f"]({section}.png)" in card)
        if path.exists():
            with Image.open(path) as picture:
                assert picture.text["Source"] == section_fingerprint(report, section)


def test_results_in_the_text_of_the_readme_are_those_of_their_files():
    text = " ".join((ROOT / "README.md").read_text().split())
    pickcube, stacking, digits = (
        json.loads((ROOT / f"nnit/{name}/evaluation.json").read_text())
        for name in ("pickcube", "stackcube-easy", "digits")
    )
    (winner,) = json.loads((ROOT / "docs/measurements/pickcube_chip_winner.json").read_text())["networks"]

    def percent(part):
        return f"{100 * part['mean']:.1f}%"

    # limits
    deeper = pickcube["regions"]["deeper"]
    assert f"reach {percent(deeper['nnit'])} instead of {percent(deeper['ghn'])}" in text
    assert len(deeper["architectures"]) == 3 and "(three architectures)" in text
    assert f"cannot stack cubes ({percent(stacking['regions']['deeper']['nnit'])})" in text
    assert f"two layers of 16 units pick up {percent(pickcube['widths']['16']['nnit'])} of the cubes" in text
    assert f"trained on up to six, reach {percent(digits['depths']['16']['nnit'])} with 16" in text
    agreements = [part["nnit"]["mean_agreement"] for part in digits["novelty"].values()]
    assert f"agree on {100 * min(agreements):.0f} to {100 * max(agreements):.0f}% of the test images" in text
    # the policy that a search for a chip found
    hidden_sizes = winner["architecture"]["hidden_sizes"]
    assert f"it chose `[{', '.join(map(str, hidden_sizes))}]`, which succeeded with 8-bit weights in" in text
    assert f"{winner['num_successes']} of {winner['num_episodes']} fresh episodes" in text
