"""Export of networks to the file formats of other programs, listed in [`EXPORT_FORMATS`].

Every exporter takes an [`MLP`] and returns the bytes of a file, or of each file of a folder; [`export_network`] writes
them. Exports are always float32.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from .architecture import MLPArchitecture, check_no_output_activation
from .networks import ACTIVATION_MODULES, MLP, layer_keys
from .writing import replacing_folder, write_bytes


ONNX_OPSET = 20
"""The first opset with GELU, supported since onnxruntime 1.17 (January 2024)."""
ONNX_IR_VERSION = 9
"""Version of the file format, released with that opset."""
_ONNX_NODES: dict[str, Callable[[Any, str, str], list[Any]]] = {
    "relu": lambda helper, x, y: [helper.make_node("Relu", [x], [y])],
    "tanh": lambda helper, x, y: [helper.make_node("Tanh", [x], [y])],
    "gelu": lambda helper, x, y: [helper.make_node("Gelu", [x], [y])],
    "elu": lambda helper, x, y: [helper.make_node("Elu", [x], [y])],
    "leaky_relu": lambda helper, x, y: [helper.make_node("LeakyRelu", [x], [y])],
    "silu": lambda helper, x, y: [
        helper.make_node("Sigmoid", [x], [f"{y}.sigmoid"]),
        helper.make_node("Mul", [x, f"{y}.sigmoid"], [y]),
    ],
}


@dataclass(frozen=True)
class PPOAgent:
    """The agent of a PPO script, which an exported checkpoint has to fit.

    Parameters:
        script (`str`): Name of the script.
        hidden_sizes (`tuple[int, ...]`): Hidden sizes of its actor and of its critic, both with tanh.
        log_std (`float`): Initial value of its `actor_logstd`.
        critic_gain (`float`): Gain of the orthogonal initialisation of the critic's last layer.
    """

    script: str
    hidden_sizes: tuple[int, ...]
    log_std: float
    critic_gain: float


LEROBOT_PREPROCESSOR = "policy_preprocessor.json"
"""A file that identifies a folder of the format `lerobot`."""
MANISKILL_AGENT = PPOAgent("ManiSkill's examples/baselines/ppo/ppo.py", (256, 256, 256), -0.5, math.sqrt(2))
CLEANRL_AGENT = PPOAgent("CleanRL's ppo_continuous_action.py", (64, 64), 0.0, 1.0)


def to_safetensors(network: MLP) -> bytes:
    """The state dict, with keys `0.weight`, `0.bias`, `2.weight`, …, and the architecture as JSON in the metadata."""
    # A single entry: safetensors writes several in random order, so files of the same network would differ.
    metadata = {"architecture": json.dumps(_architecture(network).to_dict())}
    return save(_float32_state_dict(network), metadata=metadata)


def to_torch_export(network: MLP) -> bytes:
    """A program for `torch.export.load(path).module()`, which needs torch but not this package.

    Inputs are `[N, I]` for any N.
    """
    network = _copy(network)
    example = torch.zeros(2, network.architecture.in_features)
    # Two rows, because torch would treat a dimension of size 1 as constant.
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def to_onnx(network: MLP) -> bytes:
    """An ONNX model, input `observations` `[batch, I]`, output `outputs` `[batch, O]`; needs `nnit-diffusers[onnx]`.

    The model is validated by `onnx.checker`, and its outputs in onnxruntime are compared with those of torch.

    `onnx.helper` builds the few nodes of the graph. `torch.onnx.export` would also need onnxscript, take seconds, warn
    (torch 2.13) and leave paths of this machine in the file.

    Raises:
        `ImportError`: If onnx or onnxruntime is not installed.
        `RuntimeError`: If the outputs of onnxruntime differ from those of torch.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ImportError("The ONNX export needs onnx and onnxruntime: `pip install nnit-diffusers[onnx]`.") from error
    network = _copy(network)
    content = _onnx_model(network, onnx).SerializeToString()

    # compare with torch
    inputs = torch.randn(8, network.architecture.in_features, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["outputs"], {"observations": inputs.numpy()})
    expected = network(inputs).numpy()
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max()))):
        raise RuntimeError(
            f"onnxruntime {onnxruntime.__version__} computes outputs that differ from torch's by up to "
            f"{np.abs(found - expected).max():.2g}; nothing was exported."
        )
    return content


