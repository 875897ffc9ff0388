import math

import pytest
import torch
from tiny_tasks import TinyNumbersTask

from nnit_diffusers import GraphHyperNetwork, get_task
from nnit_diffusers.evaluation.novelty import participation_ratio, spread
from nnit_diffusers.network_batch import batched_forward, stack_state_dicts
from nnit_diffusers.tasks.base import output_settings
from nnit_diffusers.training.hypernetwork_losses import fan_in_scaled, network_losses
from nnit_diffusers.training.samples import TaskSamples


NUM_LATENTS = 3


@pytest.fixture(scope="module")
def digits():
    return get_task("digits")


@pytest.fixture(scope="module")
def ghn():
    torch.manual_seed(0)
    sizes = {"node_dim": 8, "num_message_passes": 1, "map_channels": 4, "num_convolutions": 1, "num_templates": 2}
    return GraphHyperNetwork(64, 10, latent_dim=4, **sizes)


def test_the_spread_of_two_networks_is_their_distance_over_the_root_of_two():
    first, second = torch.randn(2, 50)
    distance = (first / first.norm() - second / second.norm()).norm().item()
    assert spread(torch.stack([first, 7 * second])).tolist() == pytest.approx([distance / math.sqrt(2)])


def test_networks_on_a_line_have_no_spread_in_other_directions():
    centre, direction = torch.zeros(50), torch.zeros(50)
    centre[0] = direction[1] = 1
    weights = centre + torch.tensor([-0.2, -0.1, 0.1, 0.2])[:, None] * direction
    smallest, middle, largest = spread(weights).tolist()
    assert largest > 0.3
    # not exactly 0, because normalisation turns the line into an arc
    assert max(smallest, middle) < 0.02
    assert participation_ratio(weights) == pytest.approx(1, abs=0.01)


def test_the_mean_square_of_the_spread_is_one_minus_the_mean_cosine():
    weights = torch.randn(5, 30) + 1
    cosines = torch.cosine_similarity(weights[:, None], weights[None], dim=-1)
    mean_cosine = (cosines.sum() - 5) / 20
    assert spread(weights).square().mean().item() == pytest.approx(1 - mean_cosine.item(), abs=1e-5)


def test_the_participation_ratio_counts_directions_of_equal_variance():
    weights = torch.cat([torch.eye(12), -torch.eye(12)])
    assert participation_ratio(weights) == pytest.approx(12, rel=1e-3)


def test_raising_the_smallest_spread_moves_networks_off_a_line():
    torch.manual_seed(0)
    weights = (torch.ones(50) + torch.linspace(-1, 1, 4)[:, None] * torch.randn(50)).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.01)
    before = spread(weights)[0].item()
    for _ in range(100):
        optimizer.zero_grad()
        torch.relu(0.3 - spread(weights)).mean().backward()
        optimizer.step()
    assert before < 0.1
    assert spread(weights)[0].item() > 0.25


def test_every_network_has_the_same_loss_as_alone(ghn, digits):
    architectures = [
        digits.regions.architecture(sizes) for sizes in ([20], [20], [17, 18]) for _ in range(NUM_LATENTS)
    ]
    latents, inputs = torch.randn(len(architectures), 4), torch.randn(6, 64)
    targets = torch.randint(10, (6,))
    losses, spreads = network_losses(
        ghn, digits, architectures, latents, TaskSamples({None: (inputs, targets)}), NUM_LATENTS
    )
    assert losses.shape == (9,)
    assert spreads.shape == (3, NUM_LATENTS - 1)
    for index, architecture in enumerate(architectures):
        stacked = stack_state_dicts(ghn([architecture], latents[index : index + 1]))
        alone = digits.loss(batched_forward(stacked, inputs, "relu"), targets)
        torch.testing.assert_close(losses[index : index + 1], alone)
    stacked = stack_state_dicts(ghn(architectures[6:], latents[6:]))
    torch.testing.assert_close(spreads[2], spread(fan_in_scaled(stacked)))


def test_the_loss_of_standardised_outputs_is_that_of_the_networks_that_are_generated():
    task = TinyNumbersTask()
    statistics = {
        "observation_mean": task.observation_mean.tolist(),
        "observation_std": task.observation_std.tolist(),
        **output_settings(task),
    }
    torch.manual_seed(0)
    ghn = GraphHyperNetwork(task.in_features, 1, max_width=12, latent_dim=4, **statistics)
    architectures, latents = [task.regions.architecture([6])] * 2, torch.randn(2, 4)
    inputs, targets = task.training_batch(50, torch.Generator().manual_seed(0))
    standardised = (inputs - task.observation_mean) / task.observation_std
    losses, _ = network_losses(ghn, task, architectures, latents, TaskSamples({None: (standardised, targets)}), 2)
    raw = torch.stack([network(inputs) for network in ghn.generate(architectures, latents=latents)])
    torch.testing.assert_close(losses, task.loss(raw, targets), rtol=1e-4, atol=1e-5)
    # targets around 5,000: standardised outputs in their place would cost more
    assert losses.max() < task.loss(torch.zeros_like(raw), targets).min()
