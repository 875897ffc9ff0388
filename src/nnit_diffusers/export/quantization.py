"""Networks with 8-bit weights, as the exported C code computes them.

Shape legend: N inputs (samples), I/O input and output features of a layer or network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..networks import ACTIVATION_FUNCTIONS, MLP, layer_keys
from .common import exported_architecture, float32_state_dict


LARGEST_WEIGHT = 127
"""Largest integer of a weight."""
SMALLEST_SIZE = 1e-30
"""A vector of smaller numbers counts as zero, for its step would be no normal number of 32 bits."""
# Strength of the prior that observations are centred at zero, relative to the mean squared singular value.
_RIDGE = 1e-3


def largest_integer(in_features: int) -> int:
    """Largest integer of an input of a layer: of 16 bits, and so small that 32 bits hold any sum of products."""
    return min(2**15 - 1, (2**31 - 1) // (LARGEST_WEIGHT * in_features))


class QuantizedMLP(nn.Module):
    """An MLP with 8-bit weights and 16-bit inputs of layers; made by [`quantize`].

    A layer computes, with integers in the sum:

        step   = max |x| / 32767                         one number for each input vector
        sum_o  = Σ_i W_oi · round(x_i / step)            8 bits times 16 bits, in 32 bits
        y_o    = sum_o · step · scale_o + bias_o         32-bit floats, then the activation

    - **Weights** have a symmetric scale for every output. Biases are 32-bit floats.
    - **Products and sums are integers**, because that is what a Cortex-M computes fast: a core without a
      floating-point unit takes tens of cycles for one product of floats. Weight-only quantisation would save flash but
      be slower than floats. Only O(I + O) operations of a layer are floats.
    - **Steps are dynamic**: they come from the vector itself. So no calibration data is needed, and nothing saturates.
    - **Inputs have 16 bits**, as in the s16 kernels of CMSIS-NN. The DSP instructions of a Cortex-M4 multiply 16-bit
      numbers, so 8 bits would not be faster. Rounding to 16 bits is far below the error of the weights.
    - **Observations** are raw, and differ in scale by orders of magnitude. Their normalisation is folded into the
      first layer, so its columns do as well. The first layer therefore takes `(x - centre) · scale`. The scale makes
      its columns equally large, and at the centre its outputs are nearest to zero.

    A vector that holds NaN or infinity gives outputs of NaN.

    Parameters:
        network ([`MLP`]): The network.

    Raises:
        `ValueError`: If it is not an [`MLP`], or has weights that are not finite.
    """

    def __init__(self, network: MLP):
        super().__init__()
        self.architecture = exported_architecture(network)
        state_dict = {key: tensor.double() for key, tensor in float32_state_dict(network).items()}
        keys = layer_keys(self.architecture.depth + 1)
        # the first layer, of scaled and centred observations
        first_OI, bias_O = (state_dict[key] for key in keys[0])
        scale_I = first_OI.abs().amax(0)
        scale_I = scale_I.where(scale_I > SMALLEST_SIZE, torch.ones_like(scale_I)).float()
        state_dict[keys[0][0]] = scaled_OI = first_OI / scale_I.double()
        center_I = _shortened(_center(scaled_OI, bias_O) / scale_I.double())
        state_dict[keys[0][1]] = bias_O + first_OI @ center_I.double()
        self._keep("center", center_I)
        self._keep("scale", scale_I)
        # integers and scales of every layer
        for layer, (weight, bias) in enumerate(keys):
            largest_O1 = state_dict[weight].abs().amax(1, keepdim=True)
            step_O1 = (largest_O1 / LARGEST_WEIGHT).float()
            is_zero = largest_O1 <= SMALLEST_SIZE
            step_O1 = step_O1.masked_fill(is_zero, 0.0)
            integers_OI = (state_dict[weight] / step_O1.double().masked_fill(is_zero, 1.0)).round()
            self._keep(f"weight_{layer}", integers_OI.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT).to(torch.int8))
            self._keep(f"step_{layer}", step_O1[:, 0])
            self._keep(f"bias_{layer}", state_dict[bias].float())

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        self.register_buffer(name, tensor.contiguous())

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """`(weight [O, I] as int8, step [O], bias [O])` of every layer, from input to output."""
        get, indices = self.get_buffer, range(self.architecture.depth + 1)
        return [(get(f"weight_{layer}"), get(f"step_{layer}"), get(f"bias_{layer}")) for layer in indices]

    @torch.no_grad()
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Outputs `[N, O]` in float32 for raw observations `[N, I]`; they do not depend on the other rows."""
        hidden_NI = (observations.float() - self.get_buffer("center")) * self.get_buffer("scale")
        layers = self.layers()
        for layer, (weight_OI, step_O, bias_O) in enumerate(layers):
            integers_NI, step_N1 = _rounded(hidden_NI, largest_integer(weight_OI.shape[1]))
            # float64 holds the sums of integers exactly
            sum_NO = F.linear(integers_NI.double(), weight_OI.double()).float()
            hidden_NI = sum_NO * (step_N1 * step_O) + bias_O
            is_last = layer == len(layers) - 1
            activation = self.architecture.output_activation if is_last else self.architecture.activation
            if activation is not None:
                hidden_NI = ACTIVATION_FUNCTIONS[activation](hidden_NI)
        return hidden_NI


def quantize(network: MLP) -> QuantizedMLP:
    """The network with 8-bit weights that `to_c(network, quantize="int8")` exports, to be scored like any other.

    Its outputs are those of the C code, up to the rounding of floats. See [`QuantizedMLP`].
    """
    return QuantizedMLP(network).eval()


def _center(weight_OI: torch.Tensor, bias_O: torch.Tensor) -> torch.Tensor:
    """The inputs where the outputs of a layer are nearest to zero, `[I]`: `min_z |W z + b|² + λ |z|²`.

    The bias of a folded layer is `b - W · mean`, so this is close to the mean of the observations. Rounding errors of
    weights are multiplied by the distance of an observation from the centre.
    """
    gram_II = weight_OI.mT @ weight_OI
    gram_II.diagonal().add_(_RIDGE * gram_II.diagonal().mean().clamp(min=SMALLEST_SIZE))
    return torch.linalg.solve(gram_II, -weight_OI.mT @ bias_O)


def _shortened(values: torch.Tensor) -> torch.Tensor:
    """Numbers with five significant digits, because the last bits of a solution differ from machine to machine."""
    return torch.tensor([float(f"{value:.5g}") for value in values.tolist()], dtype=torch.float32)


def _rounded(values_NI: torch.Tensor, largest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers `[N, I]` of at most `largest`, and the step between them `[N, 1]`; the step is NaN if a value is none.

    Every operation is one of the C code, in the same order: halves are rounded away from zero.
    """
    size_N1 = values_NI.abs().amax(1, keepdim=True)
    is_number = size_N1.isfinite()
    is_zero = size_N1 < SMALLEST_SIZE
    divisor_N1 = size_N1.where(is_number & ~is_zero, torch.ones_like(size_N1))
    # a tensor, because torch would multiply a number by the reciprocal
    largest_N1 = torch.full_like(size_N1, largest)
    scaled_NI = values_NI * (largest_N1 / divisor_N1)
    integers_NI = (scaled_NI + torch.full_like(scaled_NI, 0.5).copysign(scaled_NI)).trunc()
    integers_NI = integers_NI.masked_fill(~is_number | is_zero, 0.0)
    step_N1 = (size_N1 / largest_N1).masked_fill(is_zero, 0.0)
    return integers_NI, step_N1.where(is_number, torch.full_like(step_N1, torch.nan))
