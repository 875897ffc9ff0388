"""The contract of a network: exact as JSON, refused if damaged, and what follows from it."""

import json
import math

import pytest
import torch

from nnit_diffusers import NetworkContract
from nnit_diffusers.contract import (
    CONTRACT_NAME,
    EnvironmentRecord,
    FoldedStatistics,
    IOTerm,
    ProvenanceRecord,
    ScoreRecord,
    read_contract,
)


def arm(**changes):
    """The contract of a policy of 5 inputs and 3 outputs, of which the last has no lower bound."""
    contract = {
        "task": "reach",
        "observations": (
            IOTerm("joint positions", (2,), units="rad", joint_names=("shoulder", "elbow")),
            IOTerm("goal", (3,), units="m", element_names=("x", "y", "z")),
        ),
        "actions": (
            IOTerm("arm", (2,), units="rad", clip=((-1, 1), (-1, 1)), scale=(0.1, 0.1), offset=(0, 0)),
            IOTerm("gripper", (1,), clip=((None, 2),)),
        ),
        "environment": EnvironmentRecord(
            "maniskill", "Reach-v1", env_kwargs={"robot_uids": "panda"}, control_mode="pd", control_freq=20, dt=0.05
        ),
        "folded": FoldedStatistics(observation_mean=(0.1,) * 5, observation_std=(1 / 3,) * 5),
        "score": ScoreRecord("success_rate", 0.9, (0.8, 0.95), 100, "test", seed=0, num_successes=90),
        "provenance": ProvenanceRecord(pipeline="nnit/reach", seed=2**63, index=3),
        "task_spec": {"kind": "simulator", "grid": {"min_width": 4}},
    }
    return NetworkContract(**{**contract, **changes})


def test_a_contract_is_the_same_after_json():
    saved = arm().to_dict()
    read = NetworkContract.from_dict(json.loads(json.dumps(saved, allow_nan=False)))
    assert read == arm() and read.to_dict() == saved
    assert NetworkContract.from_dict(NetworkContract().to_dict()) == NetworkContract()


def test_keys_of_later_versions_are_kept_at_every_level():
    saved = arm().to_dict() | {"version": 7, "safety": {"reviewed": [True, None]}}
    saved["actions"][0]["torque_limit"] = 2.5
    saved["environment"]["gravity"] = [0, 0, -9.81]
    saved["observations"][0]["extras"] = {"modifiers": None}
    read = NetworkContract.from_dict(saved)
    assert read.to_dict() == saved
    assert read.extras == {"safety": {"reviewed": [True, None]}} and read.version == 7


