import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnit_diffusers import MLP, ArchitectureRegions, ClassificationTask, MLPArchitecture


class TableTask(ClassificationTask):
    """Which of three positive numbers is the largest; `tables` replaces the data of a split."""

    name = "table"
    in_features = 3
    out_features = 3

    def __init__(self, **tables):
        self.tables = tables
        self.num_loads = 0

    def load(self, split):
        self.num_loads += 1
        if split in self.tables:
            return self.tables[split]
        rows = {"train": 0, "validation": 1, "test": 2}[split]
        inputs = np.random.RandomState(rows).rand(50, 3)
        return inputs, inputs.argmax(axis=1)


def random_networks(num_networks, hidden_sizes=(5, 4), activation="relu"):
    torch.manual_seed(0)
    return [MLP(3, hidden_sizes, 3, activation) for _ in range(num_networks)]


def network_of(**changed):
    """The identity of positive inputs, with other weights where given."""
    weights = {"0.weight": torch.eye(3), "0.bias": torch.zeros(3), "2.weight": torch.eye(3), "2.bias": torch.zeros(3)}
    return MLP.from_architecture(MLPArchitecture(3, (3,), 3), weights | changed)


def test_data_is_float32_and_int64_and_loaded_once():
    task = TableTask()
    inputs, labels = task.data("train")
    assert (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert task.data("train")[0] is inputs
    assert task.num_loads == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ((torch.zeros(4, 2), torch.zeros(4)), r"inputs \[N, 3\].*received shapes \[4, 2\] and \[4\]"),
        ((torch.zeros(4, 3), torch.zeros(5)), r"received shapes \[4, 3\] and \[5\]"),
        ((torch.zeros(4, 3), torch.zeros(4, 1)), r"received shapes \[4, 3\] and \[4, 1\]"),
        ((torch.zeros(0, 3), torch.zeros(0)), r"one sample or more, but received shapes \[0, 3\]"),
        ((torch.zeros(2, 3), torch.tensor([1, 3])), r"labels 0…2, but received 1…3"),
        ((torch.zeros(2, 3), torch.tensor([-1, 2])), r"labels 0…2, but received -1…2"),
    ],
)
def test_data_that_does_not_fit_the_task_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        TableTask(train=table).data("train")


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"one of .*'validation'.* but received 'valid'"):
        TableTask().data("valid")


def test_observation_statistics_are_those_of_the_train_split_with_a_minimum_std():
    inputs = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 3.0]])
    task = TableTask(train=(inputs, torch.zeros(2)), test=(inputs + 100, torch.zeros(2)))
    assert task.observation_mean.tolist() == [1.0, 5.0, 2.0]
    assert task.observation_std.tolist() == pytest.approx([1.0, task.min_observation_std, 1.0])


def test_training_batches_depend_on_the_generator_and_hold_only_training_samples():
    task = TableTask()
    inputs, labels = task.training_batch(200, torch.Generator().manual_seed(3))
    again, _ = task.training_batch(200, torch.Generator().manual_seed(3))
    other, _ = task.training_batch(200, torch.Generator().manual_seed(4))
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, other)
    train_inputs, train_labels = task.data("train")
    rows = (inputs[:, None] == train_inputs).all(dim=-1)
    assert rows.any(dim=1).all()
    assert torch.equal(train_labels[rows.float().argmax(dim=1)], labels)


def test_the_loss_is_each_networks_own_cross_entropy_and_differentiable():
    torch.manual_seed(0)
    outputs = torch.randn(4, 6, 3, requires_grad=True)
    labels = torch.randint(3, (6,))
    losses = TableTask().loss(outputs, labels)
    expected = torch.stack([F.cross_entropy(output, labels) for output in outputs])
    torch.testing.assert_close(losses, expected)
    losses[1].backward()
    assert (outputs.grad.abs().sum(dim=(1, 2)) > 0).tolist() == [False, True, False, False]


