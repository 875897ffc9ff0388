"""What tasks report about themselves."""

import pytest

from nnit_diffusers import ClassificationTask, Task, get_task
from nnit_diffusers.tasks import Features, Metric
from nnit_diffusers.tasks.metadata import describe_layout


TITLES = {
    "digits": "Digits",
    "mnist": "MNIST",
    "pickcube": "PickCube",
    "pushcube": "PushCube",
    "stackcube": "StackCube",
    "stackcube-easy": "StackCubeEasy",
}
DATA_SETS = ("digits", "mnist")


@pytest.mark.parametrize("name", TITLES)
def test_layouts_of_shipped_tasks_cover_all_inputs_and_outputs(name):
    task = get_task(name)
    assert sum(features.size for features in task.observation_layout) == task.in_features
    assert sum(features.size for features in task.action_layout) == task.out_features
    names = [features.name for features in (*task.observation_layout, *task.action_layout)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", TITLES)
def test_shipped_tasks_have_titles_metrics_and_a_task_of_the_hub(name):
    task = get_task(name)
    is_data = name in DATA_SETS
    assert task.title == TITLES[name]
    assert task.metric == (Metric("accuracy", "Accuracy") if is_data else Metric("success_rate", "Success rate"))
    assert task.hub_task == ("image-classification" if is_data else "robotics")
    assert task.sample_name == ("sample" if is_data else "episode")
    assert task.description.endswith(".") and "\n" not in task.description


def test_evaluation_uses_all_samples_of_a_split_or_the_tasks_number_of_episodes():
    assert [get_task("digits").num_evaluation_samples(split) for split in ("validation", "test")] == [360, 360]
    assert get_task("pickcube").num_evaluation_samples("test") == 100
    for name in ("digits", "pickcube"):
        with pytest.raises(ValueError, match=r"`split` must be one of .*'test'.* but received 'tests'"):
            get_task(name).num_evaluation_samples("tests")


def without_methods(base):
    """A subclass of a task without a word about itself."""
    return type("Plain", (base,), dict.fromkeys(base.__abstractmethods__) | {"__doc__": None})


def test_a_task_of_ones_own_has_sensible_defaults():
    task = without_methods(Task)()
    task.name = "plain"
    assert (task.title, task.description, task.hub_task, task.sample_name) == ("plain", "", None, "episode")
    assert task.metric == Metric("success_rate", "Success rate")
    assert task.observation_layout == task.action_layout == ()
    assert (task.num_evaluation_samples("test"), task.has_slow_episodes) == (100, False)

    table = without_methods(ClassificationTask)()
    table.in_features, table.out_features = 4, 3
    assert (table.hub_task, table.sample_name) == ("tabular-classification", "sample")
    assert (table.observation_layout, table.action_layout) == ((), (Features("class logits", 3),))


def test_the_description_is_the_first_sentence_of_the_docstring():
    table = without_methods(Task)
    table.__doc__ = """Pours 0.2 l of water,
    without spilling. Written
    for a robot.
    """
    assert table().description == "Pours 0.2 l of water, without spilling."
    table.__doc__ = "Pours water"
    assert table().description == "Pours water"


def test_a_layout_is_described_with_ranges_and_units():
    layout = (Features("joints", 7, "rad"), Features("is grasped", 1), Features("goal", 3, "m"))
    assert describe_layout(layout) == "joints 0:7 (rad), is grasped 7, goal 8:11 (m)"
    assert describe_layout(()) == ""