DAMAGED = [
    ({"task": 3}, "`contract.task` must be a text"),
    ({"task": "a" * 3000}, "`contract.task` must be a text of at most 2000 characters"),
    ({"version": True}, "`contract.version` must be an integer"),
    ({"is_discrete": 1}, "`contract.is_discrete` must be true or false"),
    ({"first_choice": 2**70}, "`contract.first_choice` must be an integer below"),
    ({"observations": "abc"}, "`contract.observations` must be a list"),
    ({"observations": [{"name": "x"}]}, "must have all required fields"),
    ({"observations": [3]}, "`contract.term` must be a JSON object, but received 3"),
    ({"observations": [{"name": "x", "shape": []}]}, "must have 1 to 8 sizes"),
    ({"observations": [{"name": "x", "shape": [0]}]}, "must be an integer of 1 or more"),
    ({"observations": [{"name": "x", "shape": [2**10, 2**10]}]}, "must be an integer of at most 65536"),
    ({"observations": [{"name": "x", "shape": [1]}] * (2**16 + 1)}, "must be a list of at most 65,536"),
    (
        {"actions": [{"name": "x", "shape": [2], "scale": [1]}]},
        "`scale` of 'x' must have 2 entries or none",
    ),
    ({"actions": [{"name": "x", "shape": [1], "scale": [math.nan]}]}, "must be a number"),
    ({"actions": [{"name": "x", "shape": [1], "clip": [[0, math.inf]]}]}, "must be a number"),
    ({"actions": [{"name": "x", "shape": [1], "clip": [[0]]}]}, "must be a list of 2 entries"),
    ({"actions": [{"name": "x", "shape": [1], "clip": [[1, -1]]}]}, "must be [low, high]"),
    ({"environment": {"library": "a", "env_id": "b", "control_freq": 0}}, "must be above 0"),
    ({"environment": {"library": "a", "env_id": "b", "control_freq": 20, "dt": 0.1}}, "must be 1 / control_freq"),
    ({"environment": {"library": "a", "env_id": "b", "env_kwargs": []}}, "must be a JSON object"),
    ({"environment": {"library": "a", "env_id": "b", "env_kwargs": {"a": math.nan}}}, "must be a JSON object"),
    ({"folded": {"observation_mean": ["0"] * 5}}, "must be a number"),
    ({"score": {"metric": "r2", "value": 10**400, "interval": [0, 1], "num_episodes": 1, "split": "test"}}, "number"),
    ({"provenance": {"seed": 0.5}}, "`contract.provenance.seed` must be an integer"),
    ({"is_discrete": True, "actions": [{"name": "x", "shape": [1], "clip": [[-1, 1]]}]}, "must have no `clip`"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_a_damaged_contract_is_refused_in_one_line(damage, message):
    with pytest.raises(ValueError) as refused:
        NetworkContract.from_dict({**arm().to_dict(), **damage})
    assert message in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_python_arguments_are_checked_as_files_are():
    with pytest.raises(ValueError, match=r"`contract.term.units` must be a text"):
        IOTerm("x", (1,), units=3)
    with pytest.raises(ValueError, match=r"`contract.extras` must hold other keys than the fields"):
        NetworkContract(extras={"task": "a"})


def test_actions_are_clipped_where_they_have_bounds():
    contract = arm()
    assert contract.action_bounds == ((-1.0, -1.0, -math.inf), (1.0, 1.0, 2.0))
    outputs = torch.tensor([[-3.0, 0.5, -9.0], [2.0, -1.0, 9.0]])
    assert contract.clip(outputs).tolist() == [[-1.0, 0.5, -9.0], [1.0, -1.0, 2.0]]
    unbounded = arm(actions=(IOTerm("arm", (3,)),))
    assert unbounded.action_bounds is None and unbounded.clip(outputs) is outputs


def test_sizes_that_do_not_fit_a_network_are_refused():
    arm().check_sizes(5, 3)
    NetworkContract(task="reach").check_sizes(9, 9)  # nothing is described
    with pytest.raises(ValueError, match=r"`contract.observations` must describe 6 numbers, but describes 5"):
        arm().check_sizes(6, 3)
    with pytest.raises(ValueError, match=r"`contract.actions` must describe 2 numbers, but describes 3"):
        arm().check_sizes(5, 2)
    with pytest.raises(ValueError, match=r"`contract.folded.observation_mean` must have 6 numbers, but has 5"):
        arm(observations=()).check_sizes(6, 3)


def test_differences_name_both_sides():
    environment = arm().environment
    other = arm(
        observations=arm().observations[::-1],
        actions=(IOTerm("arm", (2,), clip=((-1, 1),) * 2), IOTerm("gripper", (1,), clip=((-2, 2),))),
        environment=EnvironmentRecord("maniskill", "Reach-v1", control_mode="pd_joint_pos", control_freq=50),
    )
    found = arm().differences(other)
    assert found == [
        "control_mode 'pd' and 'pd_joint_pos'",
        "control_freq 20.0 and 50.0",
        "observations ('joint positions', 2) and ('goal', 3)",
        "action range [[-1.0, 1.0], [-1.0, 1.0], [-inf, 2.0]] and [[-1.0, 1.0], [-1.0, 1.0], [-2.0, 2.0]]",
    ]
    # what is not known is no difference, nor what does not decide what goes in and comes out
    assert arm().differences(NetworkContract(task="other")) == []
    assert arm().differences(arm(task="other", score=None, environment=None)) == []
    assert environment.env_kwargs == {"robot_uids": "panda"}


def test_a_contract_is_read_from_the_folder_of_a_pipeline_or_a_network(tmp_path):
    assert read_contract(tmp_path) is None
    (tmp_path / "config.json").write_text('{"in_features": 5}')
    assert read_contract(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"nnit_contract": arm().to_dict()}))
    assert read_contract(tmp_path) == arm()
    (tmp_path / CONTRACT_NAME).write_text('{"task": []}')
    with pytest.raises(ValueError, match=r"contract.json' must hold the contract of a network: `contract.task` must"):
        read_contract(tmp_path)
