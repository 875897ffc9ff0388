"""Export to C: a network as one header, for microcontrollers and any other program in C or C++."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from string import Template
from typing import Any

import numpy as np
import torch

from ..architecture import MLPArchitecture
from ..loading.limits import shown
from ..networks import ACTIVATION_FUNCTIONS, MLP, layer_keys
from . import c_templates as templates
from .common import Bounds, action_bounds, exported_architecture, float32_state_dict
from .quantization import SMALLEST_SIZE, QuantizedMLP, largest_integer


@dataclass(frozen=True)
class _Activation:
    """An activation in C: an expression of `x`, and whether it needs math.h. It passes NaN on."""

    expression: str
    needs_math: bool = True


C_ACTIVATIONS = {
    "relu": _Activation("x < 0.0f ? 0.0f : x", needs_math=False),
    "tanh": _Activation("tanhf(x)"),
    "gelu": _Activation("0.5f * x * (1.0f + erff(x * 0.707106781f))"),
    "silu": _Activation("x / (1.0f + expf(-x))"),
    "elu": _Activation("x < 0.0f ? expm1f(x) : x"),
    "leaky_relu": _Activation("x < 0.0f ? 0.01f * x : x", needs_math=False),
}
QUANTIZATIONS = ("int8",)

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""`(weight [O, I], bias [O])` of every layer in float32, from input to output."""

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,15}")
_LINE_LENGTH = 110
# Tolerance of the self-test, relative to the largest output: another libm, and fused multiply-adds.
_TOLERANCE = {None: 1e-4, "int8": 1e-3}


@dataclass(frozen=True)
class Footprint:
    """What a network costs on a microcontroller, when it runs as exported C code; see [`footprint`].

    Parameters:
        weight_bytes (`int`): Flash for weights, biases and scales. Code is not counted: it depends on the compiler.
        buffer_bytes (`int`): RAM for the buffers of one call, without observations and outputs.
        multiply_accumulates (`int`): Multiplications of a weight and an input in one call.
    """

    weight_bytes: int
    buffer_bytes: int
    multiply_accumulates: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def footprint(architecture: MLPArchitecture, quantize: str | None = None, clips: bool = False) -> Footprint:
    """Bytes and operations of an architecture in C, which are known before it has weights.

    Parameters:
        architecture ([`MLPArchitecture`]): The architecture.
        quantize (`str`, *optional*): `"int8"` for 8-bit weights.
        clips (`bool`, defaults to `False`): If outputs are clipped, which takes two numbers for each.

    Raises:
        `ValueError`: If `quantize` is unknown.
    """
    _check_quantization(quantize)
    products = sum(out_features * in_features for out_features, in_features in architecture.layer_shapes)
    bounds = 8 * architecture.out_features if clips else 0
    hidden = architecture.hidden_sizes
    if quantize is None:
        # two buffers take turns
        buffers = 4 * (max(hidden[::2]) + max(hidden[1::2], default=0))
        return Footprint(4 * architecture.num_parameters + bounds, buffers, products)
    # 8-bit weights, a scale and a bias for each output, a scale and a centre for each observation
    num_outputs = sum(out_features for out_features, _ in architecture.layer_shapes)
    weights = products + 8 * num_outputs + 8 * architecture.in_features
    return Footprint(weights + bounds, 6 * max(architecture.in_features, *hidden), products)


def to_c(network: MLP, quantize: str | None = None, prefix: str = "nnit", clip_actions: Any = None) -> bytes:
    """A self-contained header for C99 and C++ with `void nnit_forward(const float *observations, float *outputs)`.

    The header declares the functions wherever it is included, and defines them in the one source file that defines
    `NNIT_IMPLEMENTATION` first. Embedded programs know this pattern from single-header libraries. With `static
    inline` functions, every source file that includes the header would hold the weights once more.

    Weights are `static const`, so linkers place them in flash. Nothing is allocated, and only activations that need
    `<math.h>` include it. `nnit_self_test()` compares the outputs for a stored input with the expected ones. The same
    network always gives the same bytes.

    Parameters:
        network ([`MLP`]): The network.
        quantize (`str`, *optional*):
            `"int8"` for 8-bit weights and integer arithmetic; see [`QuantizedMLP`], which computes the same.
        prefix (`str`, defaults to `"nnit"`):
            Prefix of all names; in capitals, of all macros. With two prefixes, two networks fit in one program.
        clip_actions (`bool` or `tuple`, *optional*): Bounds of the outputs; see [`action_bounds`].

    Raises:
        `ValueError`: If an argument is out of its range, or a weight is not finite.
    """
    _check_quantization(quantize)
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "`prefix` must be 1 to 16 lower-case letters, digits and underscores that begin with a letter, but "
            f"received {shown(prefix)}."
        )
    bounds, architecture = action_bounds(network, clip_actions), exported_architecture(network)
    layers = _layers(network)
    quantized = QuantizedMLP(network).eval()
    pieces = [
        _header(architecture, quantize, bounds),
        *(_float_weights(layers) if quantize is None else _int8_weights(quantized)),
        *([] if bounds is None else [_array("float", "low", bounds[0]), _array("float", "high", bounds[1])]),
        *_functions(architecture, quantize, bounds is not None),
        _self_test(layers, quantized, quantize, bounds),
    ]
    return Template("\n".join(pieces)).substitute(p=prefix, P=prefix.upper()).encode()


