"""`MLP.from_checkpoint` reads what other programs trained, and what this package exports, bit for bit."""

import json
import warnings

import numpy as np
import pytest
import torch
from ppo_agents import CleanRLAgent, ManiSkillAgent
from safetensors.torch import save_file
from teacher_files import OBSERVATIONS, expected, network_of, prefixed, sequential, stable_baselines_zip
from torch import nn

from nnit_diffusers import EXPORT_FORMATS, MLP, MLPArchitecture, export_network
from nnit_diffusers.architecture import ACTIVATIONS


FORMATS = ("safetensors", "torch-export", "onnx", "maniskill-ppo", "cleanrl", "lerobot")
BOUNDED_FORMATS = ("safetensors", "torch-export", "onnx", "lerobot")


def exported(network, folder, format):
    options = {"adapted_agent": True} if "adapted_agent" in EXPORT_FORMATS[format].options else {}
    return export_network(network, folder / f"network{EXPORT_FORMATS[format].suffix}", format, **options)


def assert_equal(found, network):
    assert found.architecture == network.architecture
    for key, tensor in network.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key


# What this package writes


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_network_is_read_back_bit_for_bit(tmp_path, format, activation):
    network = network_of(activation)
    path = exported(network, tmp_path, format)
    # a PPO script of other sizes may have any activation, and its checkpoint does not record it
    is_named = format in ("maniskill-ppo", "cleanrl")
    found = MLP.from_checkpoint(str(path), activation=activation if is_named else None)
    assert_equal(found, network)
    assert not found.training and all(tensor.requires_grad for tensor in found.parameters())


@pytest.mark.parametrize("format", BOUNDED_FORMATS)
def test_a_bounded_output_is_read_back(tmp_path, format):
    network = MLP(5, (9, 7), 3, "elu", "tanh")
    found = MLP.from_checkpoint(exported(network, tmp_path, format))
    assert_equal(found, network)
    np.testing.assert_allclose(expected(found), expected(network), atol=1e-6)


@pytest.mark.parametrize("format", ["maniskill-ppo", "cleanrl"])
def test_a_bounded_network_needs_a_changed_ppo_agent(tmp_path, format):
    with pytest.raises(ValueError, match=r"received a tanh network of \[9\] with tanh outputs"):
        export_network(MLP(5, (9,), 3, "tanh", "tanh"), tmp_path / "network.pt", format)


@pytest.mark.parametrize("output_activation", [None, "tanh"])
def test_a_saved_network_is_read_from_its_folder_and_its_file(tmp_path, output_activation):
    network = MLP(5, (9, 7), 3, "gelu", output_activation)
    network.save_pretrained(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert_equal(MLP.from_checkpoint(path), network)


def test_a_policy_of_lerobot_that_is_no_mlp_is_refused(tmp_path):
    path = exported(network_of(), tmp_path, "lerobot")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"type": "act"}))
    with pytest.raises(ValueError, match="LeRobot's policy 'nnit_mlp', but is of type 'act'"):
        MLP.from_checkpoint(path)


# What others write


@pytest.mark.parametrize("agent_class", [CleanRLAgent, ManiSkillAgent])
def test_the_agent_of_a_ppo_script_is_known_to_have_tanh(tmp_path, agent_class):
    agent, path = agent_class(5, 3), tmp_path / "checkpoint.pt"
    torch.save(agent.state_dict(), path)
    network = MLP.from_checkpoint(path)
    assert network.architecture == MLPArchitecture(5, agent_class.widths, 3, "tanh")
    assert np.array_equal(expected(network), expected(agent.actor_mean))


def test_the_activation_of_a_state_dict_is_named_and_never_guessed(tmp_path):
    network = network_of("leaky_relu")
    torch.save(network.state_dict(), tmp_path / "network.pt")
    with pytest.raises(ValueError, match="`activation` must be given for .*network.pt', which does not record it"):
        MLP.from_checkpoint(tmp_path / "network.pt")
    assert_equal(MLP.from_checkpoint(tmp_path / "network.pt", activation="leaky_relu"), network)


@pytest.mark.parametrize("format", ["safetensors", "torch-export", "onnx", "lerobot"])
def test_another_activation_than_the_file_records_is_refused(tmp_path, format):
    path = exported(network_of("relu"), tmp_path, format)
    with pytest.raises(ValueError, match="is recorded as 'relu', but received 'tanh'"):
        MLP.from_checkpoint(path, activation="tanh")
    with pytest.raises(ValueError, match="`activation` of .* must be one of .*, but is 'sine'"):
        MLP.from_checkpoint(path, activation="sine")


def squashed_zip(path, high):
    body = sequential(nn.ReLU, 5, 8)
    state_dict = prefixed(**{"actor.latent_pi": body, "actor.mu": nn.Linear(8, 3), "actor.log_std": nn.Linear(8, 3)})
    space = {"low": f"[-1. -1. -{high}]", "high": f"[1. 1. {high}]"}
    stable_baselines_zip(path, state_dict, {"policy_kwargs": {}, "action_space": space})
    return state_dict


def test_a_squashed_policy_is_an_mlp_if_its_actions_are_within_1(tmp_path):
    state_dict = squashed_zip(tmp_path / "sac.zip", 1.0)
    network = MLP.from_checkpoint(tmp_path / "sac.zip")
    assert network.architecture == MLPArchitecture(5, (8,), 3, "relu", "tanh")
    assert torch.equal(network[2].weight, state_dict["actor.mu.weight"])
    squashed_zip(tmp_path / "sac.zip", 2.0)
    with pytest.raises(ValueError, match=r"scales its outputs after tanh, to \[-1.0, -1.0, -2.0\]"):
        MLP.from_checkpoint(tmp_path / "sac.zip")


