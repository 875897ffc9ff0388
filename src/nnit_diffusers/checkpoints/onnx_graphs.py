"""The network in an ONNX model, read from its graph. The model is not run.

Shape legend: N observations, I/O input and output features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..loading.local import check_name
from .archives import damaged, read_file
from .chains import NUMPY_ACTIVATIONS, ChainReader, Signal, Value, elu, erf, leaky_relu, sigmoid
from .saved import SavedNetwork


_MOST_NODES = 10_000
_IDENTITIES = ("Identity", "Dropout", "Flatten", "Cast")
_FLOATS = (1, 10, 11)  # FLOAT, FLOAT16, DOUBLE of TensorProto


def read_onnx(path: Path, activation: str | None = None, ignore_clip: bool = False) -> SavedNetwork:
    """The network in an ONNX file of linear layers and activations; its first output are the network's outputs.

    Linear layers are `Gemm`, or `MatMul` and `Add`. A normaliser before the first one, `Sub` and `Div`, is read as
    statistics. Any other operator is refused by its name.

    Parameters:
        path (`Path`): The file.
        activation (`str`, *optional*): Activation that a user names.
        ignore_clip (`bool`, defaults to `False`): Leave out `Clip` of observations and outputs.

    Raises:
        `OSError`: If the file is missing, truncated or altered.
        `ValueError`: If it holds anything else.
        `ImportError`: If onnx is not installed.
    """
    return _GraphReader(str(path), read_model(path).graph, ignore_clip).read(activation)


def read_model(path: Path) -> Any:
    """The `onnx.ModelProto` in a file, with the weights that torch puts into another file beside it.

    Raises:
        `OSError`: If a file is missing, truncated or altered.
        `ValueError`: If weights are anywhere else than beside the file, or too large.
        `ImportError`: If onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("Reading ONNX needs onnx: `pip install nnit-diffusers[onnx]`.") from error
    content = read_file(path)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # whatever protobuf raises
        raise damaged(path, error) from error
    contents: dict[str, bytes] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        # an untrusted name must not point outside the folder
        location = check_name(f"`{tensor.name[:100]}` of {str(path)!r}", entries.get("location"), "files")
        if location not in contents:
            contents[location] = read_file(path.with_name(location))
        try:
            start, length = int(entries.get("offset", 0)), int(entries["length"])
        except (KeyError, ValueError) as error:
            raise damaged(path, error) from error
        if start < 0 or length < 0 or start + length > len(contents[location]):
            raise damaged(path.with_name(location), ValueError(f"`{tensor.name[:100]}` lies beyond its end"))
        tensor.raw_data = contents[location][start : start + length]
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


