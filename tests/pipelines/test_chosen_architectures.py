"""Architectures that the model chooses, all of it or in part, within a budget."""

import pytest
import torch
from test_pipeline_nnit import STEPS, hidden_sizes, seeded
from tiny import MAX_DEPTH, MAX_WIDTH, MIN_WIDTH, tiny_pipeline
from torch import nn

from nnit_diffusers.pipelines.generators import generator_per_network


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_unconditional_architectures_stay_within_the_training_ranges(pipeline):
    output = pipeline(num_networks=40, generator=seeded(), num_inference_steps=STEPS)
    assert len(set(hidden_sizes(output))) > 10
    assert {len(sizes) for sizes in hidden_sizes(output)} == set(range(1, MAX_DEPTH + 1))
    assert all(MIN_WIDTH <= width <= MAX_WIDTH for sizes in hidden_sizes(output) for width in sizes)
    assert [network.architecture for network in output.networks] == output.architectures


def test_architectures_are_chosen_one_by_one_even_if_weights_take_one_step(pipeline):
    one, many = (pipeline(num_networks=20, generator=seeded(), num_inference_steps=steps) for steps in (1, 20))
    assert hidden_sizes(one) == hidden_sizes(many)


def test_the_model_chooses_the_architecture():
    pipe = tiny_pipeline()
    nn.init.zeros_(pipe.transformer.architecture_head.weight)
    nn.init.zeros_(pipe.transformer.architecture_head.bias)
    pipe.transformer.architecture_head.bias.data[9 + 1] = 30.0
    output = pipe(num_networks=3, generator=seeded(), num_inference_steps=STEPS)
    assert hidden_sizes(output) == [(9,) * MAX_DEPTH] * 3


def test_a_low_temperature_gives_the_likeliest_architecture():
    # the same probabilities at every step of the discrete diffusion
    pipeline = tiny_pipeline()
    nn.init.zeros_(pipeline.transformer.architecture_head.weight)
    nn.init.normal_(pipeline.transformer.architecture_head.bias, generator=seeded())
    kwargs = {"num_networks": 8, "generator": seeded(), "num_inference_steps": 1}
    cold = {sizes[0] for sizes in hidden_sizes(pipeline([None], temperature=1e-4, **kwargs))}
    warm = {sizes[0] for sizes in hidden_sizes(pipeline([None], temperature=3.0, **kwargs))}
    assert len(cold) == 1 and len(warm) > 1


@pytest.mark.parametrize("temperature", [1e-30, 1e-300, 5e-324])
def test_the_lowest_temperatures_give_the_likeliest_architecture_within_the_budget(pipeline, temperature):
    kwargs = {"num_networks": 4, "max_parameters": 120, "num_inference_steps": 1}
    low = pipeline(temperature=1e-4, generator=seeded(), **kwargs)
    lowest = pipeline(temperature=temperature, generator=seeded(), **kwargs)
    assert hidden_sizes(lowest) == hidden_sizes(low)
    assert all(architecture.num_parameters <= 120 for architecture in lowest.architectures)


def test_known_widths_and_depth_are_kept_and_the_others_filled_in(pipeline):
    kwargs = {"num_networks": 6, "generator": seeded(), "num_inference_steps": STEPS}
    output = pipeline(arch=[[11, None], [None, None, None], [None, 30], [6]], **kwargs)
    # six networks per request
    rows = [hidden_sizes(output)[start : start + 6] for start in range(0, 24, 6)]
    assert all(sizes[0] == 11 and len(sizes) == 2 for sizes in rows[0])
    assert all(len(sizes) == 3 for sizes in rows[1])
    assert all(sizes[1] == 30 and len(sizes) == 2 for sizes in rows[2])
    assert rows[3] == [(6,)] * 6
    assert all(len(set(sizes)) > 1 for sizes in rows[:3])
    assert all(MIN_WIDTH <= sizes[0] <= MAX_WIDTH for sizes in rows[2])


def test_unconditional_weights_equal_those_of_the_sampled_architecture(pipeline):
    """p(a, w) = p(a) p(w given a), with one generator for the architecture and then the weights."""
    unconditional = pipeline(generator=seeded(), num_inference_steps=STEPS, output_type="latent")
    generators = generator_per_network(seeded(), 1)
    with torch.no_grad():
        chosen = pipeline.sample_architectures(pipeline.prepare_spaces(None), STEPS, generators)
    assert chosen == unconditional.architectures
    noise = pipeline.prepare_latents(pipeline.tokenizer.layout(chosen), generators)
    given = pipeline(chosen[0], latents=noise, num_inference_steps=STEPS, output_type="latent")
    assert torch.equal(given.networks, unconditional.networks)


@pytest.mark.parametrize(
    ("arch", "min_parameters", "max_parameters"),
    [
        (None, None, 90),
        (None, 300, None),
        (None, 200, 203),
        ([11, None], 140, 190),
        ([None, None], None, 90),
        ([[None], [None, 9]], 60, 150),
    ],
)
def test_generated_architectures_meet_the_budget(pipeline, arch, min_parameters, max_parameters):
    output = pipeline(
        arch,
        num_networks=15,
        min_parameters=min_parameters,
        max_parameters=max_parameters,
        generator=seeded(),
        num_inference_steps=STEPS,
    )
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in output.networks]
    assert min(counts) >= (min_parameters or 0)
    assert max(counts) <= (max_parameters or max(counts))
    assert len(set(output.architectures)) > 1
