"""Exported networks run in their target program, or in the same code, and compute what torch computes."""

import json
import subprocess
import sys
import zipfile
from io import BytesIO

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from c_programs import needs_gcc, run_header, with_contract
from ppo_agents import CleanRLAgent, ManiSkillAgent
from safetensors import safe_open
from torch import nn

from nnit_diffusers import EXPORT_FORMATS, MLP, export_network
from nnit_diffusers.architecture import ACTIVATIONS
from nnit_diffusers.contract import CONTRACT_KEY
from nnit_diffusers.export import CLEANRL_AGENT, MANISKILL_AGENT, actor_source, contract_path, to_ppo_checkpoint


BATCH_SIZES = [1, 2, 7]

# A value for every option of a format.
OPTIONS = {"adapted_agent": True, "batch_size": 3, "clip_actions": (-1, 1), "prefix": "walk", "quantize": "int8"}

activations = pytest.mark.parametrize("activation", ACTIVATIONS)


def network_of(hidden_sizes, activation="relu", in_features=5, out_features=3):
    return MLP(in_features, hidden_sizes, out_features, activation).eval().requires_grad_(False)


def options_of(format):
    if format == "sb3":
        pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: `make peers`")
    return {name: OPTIONS[name] for name in EXPORT_FORMATS[format].options}


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


@activations
def test_onnx_needs_no_newer_runtime_than_its_opset_and_version(tmp_path, activation):
    path = export_network(network_of([9, 7], activation), tmp_path / "network.onnx", "onnx", clip_actions=(-1, 1))
    model = onnx.load(path)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (8, [("", 13)])
    # every operator, in the version that this opset has
    versions = [onnx.defs.get_schema(node.op_type, 13, "").since_version for node in model.graph.node]
    assert max(versions) <= 13


@pytest.mark.parametrize(("low", "operators"), [(-1, ["Clip"]), ((-1, -2, -1), ["Min", "Max"])])
def test_onnx_has_one_operator_for_bounds_that_all_outputs_share(tmp_path, low, operators):
    path = export_network(network_of([9]), tmp_path / "network.onnx", "onnx", clip_actions=(low, 1))
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node] == ["Gemm", "Relu", "Gemm", *operators]
    shapes = {tuple(tensor.dims) for tensor in graph.initializer if tensor.name in ("low", "high")}
    assert shapes == ({()} if operators == ["Clip"] else {(1, 3)})


def test_safetensors_with_a_contract_are_written_in_one_order():
    network, _ = with_contract(network_of([9, 7]))
    assert len({EXPORT_FORMATS["safetensors"].encode(network) for _ in range(16)}) == 1


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_fixed_batch_size_is_in_every_shape_of_the_onnx_model(tmp_path, batch_size):
    network = network_of([9, 7])
    path = export_network(network, tmp_path / "network.onnx", "onnx", batch_size=batch_size)
    graph = onnx.load(path).graph
    shapes = [[dim.dim_value for dim in end.type.tensor_type.shape.dim] for end in (*graph.input, *graph.output)]
    assert shapes == [[batch_size, 5], [batch_size, 3]]
    inputs = torch.randn(batch_size, 5)
    (outputs,) = onnxruntime.InferenceSession(path).run(None, {"observations": inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), network(inputs))
    with pytest.raises(ValueError, match="`batch_size` must be an integer of 1 or more, but received 0"):
        export_network(network, path, "onnx", batch_size=0)


def run_onnx(path, inputs):
    (outputs,) = onnxruntime.InferenceSession(path).run(None, {"observations": inputs.numpy()})
    return torch.from_numpy(outputs)


def run_torch_export(path, inputs):
    return torch.export.load(path).module()(inputs)


def run_c_header(path, inputs):
    return run_header(path.parent, path.read_bytes(), inputs)


@pytest.mark.parametrize(
    ("format", "runs"),
    [
        ("onnx", run_onnx),
        ("torch-export", run_torch_export),
        pytest.param("c", run_c_header, marks=needs_gcc),
    ],
)
def test_actions_are_clipped_to_the_bounds_of_the_contract_or_to_given_ones(tmp_path, format, runs):
    network, _ = with_contract(network_of([9, 7]), -0.05, 0.1)
    inputs = torch.randn(50, 5)
    outputs = network(inputs)
    path = export_network(network, tmp_path / "clipped", format, clip_actions=True)
    torch.testing.assert_close(runs(path, inputs), outputs.clamp(-0.05, 0.1))
    assert (outputs.abs() > 0.1).any() and (outputs.abs() < 0.05).any()

    low, high = [-0.1, -float("inf"), 0], [0.1, 0.2, float("inf")]
    path = export_network(network, tmp_path / "given", format, clip_actions=(low, high))
    torch.testing.assert_close(runs(path, inputs), outputs.clamp(torch.tensor(low), torch.tensor(high)))
    path = export_network(network, tmp_path / "not_clipped", format, clip_actions=False)
    torch.testing.assert_close(runs(path, inputs), outputs)


