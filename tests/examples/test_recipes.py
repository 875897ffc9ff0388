"""Every `examples/<task>.sh`: what its scripts take, and how the weights in `nnit/<task>` were trained."""

import importlib
import json
import re
import shlex
import subprocess
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
import tyro
from conftest import EXAMPLES


NNIT = EXAMPLES.parent / "nnit"
TASKS = sorted(recipe.stem for recipe in EXAMPLES.glob("*.sh"))
PUBLISHED = sorted(index.parent.name for index in NNIT.glob("*/model_index.json"))


def recipe_of(task):
    return EXAMPLES / f"{task}.sh"


def commands_of(task):
    """Script and arguments of every command of a recipe."""
    recipe = recipe_of(task).read_text().replace("\\\n", "")
    return [shlex.split(command)[1:] for command in re.findall(r"^(?:launch|python) .*$", recipe, re.MULTILINE)]


def test_whatever_is_published_has_a_recipe():
    assert "digits" in PUBLISHED
    assert set(TASKS) >= set(PUBLISHED)


@pytest.mark.parametrize("task", TASKS)
def test_a_recipe_is_valid_bash_that_stops_at_the_first_error(task):
    subprocess.run(["bash", "-n", recipe_of(task)], check=True)
    assert "set -euo pipefail" in recipe_of(task).read_text()


def parse(command):
    path, *command_line = command
    script = importlib.import_module(Path(path).stem)
    return tyro.cli(script.Arguments, args=command_line, use_underscores=True)


@pytest.mark.parametrize(
    ("task", "command"),
    [
        pytest.param(task, command, id=f"{task}-{Path(command[0]).stem}")
        for task in TASKS
        for command in commands_of(task)
    ],
)
def test_every_command_of_a_recipe_is_one_that_its_script_takes(task, command):
    assert (EXAMPLES.parent / command[0]).is_file()
    assert getattr(parse(command), "task", task) == task


@pytest.mark.parametrize("task", PUBLISHED)
@pytest.mark.parametrize("stage", ["ghn", "nnit"])
def test_a_recipe_is_how_the_published_weights_were_trained(task, stage):
    record = json.loads((NNIT / task / f"training_{stage}.json").read_text())["arguments"]
    (command,) = (command for command in commands_of(task) if command[0] == f"examples/train_{stage}.py")
    arguments = json.loads(json.dumps(asdict(parse(command))))  # as JSON has it
    # Where things were, and whether there was an interruption, makes no difference.
    names = record.keys() - {"output_dir", "data_dir", "ghn_name_or_path", "resume_from_checkpoint"}
    assert {name: arguments[name] for name in names} == {name: record[name] for name in names}


@pytest.mark.parametrize("task", PUBLISHED)
def test_every_training_of_a_recipe_resumes_and_names_its_seed(task):
    trainings = [command for command in commands_of(task) if command[0].startswith("examples/train_")]
    assert [command[0] for command in trainings] == ["examples/train_ghn.py", "examples/train_nnit.py"]
    for command in trainings:
        assert "--resume_from_checkpoint latest" in " ".join(command)
        assert "--seed 0" in " ".join(command)


@pytest.mark.parametrize("task", TASKS)
def test_every_stage_reads_what_an_earlier_one_wrote(task):
    written = set()
    inputs = ("data_dir", "ghn_name_or_path", "pipeline_dir", "pretrained_model_name_or_path", "evaluation_path")
    for _, *command_line in commands_of(task):
        options = dict(pairwise(command_line))
        for name in (f"--{name}" for name in inputs):
            if name in options:
                assert any(options[name].startswith(folder) for folder in written), (name, options[name])
        written |= {options[name] for name in ("--output_dir", "--repo_dir") if name in options}
