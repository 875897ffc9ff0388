"""What the pipeline generates: requested architectures, correct denoising steps, networks independent of the batch."""

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.utils import logging as diffusers_logging
from tiny import IN_FEATURES, MAX_DEPTH, MAX_WIDTH, OUT_FEATURES, tiny_pipeline, tiny_tokenizer
from torch import nn

from nnit_diffusers import MLP, MLPArchitecture, NNiTPipeline, split_generator
from nnit_diffusers.pipelines.batching import split_batch


STEPS = 3
MIXED = [[9, 7], [4], [12, 12, 12], [5, 11]]


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def vectors(pipeline, arch, **kwargs):
    kwargs = {"generator": seeded(), "num_inference_steps": STEPS, **kwargs}
    return pipeline(arch, output_type="pt", **kwargs).networks


def hidden_sizes(output):
    return [architecture.hidden_sizes for architecture in output.architectures]


# Networks


def test_networks_of_the_requested_architecture_are_ready_to_use(pipeline):
    output = pipeline(arch=[9, 7], num_networks=3, generator=seeded(), num_inference_steps=STEPS)
    assert output.architectures == [MLPArchitecture(IN_FEATURES, (9, 7), OUT_FEATURES)] * 3
    for network in output.networks:
        assert isinstance(network, MLP) and not network.training
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
        logits = network(torch.randn(6, IN_FEATURES))
        assert logits.shape == (6, OUT_FEATURES) and logits.isfinite().all()
        logits.sum().backward()
    assert not torch.equal(output.networks[0][0].weight, output.networks[1][0].weight)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 12, 64])
def test_networks_may_be_deeper_than_any_in_training(pipeline, depth):
    (network,) = pipeline(arch=[5] * depth, generator=seeded(), num_inference_steps=1).networks
    assert len(network.weights_and_biases()) == depth + 1
    # every layer has weights of its own
    hidden = [weight for weight, _ in network.weights_and_biases()[1:-1]]
    assert all(weight.abs().max() > 0 for weight in hidden)
    assert (hidden[1] - hidden[2]).abs().max() > 0


def test_a_deep_network_of_the_batch_changes_no_other(pipeline):
    requests = [[9, 7], [6, None, None, None, 6, 6, 6], [5] * 9]
    together = pipeline(arch=requests, generator=[seeded(row) for row in range(3)], num_inference_steps=STEPS)
    for row, request in enumerate(requests):
        alone = pipeline(arch=request, generator=seeded(row), num_inference_steps=STEPS)
        assert alone.architectures == [together.architectures[row]]
        ours, theirs = together.networks[row].state_dict(), alone.networks[0].state_dict()
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_networks_of_one_architecture_are_consecutive(pipeline):
    output = pipeline(arch=[[9, 7], [4]], num_networks=2, generator=seeded(), num_inference_steps=STEPS)
    assert hidden_sizes(output) == [(9, 7), (9, 7), (4,), (4,)]
    assert [network.architecture for network in output.networks] == output.architectures


def test_networks_wider_and_deeper_than_in_training_are_generated(pipeline):
    output = pipeline(
        arch=[[3 * MAX_WIDTH], [5] * (MAX_DEPTH + 1), [1]], generator=seeded(), num_inference_steps=STEPS
    )
    for network in output.networks:
        assert network(torch.randn(2, IN_FEATURES)).isfinite().all()


def test_output_types_hold_the_same_weights(pipeline):
    arch = [[9, 7], [4]]
    outputs = {
        output_type: pipeline(arch, generator=seeded(), output_type=output_type, num_inference_steps=STEPS).networks
        for output_type in ("mlp", "state_dict", "pt", "latent")
    }
    decoded = pipeline.tokenizer.decode(outputs["latent"], [pipeline.tokenizer.architecture(sizes) for sizes in arch])
    for row, network in enumerate(outputs["mlp"]):
        flat = torch.cat([tensor.flatten() for tensor in network.state_dict().values()])
        assert torch.equal(flat, outputs["pt"][row, : len(flat)])
        assert not outputs["pt"][row, len(flat) :].any()
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, outputs["state_dict"][row][key])
            assert torch.equal(tensor, decoded[row][key])
    assert outputs["pt"].shape == (2, max(network.architecture.num_parameters for network in outputs["mlp"]))


def test_networks_take_raw_inputs(pipeline):
    """The same noise gives the same weights, except for statistics folded into the first layer."""
    plain = tiny_pipeline()
    plain.tokenizer = tiny_tokenizer(observation_mean=None, observation_std=None)
    inputs = 3 * torch.randn(10, IN_FEATURES) + 1
    mean, std = (torch.tensor(pipeline.tokenizer.config[f"observation_{name}"]) for name in ("mean", "std"))
    raw, standardised = (
        pipe(arch=[9, 7], generator=seeded(), num_inference_steps=STEPS).networks[0] for pipe in (pipeline, plain)
    )
    torch.testing.assert_close(raw(inputs), standardised((inputs - mean) / std), atol=1e-5, rtol=1e-4)


