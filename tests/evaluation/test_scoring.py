import json

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from nnit_diffusers import MLP, ClassificationTask, MLPArchitecture, Task, evaluate
from nnit_diffusers.evaluation import mean_interval, predict, select_top, wilson_interval
from nnit_diffusers.evaluation.novelty import agreement
from nnit_diffusers.network_batch import NetworkBatch
from nnit_diffusers.tasks import Score


class LargestTask(ClassificationTask):
    """Which of three positive numbers is the largest; the labels of the test split are turned by one."""

    name = "largest"
    in_features = 3
    out_features = 3

    def load(self, split):
        seed, turn = {"train": (0, 0), "validation": (1, 0), "test": (2, 1)}[split]
        inputs = torch.rand(60, 3, generator=torch.Generator().manual_seed(seed))
        return inputs, (inputs.argmax(dim=1) + turn) % 3


class ReachTask(Task):
    """A simulator: a point on a line is pushed by the network towards a goal that it sees the distance to."""

    name = "reach"
    in_features = 1
    out_features = 1
    networks_per_batch = 2
    observation_mean = torch.zeros(1)
    observation_std = torch.ones(1)

    def __init__(self):
        self.calls = []

    def training_batch(self, batch_size, generator):
        distances = torch.rand(batch_size, 1, generator=generator) * 2 - 1
        return distances, distances.clamp(-0.2, 0.2)

    def loss(self, outputs, targets):
        return (outputs - targets).square().mean(dim=(1, 2))

    def score(self, networks, *, split="validation", num_episodes=None, seed=0, num_workers=None):
        batch, num_networks, num_episodes = NetworkBatch(networks), len(networks), num_episodes or 10
        self.calls.append((num_networks, split, seed, num_workers))
        generator = torch.Generator().manual_seed(1000 * seed + {"train": 0, "validation": 1, "test": 2}[split])
        distances = (torch.rand(num_episodes, 1, generator=generator) * 2 - 1).repeat(num_networks, 1, 1)
        reached_once = torch.zeros(num_networks, num_episodes, dtype=torch.bool)
        for _ in range(20):
            distances = distances - batch(distances)
            reached = distances[..., 0].abs() < 0.1
            reached_once |= reached
        return [
            Score(int(once.sum()), num_episodes, {"success_at_end": at_end.float().mean().item()})
            for once, at_end in zip(reached_once, reached)
        ]


