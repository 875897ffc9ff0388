"""Every recipe trains the weights in `nnit/<task>`, and every script `examples/<task>.sh` has valid commands."""

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

from nnit_diffusers import NNiTPipeline, get_task
from nnit_diffusers.training import Recipe
from nnit_diffusers.training.config import OPERATIONAL_FIELDS


EXAMPLES = Path(__file__).parents[2] / "examples"
NNIT = EXAMPLES.parent / "nnit"
TASKS = sorted(script.stem for script in EXAMPLES.glob("*.sh"))
PUBLISHED = sorted(index.parent.name for index in NNIT.glob("*/model_index.json"))
RECORDS = {"ghn": "training_ghn.json", "nnit": "training_nnit.json", "tuning": "training_tuning.json"}


def commands_of(task):
    """Script and arguments of every Python command of a script."""
    script = (EXAMPLES / f"{task}.sh").read_text().replace("\\\n", "")
    return [shlex.split(command)[1:] for command in re.findall(r"^ *(?:launch|python) .*$", script, re.MULTILINE)]


def in_json_types(config):
    return json.loads(json.dumps(asdict(config)))


def test_every_published_task_has_a_script():
    assert "digits" in PUBLISHED
    assert set(TASKS) >= set(PUBLISHED)


@pytest.mark.parametrize("task", TASKS)
def test_a_script_is_valid_bash_that_stops_at_the_first_error(task):
    subprocess.run(["bash", "-n", EXAMPLES / f"{task}.sh"], check=True)
    assert "set -euo pipefail" in (EXAMPLES / f"{task}.sh").read_text()


@pytest.mark.parametrize(
    ("task", "command"),
    [
        pytest.param(task, command, id=f"{task}-{Path(command[0]).stem}")
        for task in TASKS
        for command in commands_of(task)
    ],
)
def test_every_command_of_a_script_has_valid_arguments(task, command):
    path, *command_line = command
    assert (EXAMPLES.parent / path).is_file()
    arguments = tyro.cli(importlib.import_module(Path(path).stem).Arguments, args=command_line, use_underscores=True)
    assert getattr(arguments, "task", task) == task


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_script_trains_by_the_published_recipe_and_on_its_grid(task):
    script = (EXAMPLES / f"{task}.sh").read_text()
    (options,) = re.findall(
        rf"^nnit train {task} --recipe nnit/{task} --output outputs/{task}(.*)$", script, re.MULTILINE
    )
    grid = dict(get_task(task).grid)
    for name, least, most in re.findall(r"--(width|depth)s (\d+) (\d+)", options):
        grid |= {f"min_{name}": int(least), f"max_{name}": int(most)}
    assert NNiTPipeline.from_pretrained(NNIT / task).grid == grid


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_has_the_settings_that_the_published_weights_were_trained_with(task):
    recipe = Recipe.from_pretrained(NNIT / task)
    assert recipe.task == task
    for stage, name in RECORDS.items():
        config, path = getattr(recipe, stage), NNIT / task / name
        assert path.exists() == (config is not None)
        if config is None:
            continue
        record, settings = json.loads(path.read_text())["arguments"], in_json_types(config)
        shaping = settings.keys() & record.keys() - OPERATIONAL_FIELDS
        assert {"seed", "max_train_steps", "learning_rate", "train_batch_size"} <= shaping
        # what accelerate decides is open in a recipe
        shaping = {name for name in shaping if settings[name] is not None}
        assert {name: settings[name] for name in shaping} == {name: record[name] for name in shaping}


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_recipe_evaluates_as_the_published_evaluation_did(task):
    settings = json.loads((NNIT / task / "evaluation.json").read_text())["settings"]
    evaluation = in_json_types(Recipe.from_pretrained(NNIT / task).evaluation)
    compared = evaluation.keys() & settings.keys()
    assert {"seed", "num_networks", "widths", "parameter_range"} <= compared
    # what a recipe leaves open is derived from the task
    given = {name for name in compared if evaluation[name] is not None}
    assert {name: evaluation[name] for name in given} == {name: settings[name] for name in given}


@pytest.mark.parametrize("task", PUBLISHED)
def test_stages_have_their_own_seeds(task):
    """GHN and transformer may share a seed; tuning with it would repeat the draws of the transformer."""
    recipe = Recipe.from_pretrained(NNIT / task)
    assert recipe.tuning is None or recipe.tuning.seed != recipe.nnit.seed
    assert recipe.evaluation.seed not in (recipe.ghn.seed, recipe.nnit.seed)


def test_every_stage_of_stacking_reads_outputs_of_earlier_stages():
    """The stock StackCube has a hypernetwork alone, which its script trains stage by stage."""
    written = set()
    for _, *command_line in commands_of("stackcube"):
        options = dict(pairwise(command_line))
        for name in ("--data_dir", "--ghn_name_or_path"):
            if name in options:
                assert any(options[name].startswith(folder) for folder in written), (name, options[name])
        written |= {options["--output_dir"]} if "--output_dir" in options else set()
