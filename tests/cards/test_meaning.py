"""Cards describe what goes into networks and what comes out, and how to clip it."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_pipeline
from tiny_tasks import TinyDataTask
from untrained import FEW

from nnit_diffusers import NetworkContract, contract_of, get_task
from nnit_diffusers.cards import write_card, write_pipeline
from nnit_diffusers.cards.meaning import meaning
from nnit_diffusers.cards.simulator import simulator_tables
from nnit_diffusers.contract import EnvironmentRecord, IOTerm, read_contract
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.tasks.gymnasium import GymnasiumTask


NNIT = Path(__file__).parents[2] / "nnit"
CLIP = "`action = network.contract.clip(network(observation))`"
POLICY = NetworkContract(
    task="reach",
    observations=(IOTerm("joints", (2,), units="rad"), IOTerm("a|b\nc", (3,), element_names=("x", "y", "z"))),
    actions=(
        IOTerm("arm", (2,), units="rad", clip=((-1, 1),) * 2, scale=(0.1, 0.1)),
        IOTerm("gripper", (2,), description="open", clip=((0, 1), (None, 2))),
    ),
    environment=EnvironmentRecord("maniskill", "Reach-v1", control_mode="pd", control_freq=20),
)


def cells_of(text):
    return [[cell.strip() for cell in line[2:-2].split(" | ")] for line in text.splitlines() if line.startswith("| ")]


def test_every_group_is_a_row_with_its_place_unit_and_bounds():
    text = meaning(POLICY)
    assert cells_of(text)[2:] == [
        ["input", "0:2", "joints", "rad", ""],
        ["input", "2:5", "a\\|b c (x, y, z)", "", ""],
        ["output", "0:2", "arm", "× 0.1 rad", "-1 to 1"],
        ["output", "2:4", "gripper: open", "", "0 to 1; -∞ to 2"],
    ]
    assert CLIP in text and "`Reach-v1` of maniskill, control mode `pd`, 20 actions a second" in text


def test_without_bounds_nothing_is_clipped_and_choices_are_the_largest_output():
    choices = replace(POLICY, actions=(IOTerm("logits", (4,)),), is_discrete=True)
    assert "clip(" not in meaning(choices) and "`network(inputs).argmax(dim=-1)`" in meaning(choices)
    assert meaning(None) == meaning(NetworkContract(task="a")) == ""


def test_a_table_of_many_columns_has_a_short_card():
    columns = tuple(IOTerm(f"column {index}", (1,)) for index in range(100))
    text = meaning(replace(POLICY, observations=columns))
    assert len(cells_of(text)) == 42 and "The first 40 of 102 rows; `contract.json` has all of them." in text


def test_a_card_has_the_section_if_the_pipeline_has_a_contract(tmp_path):
    pipeline, task = tiny_pipeline(ghn=True), TinyDataTask()
    pipeline.contract = contract_of(task)
    write_pipeline(pipeline, tmp_path)
    evaluate_pipeline(pipeline, task, tmp_path / "evaluation.json", EvaluationConfig(**FEW, sections=("regions",)))
    write_card(tmp_path, task)
    card = (tmp_path / "README.md").read_text()
    assert "\n## Inputs and outputs\n" in card and ["output", "0:3", "class logits", "", ""] in cells_of(card)
    # a pipeline of an older version
    (tmp_path / "contract.json").unlink()
    write_card(tmp_path, task)
    without = (tmp_path / "README.md").read_text()
    assert "Inputs and outputs" not in without and "| Transformer |" in without


def test_a_folder_keeps_no_contract_of_weights_that_are_replaced(tmp_path):
    pipeline = tiny_pipeline(ghn=True)
    pipeline.contract = contract_of(TinyDataTask())
    write_pipeline(pipeline, tmp_path)
    assert read_contract(tmp_path) == pipeline.contract
    write_pipeline(tiny_pipeline(ghn=True), tmp_path)
    assert read_contract(tmp_path) is None


def test_the_card_of_an_own_simulator_gives_the_line_that_clips(tmp_path):
    task = GymnasiumTask("Pendulum-v1", success=0.9, teacher_return=-150)
    described = simulator_tables(task, "", {}, tmp_path, "me/swing", contract_of(task))
    assert CLIP in described and "| Observation |" not in described and "| An episode | at most 200" in described
    plain = simulator_tables(task, "", {}, tmp_path, "me/swing")
    assert "have to be clipped to them before `env.step`" in plain and "| Observation |" in plain
    pole = GymnasiumTask("CartPole-v1", success=0.9, teacher_return=500)
    assert "clip" not in simulator_tables(pole, "", {}, tmp_path, "me/pole", contract_of(pole))


@pytest.mark.parametrize("name", ["digits", "pickcube", "pushcube", "stackcube-easy"])
def test_published_pipelines_have_a_contract_that_fits_their_task(name):
    contract, task = read_contract(NNIT / name), get_task(name)
    contract.check_sizes(task.in_features, task.out_features)
    assert contract.task == name and contract.observations and contract.actions
    if name == "digits":
        assert contract == contract_of(task)
    else:
        assert contract.action_bounds == ((-1.0,) * 8, (1.0,) * 8) and contract.environment.env_id == task.env_id
