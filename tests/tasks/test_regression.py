"""Regression: R² and its interval, and standardised targets from training to the saved network."""

import numpy as np
import pytest
import torch
from tiny_tasks import TinyNumbersTask

from nnit_diffusers import MLP, evaluate
from nnit_diffusers.evaluation.direct import train_directly
from nnit_diffusers.intervals import r2_interval
from nnit_diffusers.models.graph_hypernetwork import GraphHyperNetwork
from nnit_diffusers.models.weight_patch_tokenizer import WeightPatchTokenizer
from nnit_diffusers.tasks.base import output_settings
from nnit_diffusers.tasks.regression import RegressionTask


class Constant(torch.nn.Module):
    """Predicts one number for every input."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, inputs):
        return torch.full((len(inputs), 1), self.value)


def test_r2_is_one_for_perfect_predictions_and_zero_for_the_mean():
    task = TinyNumbersTask()
    mean = task.data("test")[1].mean().item()
    perfect, constant = evaluate([task.true_function, Constant(mean)], task)
    assert perfect.score == pytest.approx(1, abs=1e-6)
    assert constant.score == pytest.approx(0, abs=1e-6)
    assert constant.num_successes is None
    assert constant.metrics["rmse"] == pytest.approx(task.data("test")[1].std(correction=0).item(), rel=1e-4)


def test_predictions_that_are_not_finite_are_counted_and_replaced_by_the_training_mean():
    task = TinyNumbersTask()
    (result,) = evaluate([Constant(float("nan"))], task)
    assert result.metrics["non_finite"] == result.num_episodes
    assert -0.5 < result.score <= 0


def test_interval_of_r2_covers_the_true_value_as_often_as_it_claims():
    random, covered, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        # predictions that explain 64% of a variance of 1
        explained = 0.8 * random.standard_normal((100, 1))
        errors = 0.6 * random.standard_normal((100, 1))
        _, (low, high) = r2_interval(-errors, explained + errors)
        covered += low <= 0.64 <= high
    assert 0.91 < covered / runs < 0.98


def test_interval_never_exceeds_one_and_shrinks_with_more_samples():
    random = np.random.default_rng(1)
    targets, errors = random.standard_normal((4000, 1)), 0.05 * random.standard_normal((4000, 1))
    few, many = r2_interval(errors[:40], targets[:40])[1], r2_interval(errors, targets)[1]
    assert few[0] < many[0] < many[1] < few[1] <= 1
    assert r2_interval(np.zeros((5, 1)), targets[:5]) == (1, (1, 1))
    assert r2_interval(errors[:5], np.ones((5, 1))) == (0, (-1, 1))
    with pytest.raises(ValueError, match="two samples or more, but received 1"):
        r2_interval(errors[:1], targets[:1])


def test_networks_trained_directly_return_numbers_in_raw_units():
    task = TinyNumbersTask()
    (network,) = train_directly(task, task.regions.architecture([16]), num_steps=400)
    (result,) = evaluate([network], task)
    # targets around 5,000 with a spread of 2,000: standardised outputs would explain nothing
    assert result.score > 0.9


def test_a_hypernetwork_and_the_tokenizer_agree_on_raw_outputs():
    task, torch_seed = TinyNumbersTask(), torch.Generator().manual_seed(0)
    settings = {
        "observation_mean": task.observation_mean.tolist(),
        "observation_std": task.observation_std.tolist(),
        **output_settings(task),
    }
    ghn = GraphHyperNetwork(task.in_features, 1, max_width=16, **settings)
    tokenizer = WeightPatchTokenizer(task.in_features, 1, **settings)
    architecture = task.regions.architecture([9, 6])
    latents = torch.randn(1, 16, generator=torch_seed)
    (raw,) = ghn.generate([architecture], latents=latents)
    # of the same network, once from its standardised weights and once from its raw ones
    standardised = tokenizer.encode_state_dicts(ghn([architecture], latents), [architecture], dtype=torch.float64)
    from_raw = tokenizer.encode([raw], dtype=torch.float64)
    torch.testing.assert_close(from_raw.patches, standardised.patches.detach(), rtol=1e-4, atol=1e-5)
    (decoded,) = tokenizer.decode(standardised.patches.detach(), [architecture])
    inputs = task.data("test")[0]
    torch.testing.assert_close(MLP.from_architecture(architecture, decoded)(inputs), raw(inputs), rtol=1e-4, atol=0.1)
    assert raw(inputs).std() > 100


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.ones((5, 1)), "targets that vary"),
        (np.array([[1.0], [np.nan], [2.0], [3.0], [1.0]]), "finite targets"),
        (np.arange(5.0), r"received shapes \[5, 2\] and \[5\]"),
    ],
)
def test_unusable_targets_are_refused(targets, message):
    class Unusable(RegressionTask):
        name, in_features, out_features = "unusable", 2, 1

        def load(self, split):
            return np.zeros((5, 2)), targets

    with pytest.raises(ValueError, match=message):
        Unusable().data("train")
