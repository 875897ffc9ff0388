"""The number of denoising steps that a trained pipeline takes by default."""

from types import SimpleNamespace

import pytest
import torch
from tiny_tasks import TinyDataTask

from nnit_diffusers import MLP
from nnit_diffusers.training.few_steps import MANY_STEPS, choose_num_steps


class ScriptedPipeline:
    """Networks of the tiny task that are right for every sample, or for none, by the number of steps.

    Parameters:
        is_good (`Callable[[int], bool]`): Whether networks of this number of steps are right.
    """

    def __init__(self, is_good):
        self.is_good, self.calls, self.default = is_good, [], None

    def set_progress_bar_config(self, **config):
        pass

    def register_to_config(self, default_num_inference_steps):
        self.default = default_num_inference_steps

    def __call__(self, architectures, num_networks, num_inference_steps, generator):
        self.calls.append((num_inference_steps, list(architectures), torch.rand(1, generator=generator).item()))
        networks = [MLP.from_architecture(each) for each in architectures for _ in range(num_networks)]
        sign = 1.0 if self.is_good(num_inference_steps) else -1.0
        for network in networks:
            answer(network, sign)
        return SimpleNamespace(networks=networks)


def answer(network, sign):
    """Logits that depend on the bias of the last layer alone: always the first class, or always the last."""
    for weight, bias in network.weights_and_biases():
        weight.data.zero_()
        bias.data.zero_()
    network.weights_and_biases()[-1][1].data[0] = sign


class OneClassTask(TinyDataTask):
    """The tiny task, in which every sample is of the first class."""

    def load(self, split):
        inputs, labels = super().load(split)
        return inputs, labels * 0


@pytest.mark.parametrize(
    ("first_good", "chosen", "tried"),
    [(1, 1, [20, 1]), (2, 2, [20, 1, 2]), (4, 4, [20, 1, 2, 4]), (8, 20, [20, 1, 2, 4])],
)
def test_the_fewest_steps_that_hold_become_the_default(first_good, chosen, tried):
    pipe = ScriptedPipeline(lambda num_steps: num_steps >= first_good)
    record = choose_num_steps(pipe, OneClassTask())
    assert (record["chosen"], pipe.default) == (chosen, chosen)
    assert [num_steps for num_steps, *_ in pipe.calls] == tried
    assert record["mean_scores"] == {str(n): float(n >= first_good) for n in sorted(tried)}


def test_all_numbers_of_steps_begin_with_the_same_architectures_and_noise():
    pipe = ScriptedPipeline(lambda num_steps: num_steps == MANY_STEPS)
    choose_num_steps(pipe, OneClassTask())
    (_, architectures, noise), *others = pipe.calls
    assert all(other[1:] == (architectures, noise) for other in others)
    regions = OneClassTask().regions
    assert {regions.region_of(architecture.hidden_sizes) for architecture in architectures} == {"seen"}
