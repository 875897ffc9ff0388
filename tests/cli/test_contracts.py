"""What a saved network is for, on the command line: attached, read back from the folder alone, compared, shown."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import tiny_tasks
from tiny import tiny_pipeline

from nnit_diffusers import MLP, NetworkContract, contract_of
from nnit_diffusers.contract import CONTRACT_NAME, EnvironmentRecord, IOTerm, ScoreRecord
from nnit_diffusers.pipelines.fingerprint import fingerprints
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.tables import load_table_task
from nnit_diffusers.writing import write_json


QUICK = ("--num-inference-steps", 1)
TINY = NetworkContract(
    task=tiny_tasks.TinyDataTask.name,
    observations=(IOTerm("numbers", (5,)),),
    actions=(IOTerm("class logits", (3,)),),
    is_discrete=True,
)


def refused(result, *messages):
    lines = result.err.strip().splitlines()
    assert result.code == 2 and len(lines) == 1 and result.out == "", result.err
    for message in messages:
        assert message in lines[0]


@pytest.fixture
def alone(tmp_path):
    """Saves a network with a contract into a folder of its own."""

    def save(contract, name="alone", sizes=(5, 3)):
        network = MLP(sizes[0], [4], sizes[1])
        network.contract = contract
        network.save_pretrained(tmp_path / name)
        return name

    return save


def test_a_generated_network_knows_its_pipeline_seed_and_index(nnit, published):
    write_json(published / CONTRACT_NAME, TINY.to_dict())
    assert nnit("generate", published, "--num-networks", 2, "--seed", 7, "--output", "out", *QUICK).code == 0
    for index in range(2):
        contract = MLP.from_pretrained(f"out/network-{index}").contract
        assert (contract.task, contract.observations) == ("tiny_data", TINY.observations)
        made = contract.provenance
        assert (made.pipeline, made.seed, made.index, made.source) == ("nnit/tiny", 7, index, "nnit")
        expected = fingerprints(tiny_pipeline(ghn=True))
        assert {"weights_sha256": made.weights_sha256, "sampler_sha256": made.sampler_sha256} == expected
        # the tiny pipeline has statistics of observations, which its networks hold in their first layer
        assert len(contract.folded.observation_mean) == 5 and contract.folded.output_mean == ()


def test_a_network_of_a_pipeline_without_a_contract_still_knows_its_task(nnit, networks):
    contract = MLP.from_pretrained(f"{networks}/network-1").contract
    assert (contract.task, contract.observations, contract.provenance.index) == ("tiny_data", (), 1)
    result = nnit("evaluate", f"{networks}/network-1", "--json")
    assert result.code == 0 and result.json["task"] == "tiny_data"
    moved = shutil.copytree(f"{networks}/network-1", "elsewhere")
    assert nnit("evaluate", moved, "--json").json["networks"][0]["score"] == result.json["networks"][0]["score"]


def test_networks_of_several_tasks_are_scored_together_only_on_a_named_task(nnit, alone):
    sources = [alone(TINY, "a"), alone(replace(TINY, task="tiny_demand", is_discrete=False), "b")]
    refused(nnit("evaluate", *sources), "networks of ['tiny_data', 'tiny_demand']", "`--task` names the one")
    result = nnit("evaluate", *sources, "--task", "tiny_data")
    assert result.code == 0
    # the second is reported, in one line, to be for something else
    (line,) = [line for line in result.err.splitlines() if "differs" in line]
    assert "'b' was made for 'tiny_demand'" in line and "action range 'unbounded' and 'choices'" in line


def pendulum(**changes):
    contract = contract_of(GymnasiumTask("Pendulum-v1", success=0.9, teacher_return=-150))
    return replace(contract, **changes)


def environment(**changes):
    return replace(pendulum().environment, **changes)


RUN = ("--num-episodes", 2, "--num-workers", 0)


def test_a_policy_of_an_own_environment_is_evaluated_from_its_folder_alone(nnit, alone):
    alone(pendulum(), sizes=(3, 1))
    assert sorted(path.name for path in Path("alone").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    result = nnit("evaluate", "alone", *RUN, "--json")
    assert result.code == 0, result.err
    assert result.json["task"] == "pendulum-v1" and result.err == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": (IOTerm("actions", (1,), clip=((-1, 1),)),)}, "action range [-1.0, 1.0] and [-2.0, 2.0]"),
        ({"observations": (IOTerm("angle", (1,)), IOTerm("rest", (2,)))}, "observations ('angle', 1) and ('observa"),
        ({"environment": environment(control_freq=50, dt=0.02)}, "control_freq 50.0 and 20.0"),
        ({"environment": environment(env_id="Pendulum-v0")}, "env_id 'Pendulum-v0' and 'Pendulum-v1'"),
    ],
)
def test_a_policy_made_for_something_else_is_refused_unless_the_task_is_named(nnit, alone, tmp_path, changes, message):
    alone(pendulum(**changes), sizes=(3, 1))
    refused(nnit("evaluate", "alone", *RUN), "'alone' was made for 'pendulum-v1'", message, "`--task`")
    (tmp_path / "swinging.py").write_text(
        "from nnit_diffusers.tasks.gymnasium import GymnasiumTask\n"
        "class Swing(GymnasiumTask):\n"
        "    def __init__(self):\n"
        "        super().__init__('Pendulum-v1', success=0.9, teacher_return=-150)\n"
    )
    named = nnit("evaluate", "alone", "--task", "swinging:Swing", *RUN)
    assert named.code == 0, named.err
    assert message in named.err and named.err.count("was made for") == 1


def test_a_network_alone_of_a_table_asks_for_the_table(nnit, alone, tmp_path):
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"length": random.normal(5, 1, 120), "width": random.normal(3, 1, 120)})
    frame["kind"] = np.where(frame["length"] > 5, "long", "short")
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    alone(contract_of(load_table_task("flowers.csv", "kind")), sizes=(2, 2))
    # it is found where the command runs, or named, and predicts
    assert nnit("evaluate", "alone").code == 0
    (tmp_path / "flowers.csv").rename(tmp_path / "moved.csv")
    refused(nnit("evaluate", "alone"), "'flowers.csv' of task 'flowers' must be given with `--task TABLE`")
    assert nnit("evaluate", "alone", "--task", "moved.csv").code == 0
    assert len(nnit("predict", "alone", "moved.csv", "--json").json["predictions"]) == 120
    shown = nnit("info", "alone").out
    assert "Inputs      length 0, width 1" in shown and "Target      kind, 2 classes" in shown


def test_an_untrusted_contract_imports_nothing_and_is_refused_in_one_line(nnit, alone, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    alone(replace(TINY, task="evil:task"))
    refused(nnit("evaluate", "alone"), "`--task` must be given: the files name task 'evil:task'")
    config = json.loads(Path("alone/config.json").read_text())
    for contract, message in (
        ({**TINY.to_dict(), "actions": [{"name": "a", "shape": [2]}]}, "must describe 3 numbers, but describes 2"),
        ({**TINY.to_dict(), "observations": 3}, "`contract.observations` must be a list"),
        ({"task": "tiny_data", "task_spec": {"kind": "shell", "name": "a"}}, "'table' or 'simulator'"),
        ([], "`contract` must be a JSON object"),
    ):
        Path("alone/config.json").write_text(json.dumps({**config, "nnit_contract": contract}))
        refused(nnit("evaluate", "alone"), message)


def test_info_prints_the_contract_line_by_line(nnit, alone):
    contract = replace(
        pendulum(),
        actions=(IOTerm("torque", (1,), units="N m", clip=((-2, 2),), scale=(0.5,)),),
        environment=EnvironmentRecord("maniskill", "Reach-v1", "3.0.1", {"g": 9}, "panda", "pd", 20, 0.05),
        score=ScoreRecord("success_rate", 0.9, (0.8, 0.95), 1000, "test"),
    )
    alone(contract, sizes=(3, 1))
    lines = nnit("info", "alone").out.splitlines()
    for line in (
        "Task        pendulum-v1",
        "Environment Reach-v1 of maniskill 3.0.1, robot panda, control mode pd, 20 Hz",
        "Arguments   {'g': 9}",
        "Observation observation 0:3",
        "Action      torque 0 (× 0.5 N m)",
        "Clip        every output to -2 to 2, before the environment's step",
        "Score       success_rate 90.0% (80.0% to 95.0%), 1,000 of test",
    ):
        assert line in lines
    assert nnit("info", "alone", "--json").json["contract"] == contract.to_dict()


def test_info_of_a_pipeline_prints_its_contract_and_no_control_characters(nnit, published):
    hostile = replace(TINY, observations=(IOTerm("a\x1b[2Jb", (5,)),))
    write_json(published / CONTRACT_NAME, hostile.to_dict())
    out = nnit("info", published).out
    assert "Inputs      a\\x1b[2Jb 0:5" in out and "\x1b" not in out
    assert "Choice      the index of the largest output" in out


def test_the_winner_of_a_search_has_its_confirmed_score(nnit, published):
    write_json(published / CONTRACT_NAME, TINY.to_dict())
    options = ("--num-bands", 1, "--networks-per-band", 2, "--screen-episodes", 20, "--num-inference-steps", 1)
    found = nnit("search", published, "--target", 0.05, "--output", "smallest", *options, "--json")
    assert found.code == 0, found.err
    contract = MLP.from_pretrained("smallest/winner").contract
    candidates = json.loads(Path("smallest/search.json").read_text())["candidates"]
    (confirmed,) = [each["confirmation"] for each in candidates if each["name"] == found.json["winner"]]
    assert contract.score.metric == "accuracy" and contract.score.split == "test"
    assert contract.score.value == confirmed["score"]
    assert list(contract.score.interval) == confirmed["confidence_interval"]
    assert contract.observations == TINY.observations and contract.provenance.index in (0, 1)
    # candidates have no confirmed score
    (candidate, *_) = sorted(Path("smallest/networks").iterdir())
    assert MLP.from_pretrained(candidate).contract.score is None
    assert nnit("evaluate", "smallest/winner", "--json").json["task"] == "tiny_data"
