"""Sampling of architectures: the transformer unmasks architecture tokens, without any patches.

Shape legend: B networks, S slots for hidden layers (architecture tokens).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers.hooks import HookRegistry

from ..architecture import MASK_TOKEN
from ..flow import NUM_TRAIN_TIMESTEPS
from ..models.patches import POSITION_FIELDS
from .budget import ArchitectureSpace


if TYPE_CHECKING:
    from .pipeline_nnit import NNiTPipeline


MIN_ARCHITECTURE_STEPS = 20
"""Steps in which architectures are sampled at least. Each costs little, and few of them would choose all widths of a
network at once, as if they were independent."""


def sample_tokens(
    pipe: NNiTPipeline,
    spaces: Sequence[ArchitectureSpace],
    num_inference_steps: int,
    generators: list[torch.Generator],
    temperature: float,
    attention_kwargs: dict[str, Any] | None,
    task_labels: torch.Tensor | None = None,
) -> list[list[int]]:
    """Tokens of an architecture of every space, each from its own generator, for the task of its label `[B]`."""
    # those of one number of tokens together: padding would change what the transformer predicts
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, space in enumerate(spaces):
        rows_of[len(space.tokens())].append(row)
    num_steps = max(num_inference_steps, MIN_ARCHITECTURE_STEPS)
    tokens: dict[int, list[int]] = {}
    for rows in rows_of.values():
        chosen, own = [spaces[row] for row in rows], [generators[row] for row in rows]
        labels = None if task_labels is None else task_labels[rows]
        tokens |= zip(rows, _unmask(pipe, chosen, num_steps, own, temperature, attention_kwargs, labels))
    return [tokens[row] for row in range(len(spaces))]


def _unmask(
    pipe: NNiTPipeline,
    spaces: Sequence[ArchitectureSpace],
    num_steps: int,
    generators: list[torch.Generator],
    temperature: float,
    attention_kwargs: dict[str, Any] | None,
    task_labels: torch.Tensor | None,
) -> list[list[int]]:
    """Tokens of architectures of these spaces, which all have the same number of tokens."""
    transformer, scheduler, device = pipe.transformer, pipe.architecture_scheduler, pipe._execution_device
    tokens = torch.tensor([space.tokens() for space in spaces], device=device)
    if not (tokens == MASK_TOKEN).any():
        return tokens.tolist()
    # unmask tokens, without any patches
    num_elements, num_fields = transformer.config.patch_size**2, len(POSITION_FIELDS)
    no_patches = torch.zeros(len(spaces), 0, num_elements, dtype=transformer.dtype, device=device)
    no_positions = torch.zeros(len(spaces), 0, num_fields, dtype=torch.long, device=device)
    scheduler.set_timesteps(num_steps, device=device)
    for t in scheduler.timesteps:
        pipe._current_timestep = t
        with transformer.cache_context("architecture"):
            _, logits = transformer(
                hidden_states=no_patches,
                timestep=torch.full((len(spaces),), float(NUM_TRAIN_TIMESTEPS), device=device),
                architecture_tokens=tokens,
                architecture_timestep=t.expand(len(spaces)),
                patch_positions=no_positions,
                task_labels=task_labels,
                attention_kwargs=attention_kwargs,
                return_dict=False,
            )
        tokens = scheduler.step(
            logits,
            t,
            tokens,
            temperature=temperature,
            allowed_tokens=lambda row, row_tokens, slot: spaces[row].allowed_tokens(row_tokens, slot),
            generator=generators,
        ).prev_sample
    # Clear caches, so that no activations of architecture-only samples are reused for weights.
    HookRegistry.check_if_exists_or_initialize(transformer).reset_stateful_hooks()
    return tokens.tolist()
