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


RECIPE = EXAMPLES / "digits.sh"
COMMANDS = [
    shlex.split(command)[1:]
    for command in re.findall(r"^(?:launch|python) .*$", RECIPE.read_text().replace("\\\n", ""), re.MULTILINE)
]


def test_the_recipe_is_valid_bash_that_stops_at_the_first_error():
    subprocess.run(["bash", "-n", RECIPE], check=True)
    assert "set -euo pipefail" in RECIPE.read_text()


def parse(command):
    path, *command_line = command
    script = importlib.import_module(Path(path).stem)
    return tyro.cli(script.Arguments, args=command_line, use_underscores=True)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: Path(command[0]).stem)
def test_every_command_of_the_recipe_is_one_that_its_script_takes(command):
    assert (EXAMPLES.parent / command[0]).is_file()
    assert getattr(parse(command), "task", "digits") == "digits"


@pytest.mark.parametrize("stage", ["ghn", "nnit"])
def test_the_recipe_is_how_the_published_weights_were_trained(stage):
    record = json.loads((EXAMPLES.parent / "nnit" / "digits" / f"training_{stage}.json").read_text())["arguments"]
    (command,) = (command for command in COMMANDS if command[0] == f"examples/train_{stage}.py")
    arguments = json.loads(json.dumps(asdict(parse(command))))  # as JSON has it
    # Where things were, and whether there was an interruption, makes no difference.
    names = record.keys() - {"output_dir", "ghn_name_or_path", "resume_from_checkpoint"}
    assert {name: arguments[name] for name in names} == {name: record[name] for name in names}


def test_every_training_of_the_recipe_resumes_and_names_its_seed():
    trainings = [command for command in COMMANDS if command[0].startswith("examples/train_")]
    assert [command[0] for command in trainings] == ["examples/train_ghn.py", "examples/train_nnit.py"]
    for command in trainings:
        assert "--resume_from_checkpoint latest" in " ".join(command)
        assert "--seed 0" in " ".join(command)


def test_every_stage_reads_what_an_earlier_one_wrote():
    written = set()
    for _, *command_line in COMMANDS:
        options = dict(pairwise(command_line))
        for name in ("--ghn_name_or_path", "--pipeline_dir", "--pretrained_model_name_or_path", "--evaluation_path"):
            if name in options:
                assert any(options[name].startswith(folder) for folder in written), (name, options[name])
        written |= {options[name] for name in ("--output_dir", "--repo_dir") if name in options}