def test_tuple_and_dataclass_outputs_are_equal(pipeline):
    networks, architectures = pipeline(
        arch=[4], generator=seeded(), output_type="pt", return_dict=False, num_inference_steps=STEPS
    )
    assert torch.equal(networks, vectors(pipeline, [4]))
    assert architectures == [MLPArchitecture(IN_FEATURES, (4,), OUT_FEATURES)]


# Denoising steps


def test_one_step_gives_the_clean_patches_that_the_transformer_predicts(pipeline):
    batch = pipeline.tokenizer.layout([pipeline.tokenizer.architecture([9, 7])])
    noise = torch.randn(batch.patches.shape) * batch.element_mask
    with torch.no_grad():
        predicted = pipeline.transformer(
            noise, torch.tensor([1000.0]), batch.architecture_tokens, torch.tensor([0.0]), batch.positions
        ).sample
    latents = pipeline(arch=[9, 7], latents=noise, num_inference_steps=1, output_type="latent").networks
    torch.testing.assert_close(latents, predicted * batch.element_mask, atol=1e-5, rtol=1e-4)


def test_a_step_moves_along_the_line_from_the_noise_to_the_prediction(pipeline):
    seen = []

    def record(pipe, step, timestep, tensors):
        seen.append((float(timestep), tensors["latents"]))
        return tensors

    batch = pipeline.tokenizer.layout([pipeline.tokenizer.architecture([9, 7])])
    noise = torch.randn(batch.patches.shape) * batch.element_mask
    pipeline(arch=[9, 7], latents=noise, num_inference_steps=4, callback_on_step_end=record)
    with torch.no_grad():
        predicted = pipeline.transformer(
            noise, torch.tensor([1000.0]), batch.architecture_tokens, torch.tensor([0.0]), batch.positions
        ).sample
    assert [timestep for timestep, _ in seen] == [1000, 750, 500, 250]
    expected = 0.75 * noise + 0.25 * predicted * batch.element_mask
    torch.testing.assert_close(seen[0][1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own, with NumPy 2
@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
        FlowMatchHeunDiscreteScheduler(),
        FlowMatchLCMScheduler(),
        DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_any_flow_matching_scheduler_ends_at_a_constant_prediction(scheduler):
    pipe = tiny_pipeline()
    pipe.scheduler = scheduler
    nn.init.zeros_(pipe.transformer.proj_out.weight)
    pipe.transformer.proj_out.bias.data = torch.linspace(-1, 1, pipe.transformer.proj_out.out_features)
    latents = pipe(arch=[[9, 7], [4]], generator=seeded(), num_inference_steps=8, output_type="latent").networks
    mask = pipe.tokenizer.layout([pipe.tokenizer.architecture(sizes) for sizes in ([9, 7], [4])]).element_mask
    torch.testing.assert_close(latents, pipe.transformer.proj_out.bias * mask, atol=2e-2, rtol=0)


def test_padding_stays_zero_at_every_step(pipeline):
    mask = pipeline.tokenizer.layout([pipeline.tokenizer.architecture(sizes) for sizes in MIXED]).element_mask
    seen = []

    def record(pipe, step, timestep, tensors):
        seen.append(tensors["latents"])
        return tensors

    pipeline(arch=MIXED, generator=seeded(), num_inference_steps=STEPS, callback_on_step_end=record)
    assert len(seen) == STEPS
    assert all(not latents[~mask].any() and latents[mask].all() for latents in seen)


def test_a_half_precision_transformer_is_sampled_in_float32(pipeline):
    half = tiny_pipeline().to(torch.bfloat16)
    kwargs = {"arch": [9, 7], "generator": seeded(), "num_inference_steps": STEPS}
    latents = half(**kwargs, output_type="latent").networks
    assert latents.dtype == torch.float32
    assert not torch.equal(latents, latents.bfloat16().float())
    full = pipeline(**{**kwargs, "generator": seeded()}, output_type="latent").networks
    torch.testing.assert_close(latents, full, atol=0.3, rtol=0.3)
    network = half(**kwargs).networks[0]
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


# Independence of the batch


@pytest.mark.parametrize("row", range(len(MIXED)))
def test_a_network_does_not_depend_on_the_others_of_the_batch(pipeline, row):
    together = vectors(pipeline, MIXED, generator=[seeded(seed) for seed in range(len(MIXED))])
    alone = vectors(pipeline, MIXED[row], generator=seeded(row))
    torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-4)


def test_a_network_does_not_depend_on_how_many_are_requested(pipeline):
    few, many = (vectors(pipeline, [9, 7], num_networks=number) for number in (2, 7))
    torch.testing.assert_close(many[:2], few, atol=1e-5, rtol=1e-4)


def test_a_chosen_architecture_does_not_depend_on_how_many_are_requested(pipeline):
    few, many = (
        pipeline(num_networks=number, generator=seeded(), num_inference_steps=STEPS).architectures
        for number in (3, 12)
    )
    assert many[:3] == few
    assert len(set(many)) > 3


def test_a_network_of_a_stochastic_scheduler_does_not_depend_on_how_many_are_requested():
    pipe = tiny_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    few, many = (vectors(pipe, [9, 7], num_networks=number) for number in (1, 3))
    torch.testing.assert_close(many[:1], few, atol=1e-5, rtol=1e-4)


def test_one_generator_and_a_list_of_one_are_equivalent(pipeline):
    assert torch.equal(vectors(pipeline, [9, 7]), vectors(pipeline, [9, 7], generator=[seeded()]))
    assert not torch.equal(vectors(pipeline, [9, 7]), vectors(pipeline, [9, 7], generator=seeded(1)))


def test_a_generator_advances_from_call_to_call(pipeline):
    generator = seeded()
    first, second = (vectors(pipeline, [9, 7], generator=generator) for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(
        torch.cat([first, second]), vectors(pipeline, [9, 7], num_networks=2), atol=1e-5, rtol=1e-4
    )


def test_a_request_is_split_over_calls_by_the_generators_of_its_networks(pipeline):
    expected = vectors(pipeline, [9, 7], num_networks=5)
    generators = split_generator(seeded(), 5)
    parts = [
        vectors(pipeline, [9, 7], num_networks=len(own), generator=own) for own in (generators[:2], generators[2:])
    ]
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=1e-4)
    chosen = pipeline(num_networks=5, generator=seeded(), num_inference_steps=STEPS).architectures
    last = pipeline(num_networks=1, generator=split_generator(seeded(), 5)[4:], num_inference_steps=STEPS)
    assert last.architectures == chosen[4:]


def test_a_split_generator_advances_as_by_the_request(pipeline):
    generator, other = seeded(), seeded()
    vectors(pipeline, [4], num_networks=3, generator=generator)
    split_generator(other, 3)
    assert torch.equal(generator.get_state(), other.get_state())
    with pytest.raises(ValueError, match="`num_networks` must be .*received 0"):
        split_generator(generator, 0)


def test_without_a_generator_the_global_seed_is_used(pipeline):
    torch.manual_seed(3)
    first = vectors(pipeline, [4], generator=None)
    second = vectors(pipeline, [4], generator=None)
    torch.manual_seed(3)
    assert torch.equal(vectors(pipeline, [4], generator=None), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("max_patches", [1, 20, 60, 10_000])
def test_a_large_request_in_parts_gives_the_same_networks(pipeline, max_patches):
    batch = pipeline.tokenizer.layout([pipeline.tokenizer.architecture(sizes) for sizes in 2 * MIXED])
    latents = torch.randn(batch.patches.shape) * batch.element_mask
    parts = split_batch(batch, max_patches)
    timestep = torch.tensor(500.0)
    with torch.no_grad():
        in_parts = pipeline.predict_clean_patches(latents, timestep, parts)
        at_once = pipeline.predict_clean_patches(latents, timestep, split_batch(batch, 10_000))
    mask = batch.element_mask
    torch.testing.assert_close(in_parts[mask], at_once[mask], atol=1e-5, rtol=1e-4)


def test_parts_stay_within_their_limit_and_hold_every_network_once(pipeline):
    batch = pipeline.tokenizer.layout([pipeline.tokenizer.architecture(sizes) for sizes in 3 * MIXED])
    parts = split_batch(batch, 60)
    assert len(parts) > 1
    assert sorted(row for rows, _ in parts for row in rows) == list(range(12))
    for rows, conditions in parts:
        num_patches = conditions["patch_positions"].shape[1]
        assert len(rows) == 1 or len(rows) * num_patches <= 60
        assert num_patches == batch.attention_mask[rows].sum(dim=1).max()
    same_size = [conditions["attention_mask"] is None for _, conditions in parts]
    assert any(same_size)


# Callbacks and progress


def test_a_callback_may_replace_the_latents(pipeline):
    def zero_in_last_step(pipe, step, timestep, tensors):
        assert pipe.num_timesteps == STEPS and float(pipe.current_timestep) == float(timestep)
        return {"latents": torch.zeros_like(tensors["latents"])} if step == STEPS - 1 else tensors

    output = pipeline([9, 7], num_inference_steps=STEPS, callback_on_step_end=zero_in_last_step, output_type="latent")
    assert not output.networks.any()


def test_a_callback_may_interrupt(pipeline):
    steps = []

    def stop(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = step == 1
        return tensors

    pipeline([4], num_inference_steps=5, callback_on_step_end=stop)
    assert steps == [0, 1]


def test_progress_counts_the_denoising_steps(capsys):
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=False)
    pipe([4], num_inference_steps=7)
    assert "7/7" in capsys.readouterr().err


# Errors


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"arch": []}, "`arch` must name at least one hidden layer, but received none"),
        ({"arch": [0]}, "`arch` must hold integers of 1 or more, but received 0"),
        ({"arch": [9, -7]}, "`arch` must hold integers of 1 or more, but received -7"),
        ({"arch": [True]}, r"`arch` must hold integers of 1 or more, but received True \(bool\)"),
        ({"arch": [9.0]}, r"`arch` must hold integers of 1 or more, but received 9.0 \(float\)"),
        ({"arch": [16 * MAX_WIDTH + 1]}, r"`arch` may have widths of 1 to 192, but received \[193\]"),
        ({"arch": [4] * 65}, "`arch` may have 1 to 64 hidden layers, but received 65"),
        ({"arch": MLPArchitecture(7, (4,), 3)}, r"= \(5, 3, 'relu'\), but received \(7, 3, 'relu'\)"),
        ({"arch": [MLPArchitecture(5, (4,), 3, "tanh")]}, "but received.*'tanh'"),
        ({"num_networks": 0}, "`num_networks` must be an integer of 1 or more, but received 0"),
        ({"num_networks": 2.0}, "`num_networks` must be an integer of 1 or more, but received 2.0"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must be an integer of 1 or more, but received 0"),
        ({"num_inference_steps": True}, "`num_inference_steps` must be an integer of 1 or more, but received True"),
        ({"min_parameters": 1.5}, "`min_parameters` must be an integer of 1 or more, but received 1.5"),
        ({"max_parameters": 0}, "`max_parameters` must be an integer of 1 or more, but received 0"),
        ({"max_parameters": 20}, "received None and 20: `arch=None` can have 39 to 423"),
        ({"min_parameters": 424}, "received 424 and None: `arch=None` can have 39 to 423"),
        ({"min_parameters": 100, "max_parameters": 50}, "received 100 and 50"),
        ({"arch": [9, 7], "max_parameters": 147}, r"`arch=\[9, 7\]` has 148 parameters"),
        ({"arch": [30, None], "max_parameters": 300}, r"`arch=\[30, None\]` can have 319 to"),
        ({"output_type": "np"}, r"`output_type` must be one of \('mlp', .*but received 'np'"),
        ({"temperature": 0.0}, "`temperature` must be positive, but received 0.0"),
        ({"callback_on_step_end_tensor_inputs": ["weights"]}, r"must be of \['latents'\], but received \['weights'\]"),
        ({"arch": [[4], [5]], "generator": [seeded()]}, "`generator` must be one or a list of 2 .* a list of 1"),
        ({"arch": [4], "latents": torch.zeros(1, 2, 3)}, r"of shape \(1, 5, 16\).*received \(1, 2, 3\)"),
    ],
)  # fmt: skip
def test_errors_name_what_was_received_and_what_is_allowed(pipeline, kwargs, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**kwargs)


