"""What all exporters share: checked weights, the contract that travels with a network, and the bounds of its actions.

Shape legend: O output features of a network.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from ..architecture import MLPArchitecture
from ..loading.limits import shown
from ..networks import MLP


Bounds = tuple[np.ndarray, np.ndarray]
"""Lowest and highest actions, float32 `[O]` each; infinite where an action is not bounded."""


def exported_architecture(network: MLP) -> MLPArchitecture:
    """The architecture of a network.

    Raises:
        `ValueError`: If it has none, because it is not an [`MLP`].
    """
    architecture = getattr(network, "architecture", None)
    if not isinstance(architecture, MLPArchitecture):
        raise ValueError(
            f"`network` must be an `MLP`, but received a {type(network).__name__} without an architecture."
        )
    return architecture


def check_linear_outputs(architecture: MLPArchitecture, program: str) -> None:
    """Raises `ValueError` if the outputs have an activation, for a program whose networks have none there."""
    activation = architecture.output_activation
    if activation is not None:
        raise ValueError(
            f"`network` must have no output activation, because {program} has none, but received one with "
            f"{activation}."
        )


def float32_state_dict(network: MLP) -> dict[str, torch.Tensor]:
    """The weights in float32, on the CPU.

    Raises:
        `ValueError`: If a weight is NaN or infinite, or is so in float32.
    """
    state_dict = {key: tensor.detach().float().cpu().contiguous() for key, tensor in network.state_dict().items()}
    for key, tensor in state_dict.items():
        wrong = tensor[~tensor.isfinite()]
        if len(wrong):
            raise ValueError(f"`network` must have finite weights, but {key!r} holds {wrong[0].item()}.")
    return state_dict


def inference_copy(network: MLP) -> MLP:
    """A copy of the network for inference: on the CPU, in float32, without gradients."""
    state_dict = {key: tensor.clone() for key, tensor in float32_state_dict(network).items()}
    return MLP.from_architecture(exported_architecture(network), state_dict).eval().requires_grad_(False)


def contract_json(network: MLP) -> str | None:
    """The contract of a network as one JSON object with the key `nnit_contract`; `None` if it has none."""
    if network.contract is None:
        return None
    return json.dumps(network.contract.to_dict(), ensure_ascii=False, allow_nan=False)


def action_bounds(network: MLP, clip_actions: Any) -> Bounds | None:
    """The bounds that actions are clipped to; `None` if they are not clipped.

    Parameters:
        network ([`MLP`]): The network.
        clip_actions (`bool` or `tuple`):
            `True` for the bounds of the network's contract, or `(low, high)`, each a number or O numbers.

    Raises:
        `ValueError`: If the network has no contract with bounds, or the bounds do not fit its outputs.
    """
    if clip_actions is None or clip_actions is False:
        return None
    if clip_actions is True:
        clip_actions = None if network.contract is None else network.contract.action_bounds
        if clip_actions is None:
            raise ValueError(
                "`clip_actions` must be the bounds `(low, high)`, because the contract of the network has none, but "
                "received True."
            )
    # numbers of the right count
    num_outputs = exported_architecture(network).out_features
    if not isinstance(clip_actions, (tuple, list)) or len(clip_actions) != 2:
        raise ValueError(f"`clip_actions` must be True or `(low, high)`, but received {shown(clip_actions)}.")
    low, high = (_as_bound(name, bound, num_outputs) for name, bound in zip(("low", "high"), clip_actions))
    if not (low <= high).all():
        index = int((low > high).argmax())
        raise ValueError(
            f"`low` of `clip_actions` must be at most `high`, but received {low[index]} and {high[index]} for output "
            f"{index}."
        )
    return low, high


def _as_bound(name: str, bound: Any, num_outputs: int) -> np.ndarray:
    try:
        array = np.asarray(bound, dtype=np.float32)
    except (TypeError, ValueError):
        array = np.array([[np.nan]])
    if array.shape not in ((), (1,), (num_outputs,)) or np.isnan(array).any():
        raise ValueError(
            f"`{name}` of `clip_actions` must be one number or {num_outputs} numbers, but received {shown(bound)}."
        )
    return np.broadcast_to(array, (num_outputs,)).copy()
