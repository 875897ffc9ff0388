"""Every recipe `examples/<task>.sh` has valid commands, and trains the weights in `nnit/<task>`."""

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


EXAMPLES = Path(__file__).parents[2] / "examples"
NNIT = EXAMPLES.parent / "nnit"
TASKS = sorted(recipe.stem for recipe in EXAMPLES.glob("*.sh"))
PUBLISHED = sorted(index.parent.name for index in NNIT.glob("*/model_index.json"))


def recipe_of(task):
    return EXAMPLES / f"{task}.sh"


def commands_of(task):
    """Script and arguments of every command of a recipe."""
    recipe = recipe_of(task).read_text().replace("\\\n", "")
    return [shlex.split(command)[1:] for command in re.findall(r"^(?:launch|python) .*$", recipe, re.MULTILINE)]


def test_every_published_task_has_a_recipe():
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
def test_every_command_of_a_recipe_has_valid_arguments(task, command):
    assert (EXAMPLES.parent / command[0]).is_file()
    assert getattr(parse(command), "task", task) == task


def training_commands_of(task):
    """Commands of a recipe that train."""
    return [command for command in commands_of(task) if command[0].startswith("examples/train_")]


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_has_the_arguments_that_the_published_weights_were_trained_with(task):
    """Checks the GHN, the transformer and, if the recipe has one, the tuning."""
    commands = training_commands_of(task)
    scripts = ["examples/train_ghn.py", "examples/train_nnit.py", "examples/train_nnit.py"]
    names = ["training_ghn.json", "training_nnit.json", "training_tuning.json"]
    assert [command[0] for command in commands] == scripts[: len(commands)]
    assert [name for name in names if (NNIT / task / name).exists()] == names[: len(commands)]
    for name, command in zip(names, commands):
        record = json.loads((NNIT / task / name).read_text())["arguments"]
        arguments = json.loads(json.dumps(asdict(parse(command))))  # in JSON types
        # what is left to accelerate was this
        for setting, value in (("mixed_precision", "no"), ("gradient_accumulation_steps", 1)):
            arguments[setting] = value if arguments[setting] is None else arguments[setting]
        # ignore paths, logging, checkpointing and resuming
        places = {"output_dir", "data_dir", "ghn_name_or_path", "resume_from_checkpoint"}
        compared = record.keys() - places - {"checkpointing_steps", "report_to"}
        assert {name: arguments[name] for name in compared} == {name: record[name] for name in compared}


@pytest.mark.parametrize("task", PUBLISHED)
def test_every_training_run_of_a_recipe_resumes_and_has_its_own_seed(task):
    arguments = [parse(command) for command in training_commands_of(task)]
    assert [each.resume_from_checkpoint for each in arguments] == ["latest"] * len(arguments)
    # GHN and transformer may share a seed; tuning with it would repeat the draws of the transformer's training run
    assert [each.seed for each in arguments] == [0, 0, 1][: len(arguments)]


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_tunes_and_publishes_its_own_transformer(task):
    training_runs = [parse(command) for command in training_commands_of(task)]
    (published,) = (parse(command).pipeline_dir for command in commands_of(task) if "--pipeline_dir" in command)
    for before, after in pairwise(training_runs[1:]):
        assert after.pretrained_model_name_or_path == f"{before.output_dir}/pipeline"
    assert published == f"{training_runs[-1].output_dir}/pipeline"


@pytest.mark.parametrize("task", TASKS)
def test_every_stage_reads_outputs_of_earlier_stages(task):
    written = set()
    inputs = ("data_dir", "ghn_name_or_path", "pipeline_dir", "pretrained_model_name_or_path", "evaluation_path")
    for _, *command_line in commands_of(task):
        options = dict(pairwise(command_line))
        for name in (f"--{name}" for name in inputs):
            if name in options:
                assert any(options[name].startswith(folder) for folder in written), (name, options[name])
        written |= {options[name] for name in ("--output_dir", "--repo_dir") if name in options}