def _check_quantization(quantize: Any) -> None:
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize` must be one of {QUANTIZATIONS} or None, but received {shown(quantize)}.")


def _activations(architecture: MLPArchitecture) -> list[str]:
    """Activations of the hidden layers and of the outputs, each once."""
    outputs = architecture.output_activation
    return list(dict.fromkeys([architecture.activation, *([] if outputs is None else [outputs])]))


def _header(architecture: MLPArchitecture, quantize: str | None, bounds: Bounds | None) -> str:
    """Comment, macros, declarations, and what the implementation includes."""
    needs_math = any(C_ACTIVATIONS[name].needs_math for name in _activations(architecture))
    headers = ["stddef.h", *(["math.h"] if needs_math else []), *(["float.h", "stdint.h"] if quantize else [])]
    costs = footprint(architecture, quantize, bounds is not None)
    return templates.HEADER.safe_substitute(
        architecture=architecture,
        activation=" and ".join(_activations(architecture)),
        precision="32-bit floats" if quantize is None else "8-bit weights and integer arithmetic",
        libraries=", nothing but <math.h>" if needs_math else " and no library",
        clipping="" if bounds is None else "\n * Outputs are clipped to the bounds of the actions.",
        includes="".join(f"#include <{header}>\n" for header in sorted(headers)),
        num_observations=architecture.in_features,
        num_outputs=architecture.out_features,
        **costs.to_dict(),
    )


def _layers(network: MLP) -> Layers:
    state_dict = float32_state_dict(network)
    return [(state_dict[weight], state_dict[bias]) for weight, bias in layer_keys(len(state_dict) // 2)]


def _float_weights(layers: Layers) -> Iterator[str]:
    for layer, (weight, bias) in enumerate(layers):
        yield _array("float", f"weight_{layer}", weight.numpy())
        yield _array("float", f"bias_{layer}", bias.numpy())


def _int8_weights(quantized: QuantizedMLP) -> Iterator[str]:
    yield _array("float", "center", quantized.get_buffer("center").numpy())
    yield _array("float", "scale", quantized.get_buffer("scale").numpy())
    for layer, (weight, step, bias) in enumerate(quantized.layers()):
        yield _array("int8_t", f"weight_{layer}", weight.numpy())
        yield _array("float", f"step_{layer}", step.numpy())
        yield _array("float", f"bias_{layer}", bias.numpy())


def _functions(architecture: MLPArchitecture, quantize: str | None, clips: bool) -> Iterator[str]:
    """The functions of a layer, and the one that calls them."""
    yield (templates.FLOAT_LINEAR if quantize is None else templates.INT8_LINEAR).safe_substitute(
        smallest=_number(np.float32(SMALLEST_SIZE))
    )
    for name in _activations(architecture):
        yield templates.ACTIVATION.safe_substitute(name=name, expression=C_ACTIVATIONS[name].expression)
    if clips:
        yield templates.CLIP.template
    statements = list(_float_calls(architecture) if quantize is None else _int8_calls(architecture))
    outputs = architecture.output_activation
    if outputs is not None:
        statements.append(f"${{p}}_{outputs}(outputs, ${{P}}_NUM_OUTPUTS);")
    if clips:
        statements.append("${p}_clip(outputs);")
    yield templates.FORWARD.safe_substitute(statements="\n".join(f"    {statement}" for statement in statements))


def _float_calls(architecture: MLPArchitecture) -> Iterator[str]:
    hidden = architecture.hidden_sizes
    yield f"${{P}}_BUFFER float even[{max(hidden[::2])}];"
    if len(hidden) > 1:
        yield f"${{P}}_BUFFER float odd[{max(hidden[1::2])}];"
    source = "observations"
    for layer, (num_outputs, num_inputs) in enumerate(architecture.layer_shapes):
        is_last = layer == len(hidden)
        target = "outputs" if is_last else ("even", "odd")[layer % 2]
        yield (
            f"${{p}}_linear(${{p}}_weight_{layer}, ${{p}}_bias_{layer}, {source}, {num_inputs}, {target}, "
            f"{num_outputs});"
        )
        if not is_last:
            yield f"${{p}}_{architecture.activation}({target}, {num_outputs});"
        source = target


def _int8_calls(architecture: MLPArchitecture) -> Iterator[str]:
    widest = max(architecture.in_features, *architecture.hidden_sizes)
    yield f"${{P}}_BUFFER float values[{widest}];"
    yield f"${{P}}_BUFFER int16_t integers[{widest}];"
    yield "float step;"
    yield "for (size_t i = 0; i < ${P}_NUM_OBSERVATIONS; i++) {"
    yield "    values[i] = (observations[i] - ${p}_center[i]) * ${p}_scale[i];"
    yield "}"
    for layer, (num_outputs, num_inputs) in enumerate(architecture.layer_shapes):
        is_last = layer == architecture.depth
        target = "outputs" if is_last else "values"
        largest = _number(np.float32(largest_integer(num_inputs)))
        yield f"step = ${{p}}_quantize(values, {num_inputs}, {largest}, integers);"
        yield (
            f"${{p}}_linear(${{p}}_weight_{layer}, ${{p}}_step_{layer}, ${{p}}_bias_{layer}, integers, {num_inputs}, "
            f"step, {target}, {num_outputs});"
        )
        if not is_last:
            yield f"${{p}}_{architecture.activation}({target}, {num_outputs});"


def _self_test(
    layers: Layers,
    quantized: QuantizedMLP,
    quantize: str | None,
    bounds: Bounds | None,
) -> str:
    """The test vector and the function that checks it.

    The input is near the centre of the observations, where activations are not saturated. All numbers are rounded, so
    that they are the same on every machine.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(quantized.architecture.in_features, generator=generator)
    observation = quantized.get_buffer("center") + noise / quantized.get_buffer("scale")
    observation = _shortened(observation, 4)
    if quantize is None:
        expected = _exact_outputs(layers, quantized.architecture, observation)
    else:
        expected = quantized(observation[None])[0]
    tolerance = _TOLERANCE[quantize] * max(float(expected.abs().max()), 1e-6)
    if bounds is not None:
        expected = expected.clamp(*map(torch.from_numpy, bounds))
    arrays = (
        _array("float", "observations", observation.numpy(), "    ", prefix=""),
        _array("float", "expected", _shortened(expected, 7).numpy(), "    ", prefix=""),
    )
    return templates.SELF_TEST.safe_substitute(
        arrays="".join(arrays).rstrip("\n"), tolerance=_number(np.float32(f"{tolerance:.2g}"))
    )


def _exact_outputs(layers: Layers, architecture: MLPArchitecture, observation: torch.Tensor) -> torch.Tensor:
    """Outputs `[O]` of a network for one observation `[I]`, in float64."""
    hidden = observation.double()
    for layer, (weight, bias) in enumerate(layers):
        hidden = weight.double() @ hidden + bias.double()
        is_last = layer == len(layers) - 1
        activation = architecture.output_activation if is_last else architecture.activation
        if activation is not None:
            hidden = ACTIVATION_FUNCTIONS[activation](hidden)
    return hidden


def _shortened(values: torch.Tensor, digits: int) -> torch.Tensor:
    """Numbers with that many significant digits, in float32."""
    return torch.tensor([float(f"{value:.{digits}g}") for value in values.tolist()], dtype=torch.float32)


def _array(kind: str, name: str, values: np.ndarray, indent: str = "", prefix: str = "${p}_") -> str:
    """The definition of an array, in lines of at most `_LINE_LENGTH` characters."""
    lines, line = [], ""
    for value in values.reshape(-1):
        number = _number(value) + ","
        if line and len(indent) + 5 + len(line) + len(number) > _LINE_LENGTH:
            lines.append(line)
            line = ""
        line += f" {number}" if line else number
    body = "\n".join(f"{indent}    {line}" for line in [*lines, line])
    return f"{indent}static const {kind} {prefix}{name}[{values.size}] = {{\n{body}\n{indent}}};\n"


def _number(value: np.generic) -> str:
    """A number in C. Floats have the digits that they need to be read back exactly, and are finite."""
    if isinstance(value, np.integer):
        return str(value)
    limits = np.finfo(np.float32)
    return f"{np.clip(value, limits.min, limits.max)!s}f"
