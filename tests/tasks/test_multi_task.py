"""Several tasks as one: shared sizes, statistics and processes, and a network scored on its own task."""

import pytest
import torch
from toy_choices import NUM_CHOICES, NUM_STEPS, right_network, shifted_task

from nnit_diffusers import MLP, NetworkContract, evaluate
from nnit_diffusers.tasks.multi import MultiTask
from nnit_diffusers.training import DemonstrationsConfig, collect_demonstrations


def exact_mlp(shift):
    """An MLP that is always right in the task of this shift."""
    network = MLP(NUM_CHOICES, [NUM_CHOICES], NUM_CHOICES)
    network.load_state_dict(
        {
            "0.weight": torch.eye(NUM_CHOICES),
            "0.bias": torch.zeros(NUM_CHOICES),
            "2.weight": torch.eye(NUM_CHOICES).roll(shift, dims=0),
            "2.bias": torch.zeros(NUM_CHOICES),
        }
    )
    return network


def for_task(network, name):
    network.contract = NetworkContract(task=name)
    return network


@pytest.fixture
def task():
    task = MultiTask("shifts", [shifted_task(0), shifted_task(1)])
    task.num_workers = 0
    yield task
    task.close()


def test_every_network_is_scored_on_the_task_of_its_contract(task):
    networks = [for_task(exact_mlp(shift), f"shift-{named}") for shift, named in ((0, 0), (1, 1), (0, 1), (1, 0))]
    scores = [result.score for result in evaluate(networks, task, num_episodes=5)]
    assert scores == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("contract", [None, NetworkContract(), NetworkContract(task="shift-9")])
def test_a_network_without_one_of_the_tasks_is_refused(task, contract):
    network = exact_mlp(0)
    network.contract = contract
    with pytest.raises(
        ValueError, match=r"a contract that names one of \['shift-0', 'shift-1'\], but the one at index 0"
    ):
        evaluate([network], task, num_episodes=2)


def test_a_round_of_dagger_has_the_labels_of_each_task_s_own_teacher(task):
    found = task.collect([right_network(0), right_network(0), right_network(1)], [0, 1, 1], seed=3)
    assert len(found.observations) == len(found.labels) == 3 * NUM_STEPS
    assert found.labels.tolist() == [0] * NUM_STEPS + [1] * 2 * NUM_STEPS
    for shift in (0, 1):
        of_task = found.labels == shift
        expected = found.observations[of_task].roll(shift, dims=1)
        torch.testing.assert_close(found.actions[of_task], expected)
    # other episodes for every network
    first, second = found.observations[:NUM_STEPS], found.observations[NUM_STEPS : 2 * NUM_STEPS]
    assert not torch.equal(first, second)


def test_samples_are_added_to_the_task_of_their_label(task, tmp_path):
    for name in task.task_names:
        collect_demonstrations(task.of(name), tmp_path / name, DemonstrationsConfig(num_episodes=3), num_workers=0)
    task = MultiTask("shifts", [shifted_task(0), shifted_task(1)], data_dir=tmp_path)
    before = [len(task.of(name).demonstrations[0]) for name in task.task_names]
    copied = task.separate()
    inputs = torch.full((5, NUM_CHOICES), 7.0)
    copied.add_demonstrations(inputs, torch.zeros(5, NUM_CHOICES), torch.tensor([1, 0, 1, 1, 1]))
    assert [len(copied.of(name).demonstrations[0]) for name in task.task_names] == [before[0] + 1, before[1] + 4]
    assert (copied.of("shift-1").demonstrations[0][-4:] == 7).all()
    # the task that it was copied from, and the statistics, stay as they are
    assert [len(task.of(name).demonstrations[0]) for name in task.task_names] == before
    assert torch.equal(copied.observation_mean, task.observation_mean)


def test_statistics_are_those_of_all_tasks_each_counting_alike(tmp_path):
    tasks = [shifted_task(0), shifted_task(1)]
    task = MultiTask("shifts", tasks)
    states = [torch.randn(40, NUM_CHOICES) * 3 + 5, torch.randn(40, NUM_CHOICES) - 2]
    for name, observations in zip(task.task_names, states):
        vars(task.of(name))["_collected"] = (observations, torch.zeros(40, NUM_CHOICES))
    together = torch.cat(states)
    torch.testing.assert_close(task.observation_mean, together.mean(dim=0))
    torch.testing.assert_close(task.observation_std, together.std(dim=0, correction=0))


def test_all_tasks_share_their_processes():
    task = MultiTask("shifts", [shifted_task(0), shifted_task(1)])
    try:
        networks = [for_task(exact_mlp(shift), f"shift-{shift}") for shift in (0, 1, 0, 1)]
        scores = [result.score for result in evaluate(networks, task, num_episodes=3, num_workers=1)]
        assert scores == [1.0] * 4
        assert len(task.of("shift-0").pool.process_ids) == 1
    finally:
        task.close()
    assert not task.of("shift-0").pool.process_ids


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [], "1 to 1024 tasks of distinct names"),
        (lambda: [shifted_task(0, "same"), shifted_task(1, "same")], "distinct names, but received"),
        (lambda: [shifted_task(0), shifted_task(1, max_width=30)], "the same max_width, but 'shift-1' differs"),
    ],
)
def test_tasks_that_do_not_fit_together_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        MultiTask("shifts", make())


def test_an_unknown_name_is_refused(task):
    with pytest.raises(ValueError, match=r"one of \['shift-0', 'shift-1'\], but received 'shift-2'"):
        task.of("shift-2")