def _onnx_model(network: MLP, onnx: Any) -> Any:
    helper, architecture = onnx.helper, network.architecture
    # a Gemm node per layer, then its activation
    nodes, name = [], "observations"
    keys = layer_keys(architecture.depth + 1)
    for layer, (weight, bias) in enumerate(keys):
        is_last = layer == len(keys) - 1
        activation = architecture.output_activation if is_last else architecture.activation
        output = "outputs" if activation is None else f"hidden_{layer}"
        nodes.append(helper.make_node("Gemm", [name, weight, bias], [output], transB=1))
        if activation is not None:
            name = "outputs" if is_last else f"{output}.{activation}"
            nodes += _ONNX_NODES[activation](helper, output, name)

    # graph with inputs, outputs and weights
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("observations", architecture.in_features), ("outputs", architecture.out_features))
    ]
    weights = [onnx.numpy_helper.from_array(t.numpy(), key) for key, t in _float32_state_dict(network).items()]
    graph = helper.make_graph(nodes, f"mlp-{architecture}", ends[:1], ends[1:], weights)
    model = helper.make_model(
        graph,
        producer_name="nnit-diffusers",
        opset_imports=[helper.make_opsetid("", ONNX_OPSET)],
        ir_version=ONNX_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def to_maniskill_ppo(network: MLP, adapted_agent: bool = False) -> bytes:
    """A checkpoint for `--checkpoint` of ManiSkill's `examples/baselines/ppo/ppo.py`; see [`to_ppo_checkpoint`]."""
    return to_ppo_checkpoint(network, MANISKILL_AGENT, adapted_agent)


def to_cleanrl(network: MLP, adapted_agent: bool = False) -> bytes:
    """A checkpoint for the agent of CleanRL's `ppo_continuous_action.py`; see [`to_ppo_checkpoint`].

    That script has a wrapper that normalises observations (`NormalizeObservation`), and one that clips them to -10…10.
    Remove both, because networks of this package take raw observations.
    """
    return to_ppo_checkpoint(network, CLEANRL_AGENT, adapted_agent)


def to_ppo_checkpoint(network: MLP, agent: PPOAgent, adapted_agent: bool = False) -> bytes:
    """The state dict of a PPO script's `Agent`, written by `torch.save` and readable with `weights_only=True`.

    `actor_mean.{0,2,…}` is the network. A network has no `actor_logstd` and no `critic.{0,2,…}`, so these get the
    script's initial values, from a fixed seed. Acting does not use them. To continue training, the critic first has
    to be trained.

    The agent of a script has fixed hidden sizes and tanh. A network of other sizes or another activation needs an
    `Agent` with the `actor_mean` of [`actor_source`]. A relu network of the right sizes would load into the original
    agent without an error, but compute different actions.

    Parameters:
        network ([`MLP`]): Network from observations to the means of the actions.
        agent ([`PPOAgent`]): The script's agent.
        adapted_agent (`bool`, defaults to `False`):
            Export any network, for a script that will be changed to the `actor_mean` of [`actor_source`].

    Raises:
        `ValueError`: If the network does not have the agent's hidden sizes and tanh, and `adapted_agent` is not set,
            or if it bounds its outputs.
    """
    architecture = _architecture(network)
    check_no_output_activation("network", architecture)
    fits = architecture.hidden_sizes == agent.hidden_sizes and architecture.activation == "tanh"
    if not fits and not adapted_agent:
        raise ValueError(
            f"`network` must be a tanh network of hidden sizes {list(agent.hidden_sizes)}, the agent of "
            f"{agent.script}, but received a {architecture.activation} network of {list(architecture.hidden_sizes)}. "
            f"With `adapted_agent` it is exported for an agent with `self.actor_mean = {actor_source(architecture)}`."
        )

    # critic with the script's initialisation
    critic = MLP(architecture.in_features, agent.hidden_sizes, 1, "tanh").state_dict()
    generator = torch.Generator().manual_seed(0)
    *hidden, last = [weight for weight, _ in layer_keys(len(agent.hidden_sizes) + 1)]
    for key in (*hidden, last):
        nn.init.orthogonal_(critic[key], agent.critic_gain if key == last else math.sqrt(2), generator)
        critic[key.replace("weight", "bias")].zero_()

    # state dict of the agent
    state_dict = {
        "actor_logstd": torch.full((1, architecture.out_features), agent.log_std),
        **{f"critic.{key}": tensor for key, tensor in critic.items()},
        **{f"actor_mean.{key}": tensor for key, tensor in _float32_state_dict(network).items()},
    }
    content = io.BytesIO()
    torch.save(state_dict, content)
    return content.getvalue()


def to_lerobot(network: MLP) -> dict[str, bytes]:
    """The files of a LeRobot policy, for `--policy.path` of its commands.

    LeRobot has no plain MLP policy, so `integrations/lerobot` adds the policy type `nnit_mlp`. It takes the raw state
    and returns one action; its processors only move tensors between devices.
    """
    architecture = _architecture(network)
    # policy
    config = {
        "type": "nnit_mlp",
        "input_features": {"observation.state": {"type": "STATE", "shape": [architecture.in_features]}},
        "output_features": {"action": {"type": "ACTION", "shape": [architecture.out_features]}},
        # A network this small is faster on the CPU; `--policy.device` overrides it.
        "device": "cpu",
        "hidden_sizes": list(architecture.hidden_sizes),
        "activation": architecture.activation,
        **({} if architecture.output_activation is None else {"output_activation": architecture.output_activation}),
    }

    # processors
    to_device = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
    preprocessor = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        to_device,
    ]
    weights = {f"network.{key}": tensor for key, tensor in _float32_state_dict(network).items()}
    return {
        "config.json": _json(config),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
        LEROBOT_PREPROCESSOR: _json({"name": "policy_preprocessor", "steps": preprocessor}),
        "policy_postprocessor.json": _json({"name": "policy_postprocessor", "steps": [to_device]}),
    }


