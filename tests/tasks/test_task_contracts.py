"""The contract of a task is read from the task, and for a simulator from its environment."""

import math

import numpy as np
import pandas
import pytest
from tiny_tasks import TinyDataTask, TinyNumbersTask

from nnit_diffusers import MLP, Task, contract_of, get_task
from nnit_diffusers.tasks import Features
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.meaning import shortest, terms_of
from nnit_diffusers.tasks.specs import task_from_spec
from nnit_diffusers.tasks.tables import load_table_task


def named(terms):
    return [(term.name, term.shape) for term in terms]


def test_images_are_pixels_and_logits_of_classes():
    contract = contract_of(get_task("digits"))
    assert contract.task == "digits" and contract.is_discrete and contract.task_spec == {}
    assert named(contract.observations) == [("pixels", (8, 8))]
    assert contract.observations[0].description == "0 to 16"
    assert named(contract.actions) == [("class logits", (10,))] and contract.action_bounds is None
    MLP(64, [3], 10).contract = contract


def test_a_table_names_its_columns_categories_and_classes(tmp_path):
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"length": random.normal(5, 1, 120), "colour": random.choice(["red", "blue"], 120)})
    frame.loc[frame.index % 7 == 0, "length"] = None
    frame["kind"] = np.where(frame["colour"] == "red", "warm", "cold")
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    task = load_table_task(tmp_path / "flowers.csv", "kind")
    contract = contract_of(task)
    assert named(contract.observations) == [("length", (1,)), ("length is missing", (1,)), ("colour", (2,))]
    assert contract.observations[2].element_names == ("blue", "red")
    assert [(term.name, term.units) for term in contract.actions] == [("cold", "logit"), ("warm", "logit")]
    assert contract.is_discrete and contract.environment is None
    # the task is made from it again, without where the table lay
    assert contract.task_spec["source"] == "flowers.csv"
    again = task_from_spec(dict(contract.task_spec), source=tmp_path / "flowers.csv")
    assert again.schema == task.schema and contract_of(again) == contract
    MLP(4, [3], 2).contract = contract


def test_a_table_of_thousands_of_columns_has_a_contract_that_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr("nnit_diffusers.tasks.contracts._MAX_CHARACTERS", 2000)
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(60, 40)), columns=[f"c{i}" for i in range(40)])
    frame.to_csv(tmp_path / "wide.csv", index=False)
    contract = contract_of(load_table_task(tmp_path / "wide.csv", "c0"))
    assert contract.task == "wide" and contract.observations == () and contract.task_spec == {}


def test_other_tasks_are_described_by_their_layouts_as_far_as_these_go():
    assert named(contract_of(TinyNumbersTask()).actions) == [("prediction", (1,))]
    assert not contract_of(TinyNumbersTask()).is_discrete and contract_of(TinyDataTask()).is_discrete

    class Partial(TinyNumbersTask):
        observation_layout = (Features("some", 2),)

    assert contract_of(Partial()).observations == ()
    assert issubclass(Partial, Task)


def test_a_policy_has_bounds_rate_and_environment():
    contract = contract_of(GymnasiumTask("Pendulum-v1", {"g": 9.0}, success=0.9, teacher_return=-150))
    environment = contract.environment
    assert (environment.library, environment.env_id, environment.env_kwargs) == ("gymnasium", "Pendulum-v1", {"g": 9})
    assert (environment.control_freq, environment.dt, environment.max_episode_steps) == (20, 0.05, 200)
    assert contract.action_bounds == ((-2.0,), (2.0,)) and not contract.is_discrete
    assert named(contract.observations) == [("observation", (3,))]
    assert contract.task_spec["env_id"] == "Pendulum-v1"


def test_a_policy_of_choices_has_no_bounds():
    contract = contract_of(GymnasiumTask("CartPole-v1", success=0.9, teacher_return=500))
    assert contract.is_discrete and contract.action_bounds is None
    assert named(contract.actions) == [("action logits", (2,))] and contract.actions[0].description
    # it does not report a `dt`
    assert contract.environment.control_freq is None


def test_units_names_and_descriptions_of_a_layout_are_told_apart():
    quaternion, flag, angle = terms_of(
        [Features("cube", 4, "w, x, y, z"), Features("grasped", 1, "0 or 1"), Features("joints", 7, "rad")]
    )
    assert quaternion.element_names == ("w", "x", "y", "z") and quaternion.units is None
    assert (flag.units, flag.description, angle.units) == (None, "0 or 1", "rad")


@pytest.mark.parametrize("number", [0.1, -2.8973, 1.0, 3.4e38, 1e-30, math.pi])
def test_a_bound_of_the_simulator_is_written_as_a_short_number_that_is_the_same(number):
    single = float(np.float32(number))
    assert np.float32(shortest(single)) == np.float32(single)
    assert len(str(shortest(single))) <= len(str(single))