def pushing_network(gain, hidden_sizes=(2,)):
    """Pushes by `gain` times the distance: relu(x) - relu(-x) = x."""
    network = MLP(1, hidden_sizes, 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[:2, 0] = torch.tensor([1.0, -1.0])
        for layer in range(2, len(network) - 1, 2):
            network[layer].weight[:2, :2] = torch.eye(2)
        network[-1].weight[0, :2] = torch.tensor([gain, -gain])
    return network


def identity_network(turn=0, hidden_size=3):
    """Its largest output is the largest of its three positive inputs, turned by `turn`."""
    network = MLP(3, [hidden_size], 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[:3] = torch.eye(3)
        network[2].weight[:, :3] = torch.eye(3).roll(turn, dims=0)
    return network


def random_networks(sizes):
    torch.manual_seed(0)
    return [MLP(3, hidden_sizes, 3, activation) for hidden_sizes, activation in sizes]


MIXED = [((5,), "relu"), ((4, 6), "relu"), ((5,), "tanh"), ((5,), "relu"), ((4, 6), "relu"), ((5,), "relu")]


def test_networks_of_mixed_shapes_are_scored_in_their_order():
    task, networks = LargestTask(), random_networks(MIXED)
    inputs, labels = task.data("test")
    results = evaluate(networks, task)
    assert [result.architecture for result in results] == [network.architecture for network in networks]
    expected = [int((network(inputs).argmax(dim=1) == labels).sum()) for network in networks]
    assert [result.num_successes for result in results] == expected
    for result in results:
        assert result.num_episodes == 60
        assert result.score == result.num_successes / 60
        assert result.confidence_interval == wilson_interval(result.num_successes, 60)


def test_scores_do_not_depend_on_how_many_networks_run_at_once():
    networks = random_networks([((5,), "relu")] * 5)
    task, small_task = LargestTask(), LargestTask()
    small_task.networks_per_batch = 2
    assert evaluate(networks, task) == evaluate(networks, small_task)


def test_the_test_split_is_scored_by_default_and_the_validation_split_on_request():
    networks = [identity_network(), identity_network(turn=1)]
    assert [result.score for result in evaluate(networks, LargestTask())] == [0, 1]
    assert [result.score for result in evaluate(networks, LargestTask(), split="validation")] == [1, 0]


def test_a_network_with_outputs_that_are_not_finite_scores_0_and_does_not_affect_others():
    broken = identity_network(turn=1)
    broken[2].bias.data[0] = torch.inf
    broken_result, result = evaluate([broken, identity_network(turn=1)], LargestTask())
    assert (broken_result.score, broken_result.metrics) == (0, {"non_finite": 60})
    assert (result.score, result.metrics) == (1, {"non_finite": 0})


def test_half_precision_networks_are_scored():
    (result,) = evaluate([identity_network(turn=1).half()], LargestTask())
    assert result.score == 1


def test_no_networks_give_no_results():
    assert evaluate([], LargestTask()) == []


def test_a_network_that_does_not_fit_the_task_is_refused_by_both_their_sizes():
    networks = [identity_network(), MLP(4, [5], 2)]
    message = "3 inputs and 3 outputs for task 'largest', but received 4 and 2 at index 1"
    with pytest.raises(ValueError, match=message):
        evaluate(networks, LargestTask())
    with pytest.raises(ValueError, match=message):
        predict(networks, LargestTask())


class Wrapped(nn.Module):
    """A module that is no MLP, with dropout: it is correct only in evaluation mode."""

    def __init__(self, network):
        super().__init__()
        self.network, self.dropout = network, nn.Dropout(0.9)

    def forward(self, inputs):
        return self.dropout(self.network(inputs))


def test_networks_of_all_kinds_score_as_the_mlp_of_the_same_weights():
    mlp = identity_network(turn=1)
    plain = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    plain.load_state_dict(mlp.state_dict())
    wrapped = Wrapped(mlp)
    wrapped.network.eval()
    networks = [wrapped, identity_network(), plain, lambda inputs: mlp(inputs), mlp]
    results = evaluate(networks, LargestTask())
    assert [result.score for result in results] == [1, 0, 1, 1, 1]
    architecture = mlp.architecture
    assert [result.architecture for result in results] == [None, architecture, architecture, None, architecture]
    assert json.loads(json.dumps(results[0].to_dict()))["architecture"] is None
    predictions = predict(networks, LargestTask())
    assert torch.equal(predictions[0], predictions[4]) and torch.equal(predictions[3], predictions[4])
    # every module is in the mode that it was in
    assert (wrapped.training, wrapped.dropout.training, wrapped.network.training) == (True, True, False)


def test_functions_are_scored_in_batches_of_their_own_by_a_simulator():
    task = ReachTask()
    networks = [lambda distances: 0.5 * distances, pushing_network(0.5), torch.zeros_like, torch.sin]
    results = evaluate(networks, task, num_episodes=40)
    assert [number for number, *_ in task.calls] == [2, 1, 1]
    assert results[0].score == results[1].score == results[3].score == 1 > results[2].score


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Identity(), None),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "received 3 and 2 at index 1"),
        (nn.Linear(3, 2), r"received a Linear at index 1 with outputs \[2, 2\]"),
        (nn.Linear(4, 3), "received a Linear at index 1 that raises RuntimeError: mat1 and mat2"),
        (lambda inputs: inputs[0], r"received a function at index 1 with outputs \[3\]"),
        (lambda inputs: inputs.tolist(), "received a function at index 1 that raises AttributeError"),
        ("network", r"functions from inputs \[2, 3\] to outputs \[2, 3\].*'largest', but received a str at index 1"),
    ],
)
def test_networks_that_do_not_fit_the_task_are_refused_in_one_line(network, message):
    networks = [identity_network(), network]
    for score in (evaluate, predict):
        if message is None:
            score(networks, LargestTask())
            continue
        with pytest.raises(ValueError, match=message) as raised:
            score(networks, LargestTask())
        assert "\n" not in str(raised.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"one of .*'test'.* but received 'held_out_widths'"):
        evaluate([identity_network()], LargestTask(), split="held_out_widths")


def test_a_simulator_task_gets_the_requested_episodes_seed_and_workers():
    task = ReachTask()
    networks = [pushing_network(0.5), pushing_network(0.0), pushing_network(2.0), pushing_network(0.3, (4, 2))]
    results = evaluate(networks, task, num_episodes=40, seed=7, num_workers=2)
    assert task.calls == [(2, "test", 7, 2), (1, "test", 7, 2), (1, "test", 7, 2)]
    assert [result.num_episodes for result in results] == [40] * 4
    # A gain of 2 mirrors the distance and a gain of 0 keeps it: only points that start near the goal are ever there.
    assert results[0].score == results[3].score == 1
    assert results[1].score == results[2].score < 0.5
    assert results[0].metrics == {"success_at_end": 1.0}


def test_results_are_ready_for_json():
    (result,) = evaluate([identity_network(turn=1)], LargestTask(), num_episodes=20)
    payload = json.loads(json.dumps(result.to_dict()))
    assert (payload["score"], payload["num_successes"], payload["num_episodes"]) == (1, 20, 20)
    assert payload["metrics"] == {"non_finite": 0}
    assert payload["confidence_interval"] == list(result.confidence_interval)
    assert MLPArchitecture(**payload["architecture"]) == result.architecture


def test_predictions_are_those_of_each_network_in_order():
    task, networks = LargestTask(), random_networks(MIXED)
    networks[3][2].bias.data[1] = torch.nan
    inputs, _ = task.data("validation")
    predictions = predict(networks, task, split="validation")
    for index, network in enumerate(networks):
        expected = torch.full((60,), -1) if index == 3 else network(inputs).argmax(dim=1)
        assert torch.equal(predictions[index], expected)


