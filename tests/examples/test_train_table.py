"""The example of a table, run as its docstring shows, with a recipe that learns something in seconds."""

import re
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace

import pandas
import pytest
import torch
import train_table as script
from launching import run
from smallest_recipes import write_recipe

from nnit_diffusers import NNiTPipeline, evaluate
from nnit_diffusers.tasks.tables import load_table_task


LEARNING = {
    "ghn": {
        "max_train_steps": 150,
        "train_batch_size": 32,
        "node_dim": 32,
        "map_channels": 8,
        "num_templates": 8,
        "learning_rate": 1e-2,
    },
    "nnit": {"max_train_steps": 200, "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16},
    "evaluation": {"num_inference_steps": 10},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The example's run: its folder, its table, and what it printed."""
    folder, output = tmp_path_factory.mktemp("table"), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.chdir(folder)
        script.write_wine(folder / "outputs" / "wine.csv")
        task = load_table_task("outputs/wine.csv", "class")
        torch.manual_seed(0)
        run(script, "outputs/wine", recipe=write_recipe(folder / "recipe.json", task, **LEARNING))
    return SimpleNamespace(folder=folder / "outputs" / "wine", task=task, printed=output.getvalue())


def test_the_table_is_described_before_training_and_predicted_after_it(trained):
    assert trained.printed.startswith(trained.task.describe())
    assert len(re.findall(r"^Accuracy \d+\.\d%, 95% interval \d+\.\d% to \d+\.\d%$", trained.printed, re.M)) == 8
    assert re.search(r"^ *class +class_probability\n0 +[012] +[01]\.\d+\n", trained.printed, re.M)


def test_the_folder_is_a_published_pipeline_with_its_table_and_a_card(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert {"model_index.json", "README.md", "evaluation.json", "recipe.json", "task.json", "training"} <= names
    assert "### The table" in (trained.folder / "README.md").read_text()


def test_networks_of_a_shape_never_trained_on_are_better_than_one_answer_for_all(trained):
    pipe, task = NNiTPipeline.from_pretrained(trained.folder), trained.task
    pipe.set_progress_bar_config(disable=True)
    networks = pipe([25], num_networks=8, generator=torch.Generator().manual_seed(0)).networks
    scores = [result.score for result in evaluate(networks, task)]
    assert task.regions.region_of([25]) == "held_out_widths"
    most_frequent = task.data("test")[1].bincount().max().item() / len(task.data("test")[1])
    assert sum(scores) / len(scores) > most_frequent + 0.3


def test_a_table_of_ones_own_is_never_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.csv"):
        script.main(script.Arguments(table=str(tmp_path / "absent.csv"), output_dir=str(tmp_path / "run")))
    assert not list(tmp_path.iterdir())


def test_the_default_table_is_the_178_wines(tmp_path):
    script.write_wine(tmp_path / "new" / "wine.csv")
    frame = pandas.read_csv(tmp_path / "new" / "wine.csv")
    assert frame.shape == (178, 14) and sorted(frame["class"].unique()) == [0, 1, 2]