def _json(payload: Any) -> bytes:
    return (json.dumps(payload, indent=2) + "\n").encode()


def actor_source(architecture: MLPArchitecture) -> str:
    """Python code of the architecture, to paste into a script: `nn.Sequential(nn.Linear(…`."""
    activation = f"nn.{ACTIVATION_MODULES[architecture.activation].__name__}()"
    linear = [f"nn.Linear({layer_in}, {layer_out})" for layer_out, layer_in in architecture.layer_shapes]
    return f"nn.Sequential({f', {activation}, '.join(linear)})"


@dataclass(frozen=True)
class ExportFormat:
    """One format of [`EXPORT_FORMATS`].

    Parameters:
        suffix (`str`): Suffix of its files; `""` for a folder.
        encode (`Callable[..., bytes | dict[str, bytes]]`):
            Converts a network to the content of a file, or to a dictionary from file names to contents for a folder.
        summary (`str`): The program that reads the format.
        options (`tuple[str, ...]`): Names of further arguments of `encode`.
    """

    suffix: str
    encode: Callable[..., bytes | dict[str, bytes]]
    summary: str
    options: tuple[str, ...] = ()


EXPORT_FORMATS: Mapping[str, ExportFormat] = {
    "safetensors": ExportFormat(".safetensors", to_safetensors, "state dict of an `nn.Sequential`"),
    "torch-export": ExportFormat(".pt2", to_torch_export, "`torch.export.load`, without this package"),
    "onnx": ExportFormat(".onnx", to_onnx, "onnxruntime and other ONNX runtimes"),
    "maniskill-ppo": ExportFormat(".pt", to_maniskill_ppo, "`--checkpoint` of ManiSkill's ppo.py", ("adapted_agent",)),
    "cleanrl": ExportFormat(
        ".cleanrl_model", to_cleanrl, "the agent of CleanRL's ppo_continuous_action.py", ("adapted_agent",)
    ),
    "lerobot": ExportFormat("", to_lerobot, "`--policy.path` of LeRobot, with nnit_diffusers.integrations.lerobot"),
}


def export_network(network: MLP, path: str | Path, format: str, **options: Any) -> Path:
    """Exports a network for another program, by an atomic write that replaces a file or folder of that name.

    Parameters:
        network ([`MLP`]): The network.
        path (`str` or `Path`): The file, or the folder for `"lerobot"`.
        format (`str`): One of [`EXPORT_FORMATS`].
        options (`Any`): Further arguments of the exporter: `adapted_agent` for `"maniskill-ppo"` and `"cleanrl"`.

    Returns:
        `Path`: The file or folder.

    Raises:
        `ValueError`:
            If `format` or an option is unknown, the network is not an [`MLP`], or the format does not support it.
        `ImportError`: If the format needs a package that is not installed.
    """
    if format not in EXPORT_FORMATS:
        raise ValueError(f"`format` must be one of {tuple(EXPORT_FORMATS)}, but received {format!r}.")
    unknown = sorted(set(options) - set(EXPORT_FORMATS[format].options))
    if unknown:
        allowed = EXPORT_FORMATS[format].options or "none"
        raise ValueError(f"`options` of format {format!r} must be of {allowed}, but received {unknown}.")

    # encode, then write the file or folder
    content = EXPORT_FORMATS[format].encode(network, **options)
    if isinstance(content, bytes):
        write_bytes(path, content)
        return Path(path)
    with replacing_folder(path) as folder:
        for name, of_file in content.items():
            (folder / name).write_bytes(of_file)
    return Path(path)


def _architecture(network: MLP) -> MLPArchitecture:
    architecture = getattr(network, "architecture", None)
    if not isinstance(architecture, MLPArchitecture):
        raise ValueError(
            f"`network` must be an `MLP`, but received a {type(network).__name__} without an architecture."
        )
    return architecture


def _float32_state_dict(network: MLP) -> dict[str, torch.Tensor]:
    return {key: tensor.detach().float().cpu().contiguous() for key, tensor in network.state_dict().items()}


def _copy(network: MLP) -> MLP:
    """A copy of the network for inference: on the CPU, in float32, without gradients."""
    state_dict = {key: tensor.clone() for key, tensor in _float32_state_dict(network).items()}
    return MLP.from_architecture(_architecture(network), state_dict).eval().requires_grad_(False)
