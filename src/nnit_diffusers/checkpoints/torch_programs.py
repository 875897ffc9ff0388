"""Programs of `torch.export`: loaded only if they can run nothing but operators of torch, and read as networks.

Shape legend: N observations, I/O input and output features.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..loading.limits import shown
from .archives import damaged, opened_zip, read_file
from .chains import NUMPY_ACTIVATIONS, ChainReader, Elementwise, Signal, Value, erf, sigmoid
from .saved import SavedNetwork


_RAW_ENTRY = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/(weight|tensor)_\d+|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/model_(weights|constants)_config\.json|archive_(format|version)|byteorder"
    r"|\.data/(version|serialization_id)|extra/nnit_contract)"
)
_SAFE_TEXT = {
    "name": re.compile(r"[\w.]*"),
    "target": re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.\w+"),
    "expr_str": re.compile(
        r"(Symbol\('[su]\d+'(, (positive|integer)=True)*\)|Integer\(-?\d+\)|(Add|Mul)\(|[\d\s,()*+-])*"
    ),
}


def read_program(path: Path) -> bytes:
    """Content of a file of `torch.export`, if it holds nothing that could run other code.

    `torch.export.load` unpickles objects, evaluates expressions and loads compiled libraries, so the file is checked
    first: tensors, operators of torch, and sizes only.

    Raises:
        `OSError`, `ValueError`: If the file is missing, damaged, or holds more.
    """
    with opened_zip(path) as archive:
        entries = archive.namelist()
        foreign = [name for name in entries if not _RAW_ENTRY.fullmatch(name)]
        texts = {name: archive.read(name) for name in entries if name.endswith(".json")}
        samples = [archive.read(name) for name in entries if name.endswith("/sample_inputs/model.pt")]
    if foreign or len(entries) != len(set(entries)):
        raise _not_only_tensors(path, f"an entry {(foreign or entries)[0][:100]!r}")
    # sample inputs fall back to a pickle if they are no tensors, so they are tried here
    for content in samples:
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:
            raise _not_only_tensors(path, "sample inputs of other types") from error
    for text in texts.values():
        try:
            found = list(_leaves(json.loads(text)))
        except (ValueError, RecursionError) as error:
            raise damaged(path, error) from error
        for key, value in found:
            pattern = _SAFE_TEXT.get(key)
            if (key == "use_pickle" and value) or (
                pattern and isinstance(value, str) and not pattern.fullmatch(value)
            ):
                raise _not_only_tensors(path, f"`{key}` {shown(value)}")
    return read_file(path)


def load_program(name: str, content: bytes) -> Any:
    """The `torch.export.ExportedProgram` in the content of a file that [`read_program`] checked.

    Raises:
        `OSError`: If it is damaged.
    """
    # torch logs the traceback of an error as well as raising it
    logger = logging.getLogger("torch.export")
    logger.disabled = True
    try:
        return torch.export.load(io.BytesIO(content))
    except Exception as error:  # whatever its parser raises
        raise damaged(name, error) from error
    finally:
        logger.disabled = False


def read_exported(path: Path, activation: str | None = None, ignore_clip: bool = False) -> SavedNetwork:
    """The network in a program of linear layers and activations; its first output are the network's outputs.

    Parameters:
        path (`Path`): The file.
        activation (`str`, *optional*): Activation that a user names.
        ignore_clip (`bool`, defaults to `False`): Leave out clips of observations and outputs.

    Raises:
        `OSError`: If the file is missing, truncated or altered.
        `ValueError`: If it holds anything else.
    """
    program = load_program(str(path), read_program(path))
    return _ProgramReader(str(path), program, ignore_clip).read(activation)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in JSON that is no list or object, with the key it has."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, key)
    else:
        yield key, value


def _not_only_tensors(path: Path, found: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} must hold tensors and operators of torch only, because other content can run code, but holds "
        f"{found}. Export the policy to ONNX."
    )


class _ProgramReader(ChainReader):
    """Reads one program.

    Parameters:
        name (`str`): Path of the file.
        program (`torch.export.ExportedProgram`): The program.
        ignore_clip (`bool`): Leave out clips of observations and outputs.
    """

    def __init__(self, name: str, program: Any, ignore_clip: bool):
        super().__init__(name, ignore_clip)
        self.program = program
        self.values: dict[str, Value] = {}

    def read(self, activation: str | None) -> SavedNetwork:
        """The network of the program."""
        signature = self.program.graph_signature
        constants = {**self.program.constants, **self.program.state_dict}
        targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        output: Any = None
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in targets:
                self.values[node.name] = constants[targets[node.name]].detach().float().numpy()
            elif node.op == "placeholder":
                self.values[node.name] = self._observations(node)
            elif node.op == "output":
                output = node.args[0][0]
            else:
                self.values[node.name] = self._result(node)
        return self.finish(self._value(output), activation)

    def _observations(self, node: Any) -> Signal:
        value = node.meta.get("val")
        is_only = not any(isinstance(each, Signal) for each in self.values.values())
        if (
            not is_only
            or not isinstance(value, torch.Tensor)
            or value.ndim != 2
            or not isinstance(value.shape[1], int)
        ):
            raise self.refusal("must have one input of numbers [N, I]")
        return Signal(value.shape[1])

    def _value(self, argument: Any) -> Value:
        """The value of a node's argument: of another node, or a number."""
        if isinstance(argument, torch.fx.Node) and argument.name in self.values:
            return self.values[argument.name]
        if isinstance(argument, int | float):
            return np.asarray(float(argument))
        raise self.refusal(f"uses {shown(argument)} as a value")

    def _result(self, node: Any) -> Value:
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        arguments = list(node.args)
        options = {key: value for key, value in node.kwargs.items() if value not in (None, "none", False)}
        if name in ("contiguous", "clone", "detach", "dropout", "alias", "lift_fresh_copy") and arguments:
            if name == "dropout" and arguments[2:] != [False]:
                raise self.refusal("has a dropout that is on")
            return self._value(arguments[0])
        if options:
            raise self.refusal(f"has the operator {name} with {shown(options)}")
        if name in ("t", "numpy_T") or (name == "permute" and list(arguments[1]) == [1, 0]):
            matrix = self._value(arguments[0])
            if not isinstance(matrix, Signal) and matrix.ndim == 2:
                return matrix.T
        if name in ("add", "sub", "mul", "div") and len(arguments) == 2:
            return self.arithmetic(name.capitalize(), *map(self._value, arguments))
        if name == "linear":
            values = [self._value(each) for each in arguments]
            return self.linear(values[0], values[1], values[2] if len(values) > 2 else None)
        if name == "addmm" and len(arguments) == 3:
            bias, signal, matrix = map(self._value, arguments)
            return self.linear(signal, _transposed(matrix), bias)
        if name in ("mm", "matmul") and len(arguments) == 2:
            signal, matrix = map(self._value, arguments)
            return self.linear(signal, _transposed(matrix), None)
        if name in ("clamp", "hardtanh"):
            return self._clip(name, arguments)
        function = _elementwise(name, arguments[1:])
        if function is None:
            raise self.refusal(f"has the operator {name}")
        return self.apply(self._value(arguments[0]), name, function)

    def _clip(self, name: str, arguments: list[Any]) -> Value:
        bounds = [*arguments[1:], None, None][:2]
        default = (-1.0, 1.0) if name == "hardtanh" else (-math.inf, math.inf)
        low, high = (value if given is None else given for given, value in zip(bounds, default))
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            raise self.refusal("clips values to bounds that are no numbers")
        return self.clip(self._value(arguments[0]), float(low), float(high))


def _transposed(matrix: Value) -> Value:
    return matrix if isinstance(matrix, Signal) else matrix.T


def _elementwise(name: str, options: list[Any]) -> Elementwise | None:
    """The function of an operator with one input; `None` for any other."""
    if options and not (name in ("elu", "leaky_relu") and len(options) == 1 and isinstance(options[0], int | float)):
        return None
    functions: dict[str, Callable[..., np.ndarray]] = {
        **NUMPY_ACTIVATIONS,
        "sigmoid": sigmoid,
        "erf": erf,
        "sqrt": np.sqrt,
    }
    function = functions.get(name)
    return None if function is None else lambda x: function(x, *options)