@pytest.mark.parametrize("format", ["safetensors", "maniskill-ppo", "cleanrl", "rsl-rl", "lerobot"])
def test_formats_that_cannot_clip_refuse_to(tmp_path, format):
    with pytest.raises(ValueError, match=rf"`options` of format '{format}' must be of .* \['clip_actions'\]"):
        export_network(network_of([9]), tmp_path / "out", format, clip_actions=(-1, 1))
    assert not any(tmp_path.iterdir())


def contract_in(format, path):
    """The contract in an exported file or folder, as its program gives it."""
    if format == "safetensors":
        with safe_open(path, "pt") as file:
            return file.metadata()[CONTRACT_KEY]
    if format == "onnx":
        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}[CONTRACT_KEY]
    if format == "torch-export":
        files = {CONTRACT_KEY: ""}
        torch.export.load(path, extra_files=files)
        return files[CONTRACT_KEY]
    if format == "rsl-rl":
        return torch.load(path, weights_only=True)["infos"][CONTRACT_KEY]
    if format == "lerobot":
        return (path / f"{CONTRACT_KEY}.json").read_text()
    if format == "sb3":
        return zipfile.ZipFile(path).read(f"{CONTRACT_KEY}.json")
    return contract_path(path).read_text()


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_the_contract_travels_with_every_format_and_the_one_before_does_not_stay(tmp_path, format):
    options, path = options_of(format), tmp_path / "network"
    network, contract = with_contract(network_of([9, 7], "tanh"))
    export_network(network, path, format, **options)
    assert json.loads(contract_in(format, path)) == contract
    assert contract_path(path).exists() != EXPORT_FORMATS[format].holds_contract
    # nothing of it is left once a network without one replaces it
    export_network(network_of([9, 7], "tanh"), path, format, **options)
    with pytest.raises((KeyError, TypeError, OSError, ValueError)):
        json.loads(contract_in(format, path))


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_the_same_network_gives_the_same_bytes(format):
    network, _ = with_contract(network_of([9, 7], "tanh"))
    encode, options = EXPORT_FORMATS[format].encode, options_of(format)
    assert encode(network, **options) == encode(network, **options)


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_weights_that_are_no_numbers_are_refused(tmp_path, format):
    network, options = network_of([9, 7], "tanh"), options_of(format)
    network[2].weight[1, 2] = float("nan")
    with pytest.raises(ValueError, match="`network` must have finite weights, but '2.weight' holds nan") as refusal:
        export_network(network, tmp_path / "out", format, **options)
    assert "\n" not in str(refusal.value) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "program"),
    [("rsl-rl", "an actor of RSL-RL"), ("sb3", "a PPO policy of Stable-Baselines3")],
)
def test_a_program_without_output_activations_gets_no_network_with_one(tmp_path, format, program):
    network = MLP(5, [9, 7], 3, output_activation="tanh")
    with pytest.raises(ValueError, match=f"must have no output activation, because .*{program}.* with tanh"):
        export_network(network, tmp_path / "out", format)


def test_an_rsl_rl_checkpoint_holds_only_tensors_and_settings_and_adam_accepts_its_state(tmp_path):
    network = network_of([9, 7], "silu")
    checkpoint = torch.load(export_network(network, tmp_path / "model.pt", "rsl-rl"), weights_only=True)
    settings = {"hidden_dims": [9, 7], "activation": "swish", "obs_normalization": False}
    assert checkpoint["infos"] == {"nnit_settings": settings} and checkpoint["iter"] == 0
    actor = {key.removeprefix("mlp."): t for key, t in checkpoint["actor_state_dict"].items() if "mlp." in key}
    assert actor.keys() == network.state_dict().keys()
    assert all(torch.equal(actor[key], tensor) for key, tensor in network.state_dict().items())
    # releases 2 and 3 have one module
    both = checkpoint["model_state_dict"]
    assert both.keys() == {"std", *(f"actor.{key}" for key in actor), *(f"critic.{key}" for key in actor)}
    critic = checkpoint["critic_state_dict"]
    assert critic["mlp.4.weight"].shape == (1, 7) and critic["mlp.4.weight"].abs().max() <= 7**-0.5
    parameters = [nn.Parameter(tensor) for tensor in both.values()]
    torch.optim.Adam(parameters).load_state_dict(checkpoint["optimizer_state_dict"])


def test_sb3_needs_bounds_and_its_package(tmp_path, monkeypatch):
    network = network_of([9, 7])
    for options in ({}, {"clip_actions": False}, {"clip_actions": (-1, float("inf"))}):
        with pytest.raises(ValueError, match="`clip_actions` must be"):
            export_network(network, tmp_path / "out", "sb3", **options)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ImportError, match="pip install stable-baselines3"):
        export_network(network, tmp_path / "out", "sb3", clip_actions=(-1, 1))
    assert not any(tmp_path.iterdir())


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
    network, options = network_of([9, 7], "tanh"), options_of(format)
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
    allowed = r"\('batch_size', 'clip_actions'\)"
    with pytest.raises(ValueError, match=rf"`options` of format 'onnx' must be of {allowed}, .* \['quantize'\]"):
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
