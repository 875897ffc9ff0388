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


def trainings_of(task):
    """Commands of the trainings of a recipe."""
    return [command for command in commands_of(task) if command[0].startswith("examples/train_")]


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_is_how_the_published_weights_were_trained(task):
    """Those of the GHN, of the transformer and, where there is a second one, of its tuning."""
    commands = trainings_of(task)
    scripts = ["examples/train_ghn.py", "examples/train_nnit.py", "examples/train_nnit.py"]
    names = ["training_ghn.json", "training_nnit.json", "training_tuning.json"]
    assert [command[0] for command in commands] == scripts[: len(commands)]
    assert [name for name in names if (NNIT / task / name).exists()] == names[: len(commands)]
    for name, command in zip(names, commands):
        record = json.loads((NNIT / task / name).read_text())["arguments"]
        arguments = json.loads(json.dumps(asdict(parse(command))))  # as JSON has it
        # Where things were, what was kept on the way, and whether there was an interruption, makes no difference.
        places = {"output_dir", "data_dir", "ghn_name_or_path", "resume_from_checkpoint"}
        compared = record.keys() - places - {"checkpointing_steps", "report_to"}
        assert {name: arguments[name] for name in compared} == {name: record[name] for name in compared}


@pytest.mark.parametrize("task", PUBLISHED)
def test_every_training_of_a_recipe_resumes_and_names_a_seed_of_its_own(task):
    arguments = [parse(command) for command in trainings_of(task)]
    assert [each.resume_from_checkpoint for each in arguments] == ["latest"] * len(arguments)
    # The GHN and the transformer draw nothing alike; a tuning would draw what the transformer was trained on.
    assert [each.seed for each in arguments] == [0, 0, 1][: len(arguments)]


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_tunes_and_publishes_what_it_has_trained(task):
    trainings = [parse(command) for command in trainings_of(task)]
    (published,) = (parse(command).pipeline_dir for command in commands_of(task) if "--pipeline_dir" in command)
    for before, after in pairwise(trainings[1:]):
        assert after.pretrained_model_name_or_path == f"{before.output_dir}/pipeline"
    assert published == f"{trainings[-1].output_dir}/pipeline"


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
