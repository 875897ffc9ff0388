"""A pipeline of several tasks: networks are requested by the name of a task, and differ by it."""

import pytest
import torch
from tiny import tiny_components, tiny_ghn, tiny_pipeline, tiny_transformer

from nnit_diffusers import NetworkContract, NNiTPipeline
from nnit_diffusers.contract import IOTerm


TASKS = ["reach", "push", "drawer-open"]
SIZES = {"observations": (IOTerm("state", (5,)),), "actions": (IOTerm("joints", (3,)),)}


def pipeline_of(tasks=TASKS):
    components = tiny_components()
    pipeline = NNiTPipeline(
        **{**components, "transformer": tiny_transformer(task_names=tasks), "ghn": tiny_ghn(task_names=tasks)}
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.contracts = {name: NetworkContract(task=name, **SIZES) for name in tasks}
    return pipeline


@pytest.fixture(scope="module")
def pipeline():
    return pipeline_of()


def generate(pipeline, seed=0, **options):
    return pipeline(num_inference_steps=2, generator=torch.Generator().manual_seed(seed), **options)


def weights(network):
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def test_the_same_noise_gives_another_network_for_another_task(pipeline):
    reach, push = (generate(pipeline, arch=[6, 5], task=name).networks[0] for name in TASKS[:2])
    again = generate(pipeline, arch=[6, 5], task="reach").networks[0]
    assert torch.equal(weights(reach), weights(again))
    assert (weights(reach) - weights(push)).abs().max() > 1e-3
    assert (reach.contract.task, push.contract.task) == ("reach", "push")


def test_tasks_pair_with_architectures_and_one_of_either_goes_with_all(pipeline):
    paired = generate(pipeline, task=["push", "reach"], arch=[[6], [5, 4]], num_networks=2)
    assert paired.tasks == ["push", "push", "reach", "reach"]
    assert [network.architecture.hidden_sizes for network in paired.networks] == [(6,), (6,), (5, 4), (5, 4)]
    assert generate(pipeline, task="push", arch=[[6], [5, 4]]).tasks == ["push", "push"]
    # networks of one task share a contract, which may be long
    assert paired.networks[0].contract is paired.networks[1].contract
    several = generate(pipeline, task=TASKS, arch=[6])
    assert several.tasks == TASKS and {network.architecture.hidden_sizes for network in several.networks} == {(6,)}
    # a network does not depend on what else is requested
    alone = generate(pipeline, task="push", arch=[6], num_networks=2).networks
    for network, other in zip(alone, paired.networks):
        torch.testing.assert_close(weights(network), weights(other))


def test_without_a_task_every_network_draws_its_own(pipeline):
    drawn = generate(pipeline, arch=[6], num_networks=40).tasks
    assert set(drawn) == set(TASKS)
    assert drawn == generate(pipeline, arch=[6], num_networks=40).tasks
    assert drawn[:5] == generate(pipeline, arch=[6], num_networks=5).tasks


def test_the_choice_of_an_architecture_depends_on_the_task(pipeline):
    chosen = [
        [architecture.hidden_sizes for architecture in generate(pipeline, task=name, num_networks=20).architectures]
        for name in TASKS[:2]
    ]
    assert chosen[0] != chosen[1]


def test_guidance_moves_away_from_networks_of_any_task(pipeline):
    """One step of Euler ends at the prediction, so scales 0, 1 and 2 lie on a line."""

    def patches(scale):
        options = {"arch": [6, 5], "task": "push", "output_type": "latent", "guidance_scale": scale}
        generator = torch.Generator().manual_seed(0)
        return pipeline(num_inference_steps=1, generator=generator, **options).networks

    of_any, plain, guided = (patches(scale) for scale in (0.0, 1.0, 2.0))
    assert (plain - of_any).abs().max() > 1e-3
    torch.testing.assert_close(guided - plain, plain - of_any)
    # the scale of a call is not that of the next
    assert torch.equal(patches(1.0), plain)


def test_it_is_saved_with_its_tasks_and_loads_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = NNiTPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.task_names == TASKS and loaded.ghn.config.task_names == TASKS
    assert loaded.contracts == pipeline.contracts and loaded.contract is None
    for network, other in zip(
        generate(loaded, arch=[6], task=TASKS).networks, generate(pipeline, arch=[6], task=TASKS).networks
    ):
        assert torch.equal(weights(network), weights(other))
        assert network.contract.task == other.contract.task


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "drawer-opn"}, "one of the 3 tasks of the model, but received 'drawer-opn'; nearest: 'drawer-open'"),
        ({"task": 1}, "one of the 3 tasks of the model, but received 1"),
        ({"task": []}, "at least one task"),
        ({"task": ["push", "reach"], "arch": [[6], [5], [4]]}, "one for each of the 3 architectures of `arch`"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": -1}, "guidance_scale"),
    ],
)
def test_a_request_that_does_not_fit_names_what_is_allowed(pipeline, options, message):
    with pytest.raises(ValueError, match=message.replace("[", "\\[")):
        generate(pipeline, **{"arch": [6], **options})


@pytest.mark.parametrize("options", [{"task": "reach"}, {"guidance_scale": 2.0}])
def test_a_pipeline_of_one_task_takes_neither_task_nor_guidance(options):
    with pytest.raises(ValueError, match="for a model of one task, but received"):
        generate(tiny_pipeline(), arch=[6], **options)


def test_components_of_other_tasks_do_not_fit():
    parts = {**tiny_components(), "transformer": tiny_transformer(task_names=TASKS)}
    with pytest.raises(ValueError, match="`ghn` must have the `task_names` of the `transformer`"):
        NNiTPipeline(**{**parts, "ghn": tiny_ghn(task_names=TASKS[::-1])})
    with pytest.raises(ValueError, match="`ghn` must have the `task_names` of the `transformer`"):
        NNiTPipeline(**{**parts, "ghn": tiny_ghn()})
