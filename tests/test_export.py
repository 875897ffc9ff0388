"""Exported networks run in their target program, or in the same code, and compute what torch computes."""

import json
import subprocess
import sys
from io import BytesIO

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ppo_agents import CleanRLAgent, ManiSkillAgent
from safetensors import safe_open
from torch import nn

from nnit_diffusers import EXPORT_FORMATS, MLP, export_network
from nnit_diffusers.architecture import ACTIVATIONS
from nnit_diffusers.export import CLEANRL_AGENT, MANISKILL_AGENT, actor_source, to_ppo_checkpoint


BATCH_SIZES = [1, 2, 7]

activations = pytest.mark.parametrize("activation", ACTIVATIONS)


def network_of(hidden_sizes, activation="relu", in_features=5, out_features=3):
    return MLP(in_features, hidden_sizes, out_features, activation).eval().requires_grad_(False)


@activations
def test_safetensors_loads_strictly_into_plain_layers_and_holds_the_architecture(tmp_path, activation):
    network = network_of([9, 7], activation)
    path = export_network(network, tmp_path / "network.safetensors", "safetensors")
    with safe_open(path, "pt") as file:
        saved = json.loads(file.metadata()["architecture"])
        state_dict = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    act = {
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "elu": nn.ELU,
        "leaky_relu": nn.LeakyReLU,
    }[saved["activation"]]
    plain = nn.Sequential(nn.Linear(5, 9), act(), nn.Linear(9, 7), act(), nn.Linear(7, 3))
    plain.load_state_dict(state_dict, strict=True)
    assert saved == network.architecture.to_dict()
    assert torch.equal(plain(torch.ones(2, 5)), network(torch.ones(2, 5)))


def test_torch_export_runs_any_batch_in_a_process_without_this_package(tmp_path):
    network = network_of([9, 7], "gelu")
    path = export_network(network, tmp_path / "network.pt2", "torch-export")
    inputs = torch.randn(7, 5)
    code = (
        "import json, sys, torch\n"
        "module = torch.export.load(sys.argv[1]).module()\n"
        "inputs = torch.tensor(json.loads(sys.argv[2]))\n"
        "assert not any(name.startswith('nnit_diffusers') for name in sys.modules)\n"
        f"print(json.dumps([module(inputs[:size]).tolist() for size in {BATCH_SIZES}]))"
    )
    command = [sys.executable, "-c", code, str(path), json.dumps(inputs.tolist())]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for size, outputs in zip(BATCH_SIZES, json.loads(printed), strict=True):
        torch.testing.assert_close(torch.tensor(outputs), network(inputs[:size]))


