"""Export to ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..contract import CONTRACT_KEY
from ..loading.limits import MAX_ROWS, check_size
from ..networks import MLP, layer_keys
from .common import (
    Bounds,
    action_bounds,
    contract_json,
    float32_state_dict,
    inference_copy,
)


ONNX_OPSET = 13
"""An opset that old runtimes and converters take: onnxruntime has it since 1.6, TensorRT since 8.0.

GELU, an operator of its own since opset 20, is built from older operators, in the pattern that runtimes recognise.
"""
ONNX_IR_VERSION = 8
"""Version of the file format, which onnxruntime 1.15 and older releases load."""


def _nodes(operator: str, **attributes: float) -> Callable[[Any, str, str], list[Any]]:
    return lambda onnx, x, y: [onnx.helper.make_node(operator, [x], [y], **attributes)]


def _silu(onnx: Any, x: str, y: str) -> list[Any]:
    node = onnx.helper.make_node
    return [node("Sigmoid", [x], [f"{y}.sigmoid"]), node("Mul", [x, f"{y}.sigmoid"], [y])]


def _gelu(onnx: Any, x: str, y: str) -> list[Any]:
    """`x · (1 + erf(x / √2)) · 0.5`, in the order of operations that onnxruntime fuses."""
    node = onnx.helper.make_node
    constants = {f"{y}.root": math.sqrt(2.0), f"{y}.one": 1.0, f"{y}.half": 0.5}
    return [
        *(node("Constant", [], [key], value=_scalar(onnx, key, value)) for key, value in constants.items()),
        node("Div", [x, f"{y}.root"], [f"{y}.scaled"]),
        node("Erf", [f"{y}.scaled"], [f"{y}.erf"]),
        node("Add", [f"{y}.erf", f"{y}.one"], [f"{y}.sum"]),
        node("Mul", [x, f"{y}.sum"], [f"{y}.product"]),
        node("Mul", [f"{y}.product", f"{y}.half"], [y]),
    ]


def _scalar(onnx: Any, name: str, value: float) -> Any:
    return onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name)


_NODES: dict[str, Callable[[Any, str, str], list[Any]]] = {
    "relu": _nodes("Relu"),
    "tanh": _nodes("Tanh"),
    "gelu": _gelu,
    "silu": _silu,
    "elu": _nodes("Elu", alpha=1.0),
    "leaky_relu": _nodes("LeakyRelu", alpha=0.01),
}


def to_onnx(network: MLP, batch_size: int | None = None, clip_actions: Any = None) -> bytes:
    """An ONNX model, input `observations` `[batch, I]`, output `outputs` `[batch, O]`; needs `nnit-diffusers[onnx]`.

    The model is validated by `onnx.checker`, and its outputs in onnxruntime are compared with those of torch. A
    contract is in the metadata of the model, under `nnit_contract`.

    `onnx.helper` builds the few nodes of the graph. `torch.onnx.export` would also need onnxscript, take seconds, warn
    (torch 2.13) and leave paths of this machine in the file.

    Parameters:
        network ([`MLP`]): The network.
        batch_size (`int`, *optional*):
            A fixed batch size, for converters that refuse a symbolic one. By default the batch size is free.
        clip_actions (`bool` or `tuple`, *optional*): Bounds of the outputs; see [`action_bounds`].

    Raises:
        `ImportError`: If onnx or onnxruntime is not installed.
        `RuntimeError`: If the outputs of onnxruntime differ from those of torch.
        `ValueError`: If an argument is out of its range.
    """
    if batch_size is not None:
        check_size("batch_size", batch_size, MAX_ROWS)
    bounds, contract = action_bounds(network, clip_actions), contract_json(network)
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ImportError("The ONNX export needs onnx and onnxruntime: `pip install nnit-diffusers[onnx]`.") from error
    network = inference_copy(network)
    model = _onnx_model(network, onnx, batch_size or "batch", bounds)
    if contract is not None:
        model.metadata_props.add(key=CONTRACT_KEY, value=contract)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()

    # compare with torch
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch_size or 8, network.architecture.in_features, generator=generator)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["outputs"], {"observations": inputs.numpy()})
    expected = network(inputs).numpy()
    if bounds is not None:
        expected = expected.clip(*bounds)
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max()))):
        raise RuntimeError(
            f"onnxruntime {onnxruntime.__version__} computes outputs that differ from torch's by up to "
            f"{np.abs(found - expected).max():.2g}; nothing was exported."
        )
    return content


def _onnx_model(network: MLP, onnx: Any, batch_size: int | str, bounds: Bounds | None) -> Any:
    helper, architecture = onnx.helper, network.architecture
    # the steps, each with its output: a Gemm per layer, then its activation, and what is done to the outputs
    steps: list[tuple[str, Callable[[str, str], list[Any]]]] = []
    keys = layer_keys(architecture.depth + 1)
    for layer, (weight, bias) in enumerate(keys):
        steps.append((f"hidden_{layer}", _gemm(onnx, weight, bias)))
        activation = architecture.activation if layer < len(keys) - 1 else architecture.output_activation
        if activation is not None:
            steps.append((f"hidden_{layer}.{activation}", _activation(onnx, activation)))
    weights = [onnx.numpy_helper.from_array(t.numpy(), key) for key, t in float32_state_dict(network).items()]
    if bounds is not None:
        clips, constants = _clip(bounds)
        steps += [(f"clipped_{index}", _with_constants(onnx, *clip)) for index, clip in enumerate(clips)]
        weights += [onnx.numpy_helper.from_array(bound, name) for name, bound in constants.items()]

    # chain them: the last one gives the outputs
    nodes, name = [], "observations"
    for index, (output, make) in enumerate(steps):
        output = "outputs" if index == len(steps) - 1 else output
        nodes += make(name, output)
        name = output

    # graph with inputs, outputs and weights
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch_size, size])
        for name, size in (("observations", architecture.in_features), ("outputs", architecture.out_features))
    ]
    graph = helper.make_graph(nodes, f"mlp-{architecture}", ends[:1], ends[1:], weights)
    return helper.make_model(
        graph,
        producer_name="nnit-diffusers",
        opset_imports=[helper.make_opsetid("", ONNX_OPSET)],
        ir_version=ONNX_IR_VERSION,
    )


def _gemm(onnx: Any, weight: str, bias: str) -> Callable[[str, str], list[Any]]:
    return lambda x, y: [onnx.helper.make_node("Gemm", [x, weight, bias], [y], transB=1)]


def _activation(onnx: Any, activation: str) -> Callable[[str, str], list[Any]]:
    return lambda x, y: _NODES[activation](onnx, x, y)


def _clip(bounds: Bounds) -> tuple[list[tuple[str, ...]], dict[str, np.ndarray]]:
    """Operators with the names of their constants, and the constants.

    `Clip` takes one pair of bounds for all outputs, and is what converters know best. Bounds that differ need `Min`
    and `Max`, and have the shape `[1, O]`, because some converters do not add a dimension.
    """
    low, high = bounds
    if (low == low[0]).all() and (high == high[0]).all():
        return [("Clip", "low", "high")], {"low": np.array(low[0]), "high": np.array(high[0])}
    return [("Min", "high"), ("Max", "low")], {"low": low[None], "high": high[None]}


def _with_constants(onnx: Any, operator: str, *constants: str) -> Callable[[str, str], list[Any]]:
    return lambda x, y: [onnx.helper.make_node(operator, [x, *constants], [y])]