class _GraphReader(ChainReader):
    """Reads one graph.

    Parameters:
        name (`str`): Path of the file.
        graph (`onnx.GraphProto`): The graph.
        ignore_clip (`bool`): Leave out clips of observations and outputs.
    """

    def __init__(self, name: str, graph: Any, ignore_clip: bool):
        super().__init__(name, ignore_clip)
        self.graph = graph
        self.values: dict[str, Value] = {}

    def read(self, activation: str | None) -> SavedNetwork:
        """The network of the graph."""
        graph = self.graph
        if not graph.output:
            raise self.refusal("has no output")
        for tensor in graph.initializer:
            self.values[tensor.name] = self._array(tensor)
        observations = [each for each in graph.input if each.name not in self.values]
        shapes = [list(each.type.tensor_type.shape.dim) for each in observations]
        if len(observations) != 1 or len(shapes[0]) != 2 or shapes[0][1].dim_value < 1:
            found = ", ".join(
                f"`{each.name[:100]}` {[dim.dim_param or dim.dim_value for dim in shape]}"
                for each, shape in zip(observations, shapes)
            )
            raise self.refusal(f"must have one input of numbers [N, I], but has {found or 'none'}")
        self.values[observations[0].name] = Signal(shapes[0][1].dim_value)
        for node in self._needed(graph.output[0].name):
            self.values[node.output[0]] = self._result(node)
        return self.finish(self._value(graph.output[0].name), activation)

    def _needed(self, output: str) -> Iterable[Any]:
        """Nodes that the output depends on, in their order, which is that of their computation."""
        wanted, needed = {output}, []
        for node in reversed(self.graph.node):
            if wanted & set(node.output):
                needed.append(node)
                wanted |= set(node.input)
        if len(needed) > _MOST_NODES:
            raise self.refusal(f"has {len(needed):,} nodes, more than {_MOST_NODES:,}")
        return reversed(needed)

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise self.refusal(f"uses the value `{name[:100]}` before it is computed")
        return self.values[name]

    def _array(self, tensor: Any) -> np.ndarray:
        import onnx

        if tensor.data_location == onnx.TensorProto.EXTERNAL:  # a constant; `read_model` has read the weights
            raise self.refusal(f"stores the constant `{tensor.name[:100]}` in another file")
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # whatever a damaged tensor raises
            raise damaged(self.name, error) from error

    def _result(self, node: Any) -> Value:
        """The first output of a node."""
        inputs = [self._value(name) if name else None for name in node.input]
        attributes = {each.name: each for each in node.attribute}
        is_plain = node.domain in ("", "ai.onnx") and not (inputs and inputs[0] is None)
        if not is_plain or (not inputs and node.op_type != "Constant"):
            raise self.refusal(f"has the operator {node.op_type[:100]}")
        if node.op_type == "Constant":
            return self._constant(attributes)
        first = inputs[0]
        assert first is not None
        function = self._elementwise(node.op_type, attributes)
        if function is not None:
            return self.apply(first, node.op_type, function)
        if node.op_type in _IDENTITIES:
            return self._unchanged(node.op_type, first, attributes)
        if node.op_type == "Clip":
            low, high = self._clip_bounds(inputs, attributes)
            return self.clip(first, low, high)
        if node.op_type == "Transpose" and not isinstance(first, Signal):
            permutation = list(attributes["perm"].ints) if "perm" in attributes else None
            if permutation not in (None, [1, 0]) or first.ndim != 2:
                raise self.refusal("has a Transpose of other dimensions than two")
            return first.T
        second = inputs[1] if len(inputs) > 1 else None
        if second is not None and node.op_type in ("Add", "Sub", "Mul", "Div"):
            return self.arithmetic(node.op_type, first, second)
        if second is not None and node.op_type == "MatMul" and not isinstance(second, Signal) and second.ndim == 2:
            return self.linear(first, second.T, None)
        if second is not None and node.op_type == "Gemm":
            return self._gemm(inputs, attributes)
        raise self.refusal(f"has the operator {node.op_type[:100]}")

    def _gemm(self, inputs: list[Value | None], attributes: dict[str, Any]) -> Value:
        first, weight, bias = (*inputs, None)[:3]
        if isinstance(weight, Signal) or isinstance(bias, Signal) or weight is None or weight.ndim != 2:
            raise self.refusal("multiplies matrices that are no weights")
        if "transA" in attributes and attributes["transA"].i:
            raise self.refusal("transposes observations")
        assert first is not None
        alpha, beta = (attributes[name].f if name in attributes else 1.0 for name in ("alpha", "beta"))
        weight_OI = weight if "transB" in attributes and attributes["transB"].i else weight.T
        weight_OI = weight_OI if alpha == 1 else alpha * weight_OI
        return self.linear(first, weight_OI, bias if bias is None or beta == 1 else beta * bias)

    def _constant(self, attributes: dict[str, Any]) -> np.ndarray:
        if "value" in attributes:
            return self._array(attributes["value"].t)
        if "value_float" in attributes:
            return np.asarray(attributes["value_float"].f)
        if "value_floats" in attributes:
            return np.asarray(attributes["value_floats"].floats)
        raise self.refusal("has a Constant without numbers")

    def _unchanged(self, kind: str, value: Value, attributes: dict[str, Any]) -> Value:
        """The result of an operator that changes nothing here."""
        is_flat = kind != "Flatten" or ("axis" not in attributes or attributes["axis"].i in (1, -1))
        is_float = kind != "Cast" or ("to" in attributes and attributes["to"].i in _FLOATS)
        if not is_flat or not is_float:
            raise self.refusal(f"has the operator {kind} of another kind")
        return value

    def _clip_bounds(self, inputs: list[Value | None], attributes: dict[str, Any]) -> tuple[float, float]:
        """Bounds from inputs, or from attributes before opset 11."""
        bounds = []
        for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
            given = inputs[index] if len(inputs) > index else None
            if isinstance(given, Signal) or (given is not None and given.size != 1):
                raise self.refusal("has a Clip of bounds that are no numbers")
            attribute = attributes[name].f if name in attributes else default
            bounds.append(attribute if given is None else float(given.reshape(())))
        return bounds[0], bounds[1]

    def _elementwise(self, kind: str, attributes: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray] | None:
        """The function of an operator with one input; `None` for any other."""

        def number(name: str, default: float) -> float:
            return attributes[name].f if name in attributes else default

        if kind == "Gelu":
            approximation = attributes["approximate"].s if "approximate" in attributes else b"none"
            if approximation != b"none":
                raise self.refusal("has the operator Gelu with an approximation")
            return NUMPY_ACTIVATIONS["gelu"]
        functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "Relu": NUMPY_ACTIVATIONS["relu"],
            "Tanh": np.tanh,
            "Sigmoid": sigmoid,
            "Erf": erf,
            "Sqrt": np.sqrt,
            "Elu": lambda x: elu(x, number("alpha", 1.0)),
            "LeakyRelu": lambda x: leaky_relu(x, number("alpha", 0.01)),
        }
        return functions.get(kind)
