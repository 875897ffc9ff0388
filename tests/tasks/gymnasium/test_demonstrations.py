"""Demonstrations of an environment whose actions are not -1 to 1: what is refused, and how networks learn them."""

import pytest
import torch
from safetensors.torch import save_file

from nnit_diffusers.tasks.gymnasium import GymnasiumTask


@pytest.fixture
def recorded(tmp_path):
    """60 swings of a pendulum with actions of -2 to 2, in two files."""
    generator = torch.Generator().manual_seed(0)
    for number in range(2):
        observations = torch.randn(30, 3, generator=generator)
        save_file(
            {"observations": observations, "actions": 0.5 + observations[:, :1].clamp(-1, 1)},
            tmp_path / f"demonstrations-{number}.safetensors",
        )
    return GymnasiumTask("Pendulum-v1", teacher_return=-150.0, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("actions", float("nan"), "number 0 of the actions in row 7 is nan"),
        ("observations", float("inf"), "number 0 of the observations in row 7 is inf"),
        ("actions", 3.0, "action in row 7 is 3, and its bounds are -2 and 2"),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_file_and_row(recorded, name, value, message):
    tensors = {"observations": torch.zeros(30, 3), "actions": torch.zeros(30, 1)}
    tensors[name][7, 0] = value
    save_file(tensors, recorded.data_dir / "demonstrations-2.safetensors")
    with pytest.raises(ValueError, match=f"demonstrations-2.safetensors.*{message}"):
        _ = recorded.observation_mean


def test_samples_of_a_round_of_dagger_are_checked_as_well(recorded):
    with pytest.raises(ValueError, match="the samples added to 'pendulum-v1'.*bounds are -2 and 2"):
        recorded.add_demonstrations(torch.zeros(2, 3), torch.full((2, 1), -2.5))
    assert len(recorded.demonstrations[0]) == 60


def test_networks_learn_actions_in_standard_deviations_of_the_recording(recorded):
    actions = recorded.demonstrations[1]
    mean, std = recorded.output_statistics
    torch.testing.assert_close(mean, actions.mean(dim=0))
    torch.testing.assert_close(std, actions.std(dim=0, correction=0))
    standardised = torch.randn(1, 5, 1)
    torch.testing.assert_close(recorded.raw_outputs(standardised), standardised * std + mean)
    # errors count in standard deviations, in whatever unit, and not by their squares where they are large
    sizes = torch.tensor([0.02, 1.0, 2.0, 100.0])
    outputs = torch.stack([actions + size * std for size in sizes])
    torch.testing.assert_close(recorded.loss(outputs, actions), torch.tensor([0.002, 0.95, 1.95, 99.95]))
    # rounds that are added change nothing of this
    recorded.add_demonstrations(torch.zeros(50, 3), torch.full((50, 1), 1.9))
    assert torch.equal(recorded.output_statistics[0], mean)


def test_actions_of_minus_one_to_one_stay_as_they_are(tmp_path):
    task = GymnasiumTask("HalfCheetah-v5", teacher_return=1.0, data_dir=tmp_path)
    assert task.output_statistics is None
    outputs = torch.randn(2, 4, 6)
    assert task.raw_outputs(outputs) is outputs