def test_label_smoothing_gives_confident_predictions_some_loss():
    class SmoothTask(TableTask):
        label_smoothing = 0.3

    outputs, labels = torch.randn(4, 6, 3), torch.randint(3, (6,))
    expected = torch.stack([F.cross_entropy(output, labels, label_smoothing=0.3) for output in outputs])
    torch.testing.assert_close(SmoothTask().loss(outputs, labels), expected)
    certain = 50 * F.one_hot(labels, 3).float()[None]
    assert SmoothTask().loss(certain, labels) > 1 > TableTask().loss(certain, labels)


def test_the_loss_takes_labels_of_each_networks_own_samples():
    torch.manual_seed(0)
    outputs, labels = torch.randn(4, 6, 3), torch.randint(3, (4, 6))
    expected = torch.stack([F.cross_entropy(output, label) for output, label in zip(outputs, labels)])
    torch.testing.assert_close(TableTask().loss(outputs, labels), expected)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_scores_are_those_of_the_networks_run_one_by_one(activation):
    task = TableTask()
    networks = random_networks(6, activation=activation)
    inputs, labels = task.data("validation")
    expected = [int((network(inputs).argmax(dim=1) == labels).sum()) for network in networks]
    scores = task.score(networks)
    assert [score.num_successes for score in scores] == expected
    assert {score.num_episodes for score in scores} == {50}
    assert len(set(expected)) > 1


def test_data_sets_longer_than_one_forward_are_predicted_completely_and_in_order():
    torch.manual_seed(0)
    networks = random_networks(2)
    inputs = torch.rand(2500, 3)
    predictions = TableTask().predict(networks, inputs)
    assert torch.equal(predictions, torch.stack([network(inputs).argmax(dim=1) for network in networks]))


def test_samples_with_an_output_that_is_not_finite_count_as_wrong():
    inputs = torch.tensor([[1.0, 0.0, 0.0], [1e30, 0.0, 0.0], [0.0, 1.0, 0.0]])
    task = TableTask(validation=(inputs, inputs.argmax(dim=1)))
    overflowing = network_of(**{"2.weight": 1e20 * torch.eye(3)})
    broken = network_of(**{"2.bias": torch.full((3,), torch.nan)})
    scores = task.score([network_of(), overflowing, broken])
    assert [score.num_successes for score in scores] == [3, 2, 0]
    assert [score.metrics["non_finite"] for score in scores] == [0, 1, 3]


def test_num_episodes_draws_that_many_samples_by_seed():
    inputs = torch.eye(3).repeat(20, 1)
    # Labels are correct only in the first half, so that the score shows which samples were drawn.
    labels = torch.where(torch.arange(60) < 30, inputs.argmax(dim=1), (inputs.argmax(dim=1) + 1) % 3)
    task = TableTask(test=(inputs, labels))

    def drawn_score(num_episodes, seed):
        (score,) = task.score([network_of()], split="test", num_episodes=num_episodes, seed=seed)
        return score

    assert drawn_score(20, seed=1) == drawn_score(20, seed=1)
    assert drawn_score(20, seed=1).num_episodes == 20
    assert len({drawn_score(20, seed).num_successes for seed in range(10)}) > 1
    assert drawn_score(60, seed=5).num_successes == 30


@pytest.mark.parametrize("num_episodes", [0, -1, 51])
def test_more_episodes_than_the_split_has_are_refused(num_episodes):
    with pytest.raises(ValueError, match=f"1 to 50, the size of 'validation', but received {num_episodes}"):
        TableTask().score(random_networks(1), num_episodes=num_episodes)


def test_the_regions_of_a_task_come_from_its_attributes():
    class WideTask(TableTask):
        activation = "tanh"
        min_width, max_width, max_depth = 8, 24, 2

    assert WideTask().regions == ArchitectureRegions(3, 3, "tanh", min_width=8, max_width=24, max_depth=2)
