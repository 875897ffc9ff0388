"""Checks of what is requested from the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import logging

from ..loading.limits import MAX_NETWORKS, MAX_TIMESTEPS, check_count
from .budget import ArchitectureSpace
from .pipeline_output import OUTPUT_TYPES


logger = logging.get_logger(__name__)

CALLBACK_TENSORS = ("latents",)
"""Tensors that `callback_on_step_end` may be given."""


def tensors_of(callback: Any, names: Sequence[str]) -> Sequence[str]:
    """Names of the tensors that a callback is given: its own, if it has some."""
    has_own = isinstance(callback, (PipelineCallback, MultiPipelineCallbacks))
    return callback.tensor_inputs if has_own else names


def check_request(
    num_networks: int,
    num_inference_steps: int,
    min_parameters: int | None,
    max_parameters: int | None,
    output_type: str,
    callback_on_step_end_tensor_inputs: Sequence[str],
) -> None:
    """Raises `ValueError` if an argument is out of range; the message names the allowed and the received value."""
    check_count("num_networks", num_networks, MAX_NETWORKS)
    check_count("num_inference_steps", num_inference_steps, MAX_TIMESTEPS)
    for name, value in (("min_parameters", min_parameters), ("max_parameters", max_parameters)):
        if value is not None:
            check_count(name, value, sys.maxsize)
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, but received {output_type!r}.")
    unknown = [name for name in callback_on_step_end_tensor_inputs if name not in CALLBACK_TENSORS]
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` must be of {list(CALLBACK_TENSORS)}, but received {unknown}."
        )


def check_space(space: ArchitectureSpace) -> None:
    """Refuses what cannot be generated, and warns of networks smaller than in training.

    Raises:
        `ValueError`: If a request is not an architecture, too wide or too deep, or cannot meet the budget.
    """
    space.check()
    if space.narrowest < space.min_width:
        logger.warning(
            f"`arch` has a layer of {space.narrowest} units, but the narrowest that the model was trained on "
            f"have {space.min_width}: expect a network that does not work."
        )
    if space.hidden_sizes and len(space.hidden_sizes) < space.min_depth:
        logger.warning(
            f"`arch` has {len(space.hidden_sizes)} hidden layer(s), but the fewest that the model was trained "
            f"on are {space.min_depth}: expect a network that does not work."
        )
    if space.hidden_sizes and len(space.hidden_sizes) > space.max_depth + 1:
        logger.warning(
            f"`arch` has {len(space.hidden_sizes)} hidden layers, but the most that the model was trained on are "
            f"{space.max_depth}: score the network before you use it."
        )