def test_architectures_smaller_or_much_deeper_than_in_training_cause_a_warning(pipeline, caplog):
    narrowest = pipeline.config.min_width
    pipeline_logger = diffusers_logging.get_logger("nnit_diffusers.pipelines.requests")
    pipeline_logger.addHandler(caplog.handler)
    try:
        pipeline(arch=[narrowest], num_inference_steps=1)
        pipeline(arch=[narrowest] * (MAX_DEPTH + 1), num_inference_steps=1)
        assert caplog.text == ""
        pipeline(arch=[narrowest - 1], num_inference_steps=1)
        pipeline(arch=[narrowest] * (MAX_DEPTH + 2), num_inference_steps=1)
        # a pipeline for at least two hidden layers
        deep = NNiTPipeline(**{**pipeline.components, "min_width": narrowest, "min_depth": 2})
        deep(arch=[narrowest], num_inference_steps=1)
    finally:
        pipeline_logger.removeHandler(caplog.handler)
    assert f"`arch` has a layer of {narrowest - 1} units" in caplog.text
    assert "`arch` has 1 hidden layer(s), but the fewest that the model was trained on are 2" in caplog.text
    assert f"`arch` has {MAX_DEPTH + 2} hidden layers, but the most that the model was trained on are" in caplog.text
    assert all(network.architecture.depth > 1 for network in deep(num_networks=20, num_inference_steps=1).networks)
