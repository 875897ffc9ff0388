"""The script that trains a teacher: everything but Stable-Baselines3's own training."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import train_teacher as script
from torch import nn

from nnit_diffusers.tasks.simulation.teachers import load_teacher


@pytest.fixture
def policy():
    """Layers as those of Stable-Baselines3's policy for HalfCheetah-v5."""
    first, second = script.HIDDEN
    layers = nn.Sequential(nn.Linear(17, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
    return SimpleNamespace(mlp_extractor=SimpleNamespace(policy_net=layers), action_net=nn.Linear(second, 6))


@pytest.fixture
def statistics():
    """As `RunningMeanStd` has them."""
    random = np.random.default_rng(0)
    return SimpleNamespace(mean=random.normal(size=17), var=random.uniform(0.01, 4, 17))


def test_the_network_is_the_mean_action_of_the_policy_for_raw_observations(policy, statistics):
    observations = np.random.default_rng(1).normal(size=(20, 17))
    normalised = torch.tensor((observations - statistics.mean) / np.sqrt(statistics.var + 0.1)).float()
    with torch.no_grad():
        expected = policy.action_net(policy.mlp_extractor.policy_net(normalised))
        network = script.as_network(policy, statistics, epsilon=0.1)
        torch.testing.assert_close(network(torch.tensor(observations).float()), expected, rtol=1e-4, atol=1e-5)


def test_the_file_is_evaluated_and_recorded_with_its_interval(policy, statistics, tmp_path, monkeypatch, capsys):
    # in place of hours of PPO
    monkeypatch.setattr(script, "train", lambda arguments: (policy, statistics, 1e-8, 1000))
    path = tmp_path / "teacher.onnx"
    script.main(script.Arguments(output_path=str(path), num_episodes=2))
    teacher = load_teacher(path)
    assert (teacher.in_features, teacher.out_features) == (17, 6)
    record = json.loads(path.with_suffix(".json").read_text())
    assert len(record["returns"]) == 2 and record["num_steps"] == 1000
    assert record["mean_return"] == pytest.approx(np.mean(record["returns"]))
    assert record["interval"][0] < record["mean_return"] < record["interval"][1]
    assert record["ppo"]["hidden_sizes"] == script.HIDDEN and "provenance" in record
    assert capsys.readouterr().out.startswith("Mean return ")
