"""Tasks of Meta-World by name: the scripted expert is the teacher, and a folder finds its task again."""

import json

import pytest

from nnit_diffusers import MLP


def test_an_environment_is_trained_on_without_naming_a_teacher(nnit, tmp_path):
    shown = nnit("train", "--env", "reach-v3", "--output", "run", "--dry-run")
    assert shown.code == 0 and not (tmp_path / "run").exists()
    # recorded, and labelled in rounds of DAgger
    assert "demonstrations" in shown.out and "dagger" in shown.out


def test_a_saved_network_is_scored_in_the_environment_of_its_folder(nnit, tmp_path):
    MLP(39, [4], 4).save_pretrained(tmp_path / "network")
    spec = {"kind": "simulator", "library": "metaworld", "env_id": "reach-v3", "success": "info", "name": "reach"}
    returns = []
    for limit in (2, 4):
        arguments = {"env_kwargs": {"max_episode_steps": limit}}
        (tmp_path / "network" / "task.json").write_text(json.dumps({**spec, **arguments}))
        evaluated = nnit("evaluate", "network", "--num-episodes", 2, "--num-workers", 0, "--json")
        assert evaluated.code == 0, evaluated.err
        (row,) = evaluated.json["networks"]
        assert row["num_episodes"] == 2
        returns.append(row["metrics"]["mean_return"])
    # the reward of every step is above 0
    assert 0 < returns[0] < returns[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env-kwargs", '{"camera_id": 1}'], "must have no argument but `max_episode_steps`"),
        (["--widths", "9", "4"], "width"),
    ],
)
def test_a_wrong_use_is_one_line_and_exit_code_2(nnit, arguments, message, tmp_path):
    result = nnit("train", "--env", "reach-v3", "--output", "run", *arguments)
    assert result.code == 2 and message in result.err and len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