def test_a_file_without_a_hidden_layer_or_of_another_kind_is_refused(tmp_path):
    save_file(nn.Sequential(nn.Linear(5, 3)).state_dict(), tmp_path / "network.safetensors")
    with pytest.raises(ValueError, match="must have a hidden layer to be an MLP"):
        MLP.from_checkpoint(tmp_path / "network.safetensors", activation="relu")
    (tmp_path / "network.h5").touch()
    with pytest.raises(ValueError, match=r"network.h5' must be the file of a network, which ends in one of \('"):
        MLP.from_checkpoint(tmp_path / "network.h5")
    with pytest.raises(FileNotFoundError, match="no file named missing.onnx"):
        MLP.from_checkpoint(tmp_path / "missing.onnx")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    # an export refuses them as well, so the file is that of another program
    weights = {**network_of().state_dict()}
    weights["2.bias"] = weights["2.bias"].clone()
    weights["2.bias"][1] = float("nan")
    torch.save(weights, tmp_path / "policy.pt")
    with pytest.raises(ValueError, match="finite weights, but linear layer 1 has NaN"):
        MLP.from_checkpoint(tmp_path / "policy.pt", activation="relu")


def test_a_program_of_torchscript_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network_of(), torch.zeros(1, 5), check_trace=False).save(tmp_path / "policy.pt")
    with pytest.raises(ValueError, match="is a program of TorchScript, which can run code and is never loaded"):
        MLP.from_checkpoint(tmp_path / "policy.pt")


# Normalisers


MEAN, STD = [1.0, -2.0, 0.0, 30.0, 0.5], [2.0, 0.5, 1.0, 10.0, 0.1]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_given_statistics_are_folded_into_the_first_layer(tmp_path, kind):
    network = network_of()
    path = exported(network, tmp_path, "onnx")
    folded = MLP.from_checkpoint(path, observation_mean=kind(MEAN), observation_std=kind(STD))
    normalised = (OBSERVATIONS - MEAN) / STD
    np.testing.assert_allclose(expected(folded), expected(network, normalised), atol=1e-5)
    assert torch.equal(folded[2].weight, network[2].weight)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (MEAN, None, "must be given together"),
        (MEAN[:4], STD, "must have 5 numbers each, but the mean has 4"),
        (MEAN, STD + STD, "must have 5 numbers each, but the std has 10"),
        (MEAN, [*STD[:4], 0.0], "positive and finite std, but received 0.0 at index 4"),
        ([*MEAN[:4], float("nan")], STD, "finite mean, but received nan at index 4"),
        ("mean", STD, "must be numbers, but received 'mean'"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(tmp_path, mean, std, message):
    path = exported(network_of(), tmp_path, "safetensors")
    with pytest.raises(ValueError, match=message):
        MLP.from_checkpoint(path, observation_mean=mean, observation_std=std)


def test_a_file_with_a_normaliser_of_its_own_takes_no_other(tmp_path):
    state_dict = {"std": torch.ones(3), **prefixed(actor=sequential(nn.ELU, 5, 8, 3)[:-1])}
    statistics = {"_mean": torch.zeros(1, 5), "_std": torch.ones(1, 5)}
    torch.save({"model_state_dict": state_dict, "obs_norm_state_dict": statistics}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="which has a normaliser of its own"):
        MLP.from_checkpoint(tmp_path / "model.pt", observation_mean=MEAN, observation_std=STD)
    statistics["_std"][0, 2] = -1.0
    torch.save({"model_state_dict": state_dict, "obs_norm_state_dict": statistics}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="The normaliser of .* positive and finite std, but received -0.99.* index 2"):
        MLP.from_checkpoint(tmp_path / "model.pt")


def test_statistics_that_are_not_read_can_be_given(tmp_path):
    actor = sequential(nn.ReLU, 5, 8, 3)[:-1]
    checkpoint = {"model": prefixed(actor=actor), "obs_rms": {"mean": torch.tensor(MEAN)}}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="in a form that is not read: `obs_rms`. Give `observation_mean`"):
        MLP.from_checkpoint(tmp_path / "checkpoint.pt", activation="relu")
    statistics = {"observation_mean": MEAN, "observation_std": STD}
    network = MLP.from_checkpoint(tmp_path / "checkpoint.pt", activation="relu", **statistics)
    np.testing.assert_allclose(expected(network), expected(actor, (OBSERVATIONS - MEAN) / STD), atol=1e-5)


def test_statistics_of_vec_normalize_are_given_together_with_leave_to_ignore_its_clip(tmp_path):
    head, body = nn.Linear(8, 3), sequential(nn.Tanh, 5, 8)
    state_dict = prefixed(action_net=head, **{"mlp_extractor.policy_net": body})
    path = stable_baselines_zip(tmp_path / "ppo.zip", state_dict, {"policy_kwargs": {}})
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    statistics = {"observation_mean": MEAN, "observation_std": STD}
    for options, message in (({}, "a pickle, which is never loaded"), (statistics, "`ignore_clip=True` if that")):
        with pytest.raises(ValueError, match=message):
            MLP.from_checkpoint(path, **options)
    network = MLP.from_checkpoint(path, **statistics, ignore_clip=True)
    wanted = expected(nn.Sequential(body, head), (OBSERVATIONS - MEAN) / STD)
    np.testing.assert_allclose(expected(network), wanted, atol=1e-5)
