"""The notebook of a table, run from start to end with the settings of the shortest run."""

from pathlib import Path

import nbformat
import pytest
from launching import cpu_environment
from nbclient import NotebookClient
from smallest_recipes import SMALLEST

from nnit_diffusers import MLP


NOTEBOOK = Path(__file__).parents[2] / "examples" / "own_table.ipynb"
SEARCH = {
    "target": 0.01,
    "num_bands": 2,
    "networks_per_band": 2,
    "screen_episodes": [4, 8],
    "num_inference_steps": 1,
}


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def test_no_output_is_stored_and_every_cell_has_an_identifier(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor, notebook.metadata.kernelspec.name) == (4, 5, "python3")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_the_notebook_runs_from_the_table_to_predictions_of_the_smallest_network(notebook, tmp_path, monkeypatch):
    # the kernel takes its environment from this process
    for name, value in cpu_environment().items():
        monkeypatch.setenv(name, value)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["settings"].source += f"\nrecipe_changes = {SMALLEST!r}\nsearch_options = {SEARCH!r}"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert "178 rows" in printed(cells["load-table"])
    lines = printed(cells["generate-networks"]).splitlines()
    assert len(lines) == 9 and all("held_out_widths" in line for line in lines)
    assert "winner" in printed(cells["search-smallest"])
    assert "image/png" in cells["show-picture"].outputs[-1].data and (tmp_path / "front.png").exists()
    header, *predictions = cells["predict-rows"].outputs[-1].data["text/plain"].splitlines()
    assert header.split() == ["class", "class_probability"] and len(predictions) == 10
    # the folders that the last cell names
    assert MLP.from_pretrained(tmp_path / "smallest" / "winner").architecture.in_features == 13
    for name in ("README.md", "task.json", "model_index.json"):
        assert (tmp_path / "wine-networks" / name).is_file()