@activations
@pytest.mark.parametrize("hidden_sizes", [[8], [9, 7], [4, 5, 6, 7]])
def test_onnx_runs_any_batch_in_onnxruntime(tmp_path, activation, hidden_sizes):
    network = network_of(hidden_sizes, activation)
    path = export_network(network, tmp_path / "network.onnx", "onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in BATCH_SIZES:
        inputs = torch.randn(size, 5)
        (outputs,) = session.run(["outputs"], {"observations": inputs.numpy()})
        torch.testing.assert_close(torch.from_numpy(outputs), network(inputs))


def test_onnx_keeps_the_names_of_the_weights_and_the_batch_size_dynamic(tmp_path):
    network = network_of([9, 7])
    model = onnx.load(export_network(network, tmp_path / "network.onnx", "onnx"))
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert list(weights) == list(network.state_dict())
    assert all(np.array_equal(weights[key], tensor) for key, tensor in network.state_dict().items())
    (batch, features) = model.graph.input[0].type.tensor_type.shape.dim
    assert (batch.dim_param, features.dim_value) == ("batch", 5)


@pytest.mark.parametrize(
    ("format", "agent_class", "widths"),
    [("maniskill-ppo", ManiSkillAgent, (256, 256, 256)), ("cleanrl", CleanRLAgent, (64, 64))],
)
def test_a_ppo_checkpoint_loads_strictly_into_the_agent_of_its_script_and_acts_the_same(
    tmp_path, format, agent_class, widths
):
    network = network_of(widths, "tanh", 42, 8)
    # As in the scripts: `torch.load` with its defaults, which load only tensors.
    state_dict = torch.load(export_network(network, tmp_path / "checkpoint.pt", format))
    agent = agent_class(42, 8)
    agent.load_state_dict(state_dict, strict=True)
    assert {name: tensor.dtype for name, tensor in state_dict.items()} == dict.fromkeys(state_dict, torch.float32)

    observations = torch.randn(7, 42)
    means = agent.get_action(observations, deterministic=True)
    assert torch.equal(means, network(observations))
    assert agent.actor_logstd.tolist() == [[agent_class.initial_log_std] * 8]
    actions = means + 0.1
    log_probabilities, values = agent.get_action_and_value(observations, actions)
    expected = torch.distributions.Normal(means, torch.tensor(agent_class.initial_log_std).exp()).log_prob(actions)
    torch.testing.assert_close(log_probabilities, expected.sum(1))
    assert values.shape == (7, 1) and values.isfinite().all() and values.std() > 0


@pytest.mark.parametrize(("agent", "gain"), [(MANISKILL_AGENT, 2**0.5), (CLEANRL_AGENT, 1.0)])
def test_the_critic_is_initialised_as_the_script_does_and_the_same_every_time(agent, gain):
    network = network_of(agent.hidden_sizes, "tanh", 42, 8)
    contents = [to_ppo_checkpoint(network, agent) for _ in range(2)]
    state_dict = torch.load(BytesIO(contents[0]), weights_only=True)
    weights = [tensor for key, tensor in state_dict.items() if key.startswith("critic") and key.endswith("weight")]
    gains = [torch.linalg.svdvals(weight) for weight in weights]
    expected = [2**0.5] * (len(weights) - 1) + [gain]
    assert contents[0] == contents[1]
    for of_layer, wanted in zip(gains, expected, strict=True):
        torch.testing.assert_close(of_layer, torch.full_like(of_layer, wanted))
    assert not any(t.any() for key, t in state_dict.items() if key.startswith("critic") and key.endswith("bias"))


@pytest.mark.parametrize("format", ["maniskill-ppo", "cleanrl"])
@pytest.mark.parametrize(("hidden_sizes", "activation"), [([256, 256, 256], "relu"), ([9, 7], "tanh")])
def test_a_network_that_does_not_fit_the_agent_is_refused_without_adapted_agent(
    tmp_path, format, hidden_sizes, activation
):
    network, path = network_of(hidden_sizes, activation), tmp_path / "checkpoint.pt"
    with pytest.raises(ValueError, match=rf"must be a tanh network.*but received a {activation} network") as refusal:
        export_network(network, path, format)
    assert not path.exists()
    export_network(network, path, format, adapted_agent=True)

    agent = {"maniskill-ppo": ManiSkillAgent, "cleanrl": CleanRLAgent}[format](5, 3)
    source = str(refusal.value).partition("self.actor_mean = ")[2]
    agent.actor_mean = eval(source.rstrip("`."), {"nn": nn})
    agent.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert torch.equal(agent.actor_mean(torch.ones(2, 5)), network(torch.ones(2, 5)))


@activations
def test_actor_source_builds_the_network(activation):
    network = network_of([9, 7], activation)
    plain = eval(actor_source(network.architecture), {"nn": nn})
    plain.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(plain(torch.ones(2, 5)), network(torch.ones(2, 5)))


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_half_precision_network_is_exported_in_float32_and_not_changed(tmp_path, format):
    network = network_of([9, 7], "tanh")
    options = dict.fromkeys(EXPORT_FORMATS[format].options, True)
    network.half()
    rounded = network_of([9, 7], "tanh")
    rounded.load_state_dict(network.state_dict())
    export_network(network, tmp_path / "half", format, **options)
    assert network[0].weight.dtype == torch.float16
    assert EXPORT_FORMATS[format].encode(network, **options) == EXPORT_FORMATS[format].encode(rounded, **options)


def test_an_unknown_format_option_or_network_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "network"
    path.write_text("old")
    with pytest.raises(ValueError, match="`format` must be one of .*'onnx'.*but received 'tflite'"):
        export_network(network_of([4]), path, "tflite")
    with pytest.raises(ValueError, match=r"`options` of format 'onnx' must be of none, but received \['quantize'\]"):
        export_network(network_of([4]), path, "onnx", quantize=True)
    with pytest.raises(ValueError, match="`network` must be an `MLP`, but received a Linear without an architecture"):
        export_network(nn.Linear(2, 2), path, "safetensors")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["network"]


def test_without_onnxruntime_the_error_names_the_extra_to_install():
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from nnit_diffusers import MLP; from nnit_diffusers.export import to_onnx\n"
        "try: to_onnx(MLP(2, [3], 1))\n"
        "except ImportError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install nnit-diffusers[onnx]" in printed