def test_agreement_is_the_share_of_equal_predictions_of_every_pair():
    first = torch.tensor([[0, 1, 2, 2], [0, 1, 2, 0]])
    second = torch.tensor([[0, 1, 2, 2], [4, 4, 4, 4], [0, 0, 2, 2]])
    assert agreement(first, second).tolist() == [[1, 0, 0.75], [0.75, 0, 0.5]]
    assert agreement(first).tolist() == [[1, 0.75], [0.75, 1]]


def test_outputs_that_are_not_finite_agree_with_nothing():
    predictions = torch.tensor([[-1, -1, 0, 1], [-1, 0, 0, 1]])
    assert agreement(predictions).tolist() == [[0.5, 0.5], [0.5, 0.75]]


def test_top_scores_are_sorted_and_of_equal_scores_the_earlier_comes_first():
    assert select_top([0.1, 0.9, 0.5, 0.9, 0.7], 3) == [1, 3, 4]
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"1 to 5, the number of scores, but received {k}"):
            select_top([0.1, 0.9, 0.5, 0.9, 0.7], k)


@pytest.mark.parametrize(("successes", "episodes"), [(0, 10), (10, 10), (95, 100), (1, 3), (499, 500)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_wilson_interval_is_scipys(successes, episodes, confidence):
    reference = stats.binomtest(successes, episodes).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(successes, episodes, confidence)
    assert interval == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert 0 <= interval[0] <= successes / episodes <= interval[1] <= 1


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match=f"received {successes} of {episodes}"):
        wilson_interval(successes, episodes)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_mean_is_scipys_student_t_interval(confidence):
    values = np.random.RandomState(0).normal(0.9, 0.1, size=7)
    reference = stats.t.interval(confidence, df=6, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values, confidence=confidence) == pytest.approx(reference, abs=1e-12)


def coverage(group_means, true_mean):
    """Share of the rows of group means, one value per group, whose 95% interval holds the true mean."""
    intervals = [mean_interval(row) for row in group_means]
    return np.mean([low <= true_mean <= high for low, high in intervals])


@pytest.mark.parametrize("num_groups", [3, 5, 10])
def test_the_interval_covers_the_mean_of_normal_groups_in_95_percent_of_cases(num_groups):
    group_means = np.random.default_rng(num_groups).normal(0.9, 0.05, size=(4000, num_groups))
    standard_error = (0.95 * 0.05 / 4000) ** 0.5
    # The bootstrap over groups covers 76%, 83% and 89%; normal quantiles 81%, 88% and 92%.
    assert coverage(group_means, 0.9) == pytest.approx(0.95, abs=3 * standard_error)


@pytest.mark.parametrize("num_groups", [3, 5, 10])
def test_the_interval_covers_less_if_scores_are_skewed_as_its_docstring_says(num_groups):
    random = np.random.default_rng(0)
    skewed = random.beta(20, 1, size=(4000, num_groups))
    assert 0.85 < coverage(skewed, 20 / 21) < 0.93
    # One group in ten scores 92%, the others 100%: samples without such a group show no variation at all.
    rare = np.where(random.random((4000, num_groups)) < 0.9, 1.0, 0.92)
    assert 0.2 < coverage(rare, 0.992) < 0.7


def test_networks_of_one_architecture_count_as_one_observation():
    random = np.random.RandomState(0)
    architectures = [MLPArchitecture(3, (width,), 3) for width in range(1, 13)]
    means = random.normal(0.9, 0.05, size=12)
    values = np.repeat(means, 50)
    groups = [architecture for architecture in architectures for _ in range(50)]
    low, high = mean_interval(values, groups)
    assert (low, high) == pytest.approx(mean_interval(means), abs=1e-9)
    naive_low, naive_high = mean_interval(values)
    assert high - low > 5 * (naive_high - naive_low)


def test_groups_weigh_by_their_size():
    # The sums deviate by 98 - 98 * 0.98 = 1.96 and by 0 - 2 * 0.98 = -1.96 from what the mean of 0.98 predicts.
    low, high = mean_interval([1.0] * 98 + [0.0, 0.0], ["large"] * 98 + ["small"] * 2)
    half_width = stats.t.ppf(0.975, df=1) * (2 * (1.96**2 + 1.96**2)) ** 0.5 / 100
    assert (low, high) == pytest.approx((0.98 - half_width, 0.98 + half_width), abs=1e-9)


def test_groups_may_be_in_any_order():
    values, groups = [0.1, 0.2, 0.3, 0.5], ["a", "b", "c", "a"]
    assert mean_interval(values, groups) == pytest.approx(mean_interval(values[::-1], groups[::-1]))


def test_a_mean_of_one_group_has_no_interval():
    with pytest.raises(ValueError, match="two or more distinct groups, but received 1"):
        mean_interval([0.5, 0.7], ["a", "a"])
    with pytest.raises(ValueError, match="as long as `values`, 2, but received 3"):
        mean_interval([0.5, 0.7], ["a", "b", "c"])
