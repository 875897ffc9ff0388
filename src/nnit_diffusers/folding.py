"""Statistics of observations and outputs, folded into the first and the last layer of MLPs.

Shape legend: I/O input and output features of a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def fold_observation_statistics(
    state_dict: Mapping[str, torch.Tensor],
    mean: Sequence[float] | torch.Tensor,
    std: Sequence[float] | torch.Tensor,
    dtype: torch.dtype = torch.float64,
) -> dict[str, torch.Tensor]:
    """Converts a network of standardised inputs, `(x - mean) / std`, to raw inputs by changing its first layer.

    Parameters:
        state_dict (`Mapping[str, torch.Tensor]`): State dict of an [`MLP`], or of B stacked ones.
        mean, std (`Sequence[float]` or `torch.Tensor`): Statistics of every input feature, I numbers each.
        dtype (`torch.dtype`, defaults to `torch.float64`): Precision of the computation.
    """
    weight, bias = state_dict["0.weight"], state_dict["0.bias"]
    mean_I, std_I = (torch.as_tensor(v, dtype=dtype, device=weight.device) for v in (mean, std))
    folded = weight.to(dtype) / std_I
    return {
        **state_dict,
        "0.weight": folded.to(weight.dtype),
        "0.bias": (bias.to(dtype) - folded @ mean_I).to(bias.dtype),
    }


def unfold_observation_statistics(
    state_dict: Mapping[str, torch.Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float64,
) -> dict[str, torch.Tensor]:
    """Inverse of [`fold_observation_statistics`]."""
    weight, bias = state_dict["0.weight"], state_dict["0.bias"]
    mean_I, std_I = (torch.as_tensor(v, dtype=dtype, device=weight.device) for v in (mean, std))
    return {
        **state_dict,
        "0.weight": (weight.to(dtype) * std_I).to(weight.dtype),
        "0.bias": (bias.to(dtype) + weight.to(dtype) @ mean_I).to(bias.dtype),
    }


def fold_output_statistics(
    state_dict: Mapping[str, torch.Tensor],
    mean: Sequence[float] | torch.Tensor,
    std: Sequence[float] | torch.Tensor,
    dtype: torch.dtype = torch.float64,
) -> dict[str, torch.Tensor]:
    """Converts a network of standardised outputs, `(y - mean) / std`, to raw outputs by changing its last layer.

    Parameters:
        state_dict (`Mapping[str, torch.Tensor]`): State dict of an [`MLP`], or of B stacked ones.
        mean, std (`Sequence[float]` or `torch.Tensor`): Statistics of every output feature, O numbers each.
        dtype (`torch.dtype`, defaults to `torch.float64`): Precision of the computation.
    """
    weight_key, bias_key = (f"{len(state_dict) - 2}.{name}" for name in ("weight", "bias"))
    weight, bias = state_dict[weight_key], state_dict[bias_key]
    mean_O, std_O = (torch.as_tensor(v, dtype=dtype, device=weight.device) for v in (mean, std))
    return {
        **state_dict,
        weight_key: (weight.to(dtype) * std_O[:, None]).to(weight.dtype),
        bias_key: (bias.to(dtype) * std_O + mean_O).to(bias.dtype),
    }


def unfold_output_statistics(
    state_dict: Mapping[str, torch.Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float64,
) -> dict[str, torch.Tensor]:
    """Inverse of [`fold_output_statistics`]."""
    std_O = torch.as_tensor(std, dtype=dtype)
    return fold_output_statistics(state_dict, -torch.as_tensor(mean, dtype=dtype) / std_O, 1 / std_O, dtype)
