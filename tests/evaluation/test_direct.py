"""Networks trained directly, beside generated ones of the same architectures."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_pipeline
from tiny_tasks import TinyDataTask
from untrained import FEW

from nnit_diffusers import MLP, evaluate
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.direct import train_directly
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.evaluation.sections import Evaluator
from nnit_diffusers.evaluation.sections.direct import score_direct


@pytest.fixture(scope="module")
def architecture(digits):
    return digits.regions.architecture([24, 20])


def test_a_network_learns_the_task_from_raw_inputs(digits, architecture):
    (network,) = train_directly(digits, architecture, num_steps=300)
    assert isinstance(network, MLP) and network.architecture == architecture and not network.training
    (result,) = evaluate([network], digits)
    assert result.score > 0.9


def test_the_seed_decides_the_network_and_torchs_own_state_stays(digits, architecture):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, other = train_directly(digits, architecture, num_steps=5, seeds=(0, 1))
    (again,) = train_directly(digits, architecture, num_steps=5, seeds=(0,))
    torch.testing.assert_close(torch.rand(3), expected)
    weights = [network.state_dict()["0.weight"] for network in (first, again, other)]
    # the same, whatever is trained beside it
    torch.testing.assert_close(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


class FadingTask(TinyDataTask):
    """Validation scores that fall from call to call, so that the first network of a run is the best of it.

    Attributes:
        validated (`list[torch.Tensor]`): First weights of every network that was scored on validation data.
    """

    name = "fading"

    def __init__(self):
        super().__init__()
        self.validated = []

    def score(self, networks, *, split="validation", **kwargs):
        assert split == "validation"
        self.validated += [network.state_dict()["0.weight"].clone() for network in networks]
        (score,) = super().score(networks, split=split, **kwargs)
        return [replace(score, num_successes=score.num_episodes - len(self.validated))]


def test_of_a_training_run_the_network_that_is_best_on_validation_data_is_kept():
    task = FadingTask()
    (network,) = train_directly(task, task.regions.architecture([6]), num_steps=10)
    assert len(task.validated) == 5
    torch.testing.assert_close(network.state_dict()["0.weight"], task.validated[0])
    assert not torch.equal(task.validated[0], task.validated[-1])


def test_a_training_run_without_steps_is_refused(digits, architecture):
    with pytest.raises(ValueError, match="`num_steps` must be 1 or more, but received 0"):
        train_directly(digits, architecture, num_steps=0)


# The section


def test_the_first_architectures_of_both_held_out_regions_are_trained(report):
    drawn = [
        f"{region}/{'-'.join(map(str, report['regions'][region]['architectures'][0]['hidden_sizes']))}"
        for region in ("held_out_combinations", "held_out_widths")
    ]
    assert list(report["direct"]) == drawn
    for part in report["direct"].values():
        assert part["num_trained_networks"] == FEW["num_direct_networks"] == part["direct"]["num_networks"]
        assert part["training_seconds_per_network"] > 0
        # the pipeline generates none of them
        assert part["num_networks"] == 0


def test_trained_networks_are_scored_on_the_same_test_data_as_generated_ones(report, digits):
    """The scores of the report are those of the same training runs, made again."""
    settings = report["settings"]
    for part in report["direct"].values():
        networks = train_directly(
            digits,
            digits.regions.architecture(part["hidden_sizes"]),
            seeds=[settings["seed"] + number for number in range(settings["num_direct_networks"])],
            num_steps=settings["direct_steps"],
            batch_size=settings["direct_batch_size"],
            learning_rate=settings["direct_learning_rate"],
        )
        scores = [result.score for result in evaluate(networks, digits, split="test")]
        assert part["direct"]["mean"] == pytest.approx(sum(scores) / 2)
        assert part["direct"]["num_episodes"] == 2 * 360
        assert 0.5 < part["direct"]["mean"] <= 1


def test_where_networks_are_screened_trained_ones_run_in_the_same_validation_episodes(pipe, in_episodes):
    task = in_episodes()
    config = EvaluationConfig(**{**FEW, "direct_steps": 20, "num_episodes": 40, "num_final_episodes": 50})
    evaluator = Evaluator(pipe, task, config.for_task(task), lambda count: None)
    architecture = task.regions.architecture([24, 20])
    part = score_direct(evaluator, "held_out_combinations", architecture)
    networks = train_directly(task, architecture, seeds=(1234, 1235), num_steps=20, num_episodes=40)
    screened = evaluate(networks, task, 40, config.seed, split="validation")
    assert part["direct"]["mean"] == pytest.approx(sum(result.score for result in screened) / 2)
    assert part["direct"]["num_episodes"] == 80 and "success_at_end" not in part["direct"]


def test_an_interrupted_section_keeps_the_architectures_that_are_done(tmp_path):
    """A task of a user, whose episodes are interrupted in the second of three architectures."""

    class InterruptedTask(TinyDataTask):
        name, calls_left = "interrupted", 3 * (5 + 1)

        def score(self, *args, **kwargs):
            if self.calls_left == 0:
                raise KeyboardInterrupt
            self.calls_left -= 1
            return super().score(*args, **kwargs)

    config = EvaluationConfig(
        sections=("direct",), num_architectures=3, num_direct_networks=1, num_direct_architectures=3, direct_steps=5
    )
    pipe, task = tiny_pipeline(ghn=True), InterruptedTask()
    with pytest.raises(KeyboardInterrupt):
        evaluate_pipeline(pipe, task, tmp_path / "evaluation.json", config)
    task.calls_left = 1000
    announced = []
    report = evaluate_pipeline(
        pipe, task, tmp_path / "evaluation.json", config, on_part=lambda *part: announced.append(part)
    )
    # the networks of three architectures had been trained and scored
    assert len(report["direct"]) == len(announced) + 3 > 3
