"""Tasks as JSON, which may come from anyone."""

import json

import numpy as np
import pytest

from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.contract import ContractError
from nnit_diffusers.tasks.simulators import find_library, make_simulator_task, simulator_task_from_spec


SPEC = {
    "kind": "simulator",
    "library": "gymnasium",
    "env_id": "Pendulum-v1",
    "env_kwargs": {"g": 9.0},
    "success": 0.9,
    "teacher_return": -200.0,
    "grid": {"min_width": 8, "max_width": 32, "min_depth": 1, "max_depth": 2},
    "name": "my-pendulum",
}


def test_a_task_is_made_again_from_its_json(tmp_path):
    task = simulator_task_from_spec(json.loads(json.dumps(SPEC)), data_dir=tmp_path)
    assert task.spec() == SPEC
    assert (task.data_dir, task.regions.max_width, task.teacher) == (tmp_path, 32, None)
    assert task.action_layout[0].unit == "-2 to 2"


def test_the_teachers_return_is_saved_so_that_no_teacher_is_needed_later():
    task = GymnasiumTask("CartPole-v1", {"max_episode_steps": 20}, teacher=lambda o: o[:, 2] + o[:, 3] > 0)
    task.teacher_return(num_workers=0)
    spec = task.spec()
    assert (spec["success"], spec["teacher_return"], spec["env_kwargs"]) == (0.9, 20.0, {"max_episode_steps": 20})
    assert simulator_task_from_spec(spec).teacher_return() == 20.0


def test_arguments_that_are_no_json_can_not_be_saved():
    task = GymnasiumTask("Pendulum-v1", {"g": np.float32(9.0)}, teacher_return=-200.0)
    with pytest.raises(ContractError, match="`env_kwargs` must be plain JSON to be saved"):
        task.spec()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "table"}, "kind 'simulator'"),
        ({"code": "x"}, "with keys"),
        ({"library": "os"}, "`library` must be one of"),
        ({"library": ["gymnasium"]}, "`library` must be one of"),
        ({"env_id": "os:Pendulum-v1"}, "`env_id` must be a name"),
        ({"env_id": "Pendulum-v0"}, "'Pendulum-v0'; nearest: 'Pendulum-v1'"),
        ({"env_id": None}, "`env_id` must be a string"),
        ({"env_kwargs": [1]}, "`env_kwargs` an object"),
        ({"env_kwargs": {"g": None}}, "`env_kwargs` must be arguments that 'Pendulum-v1' takes"),
        ({"env_id": "GymV21Environment-v0"}, "must not be a bridge to other packages"),
        ({"env_kwargs": {"g": float("nan")}}, "plain JSON"),
        ({"env_kwargs": {"g": "9" * 20_000}}, "at most 16384 characters"),
        ({"grid": {"max_width": 8, "colour": 1}}, "`grid` must be an object"),
        ({"grid": {"max_width": "8"}}, "`max_width` must be an integer"),
        ({"name": "../up"}, "`name` must be letters"),
        ({"success": "sure"}, "received 'sure'"),
        ({"success": [0.9]}, r"received \[0.9\]"),
        ({"teacher_return": "high"}, "received 'high'"),
    ],
)
def test_a_damaged_or_dangerous_specification_is_refused(change, message):
    with pytest.raises(ContractError, match=message) as raised:
        simulator_task_from_spec({**SPEC, **change})
    assert "\n" not in str(raised.value)


def test_a_user_may_name_a_module_for_their_own_task():
    trusted = simulator_task_from_spec({**SPEC, "env_id": "gymnasium:Pendulum-v1"}, trusted=True)
    made = make_simulator_task("gymnasium:Pendulum-v1", {"g": 9.0}, teacher_return=-200.0, max_width=32)
    assert (trusted.in_features, made.in_features, made.max_width) == (3, 3, 32)
    assert find_library("my_module:Mine-v0") == "gymnasium"
