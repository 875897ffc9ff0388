"""Embeddings of what a transformer and a hypernetwork are given: architecture tokens, positions, and tasks.

Shape legend: B networks, S slots for hidden layers, P patches, D model width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn

from ..architecture import NONE_TOKEN, WIDTH_TOKEN_OFFSET
from ..loading.limits import MAX_TASKS, shown


# Distances of a layer from the first and the last layer are clamped to this value, so that layers of a deeper network
# have only distances that were seen in training.
_MAX_DISTANCE = 2
_POSITION_DIM = 32
_POSITION_PERIOD = 64
_WIDTH_OCTAVES = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
# Names of tasks, as `task.json` and the command line have them.
_TASK_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Standard deviation of new task embeddings: what a latent of unit variance adds to a layer of a hypernetwork.
_TASK_STD = 0.5


class NNiTArchitectureEmbedding(nn.Module):
    """Embeds architecture tokens by their kind (mask, none or width), and widths by Fourier features of their log2.

    Every width has an embedding, including widths never seen in training.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.kind = nn.Embedding(3, dim)
        self.width = nn.Sequential(nn.Linear(2 * len(_WIDTH_OCTAVES) + 1, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, tokens: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`[…]` tokens -> `[…, D]`."""
        is_width = tokens > NONE_TOKEN
        octave = torch.log2((tokens - WIDTH_TOKEN_OFFSET).clamp(min=1).float())[..., None]
        phase = octave * torch.tensor([2 * math.pi / octaves for octaves in _WIDTH_OCTAVES], device=tokens.device)
        features = torch.cat([octave / 8, phase.sin(), phase.cos()], dim=-1).to(dtype)
        kind = self.kind(tokens.clamp(max=NONE_TOKEN + 1))
        return kind + self.width(features) * is_width[..., None].to(dtype)


class NNiTPositionEmbedding(nn.Module):
    """Embeds the position of a patch: kind, distance of its layer from either end, row and column.

    Positions repeat every `max_width` units, as templates of a [`GraphHyperNetwork`] do, so a layer may have any
    width.
    """

    def __init__(self, dim: int, max_width: int, patch_size: int):
        super().__init__()
        # patches of `max_width` units along a side of a weight matrix, and of a bias
        self.periods = (-(-max_width // patch_size), -(-max_width // patch_size**2))
        num_features = 2 + 2 * (_MAX_DISTANCE + 1) + 2 * _POSITION_DIM
        self.mlp = nn.Sequential(nn.Linear(num_features, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, positions: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`[B, P, 5]` positions -> `[B, P, D]`."""
        kind, layer, layers_behind, row, column = positions.unbind(-1)
        weight_period, bias_period = self.periods
        # Positions repeat, except rows of the last layer (outputs) and columns of the first (inputs).
        row_period = torch.where(kind == 0, weight_period, bias_period)
        row = torch.where(layers_behind > 0, row % row_period, row)
        column = torch.where(layer > 0, column % weight_period, column)
        # one-hot features of kind and layer
        one_hots = [
            F.one_hot(kind, 2),
            F.one_hot(layer.clamp(max=_MAX_DISTANCE), _MAX_DISTANCE + 1),
            F.one_hot(layers_behind.clamp(max=_MAX_DISTANCE), _MAX_DISTANCE + 1),
        ]
        # sinusoidal features of row and column
        waves = [
            get_timestep_embedding(index.flatten(), _POSITION_DIM, max_period=_POSITION_PERIOD)
            for index in (row, column)
        ]
        features = [one_hot.float() for one_hot in one_hots] + [wave.unflatten(0, row.shape) for wave in waves]
        return self.mlp(torch.cat(features, dim=-1).to(dtype))


class TaskEmbedding(nn.Module):
    """Embeds the task of a network; the last embedding is that of a network of any task.

    Parameters:
        num_tasks (`int`): Number of tasks.
        dim (`int`): Size of an embedding.
    """

    def __init__(self, num_tasks: int, dim: int):
        super().__init__()
        self.num_tasks = num_tasks
        self.embedding = nn.Embedding(num_tasks + 1, dim)
        nn.init.normal_(self.embedding.weight, std=_TASK_STD)

    def forward(self, labels: torch.Tensor | None, num_networks: int) -> torch.Tensor:
        """`[B]` labels -> `[B, D]`; `None` for B networks of any task."""
        if labels is None:
            labels = torch.full((num_networks,), self.num_tasks)
        return self.embedding(labels.to(self.embedding.weight.device))


def check_task_names(task_names: Any) -> int:
    """Number of tasks of a model, 0 for `None`.

    Raises:
        `ValueError`: If it is no list of distinct names, or a longer one than `loading.limits` allows.
    """
    if task_names is None:
        return 0
    is_list = isinstance(task_names, (list, tuple)) and 1 <= len(task_names) <= MAX_TASKS
    if not is_list or not all(isinstance(name, str) and _TASK_NAME.fullmatch(name) for name in task_names):
        raise ValueError(
            f"`task_names` must be a list of 1 to {MAX_TASKS} names of letters, digits, - and _, but received "
            f"{shown(task_names)}."
        )
    if len(set(task_names)) < len(task_names):
        raise ValueError(f"`task_names` must be distinct, but received {shown(task_names)}.")
    return len(task_names)


def task_label(task: Any, task_names: Sequence[str] | None) -> int:
    """Index of a task among those of a model.

    Raises:
        `ValueError`: If the model has no such task. The message has the nearest names.
    """
    if not task_names:
        raise ValueError(f"`task` must be None for a model of one task, but received {shown(task)}.")
    if isinstance(task, str) and task in task_names:
        return list(task_names).index(task)
    nearest = get_close_matches(str(task), task_names, n=3, cutoff=0.4) or list(task_names[:3])
    raise ValueError(
        f"`task` must be one of the {len(task_names)} tasks of the model, but received {shown(task)}; nearest: "
        f"{', '.join(map(repr, nearest))}."
    )


def check_labels(
    labels: torch.Tensor | None, task_names: Sequence[str] | None, num_networks: int, may_be_any: bool = True
) -> None:
    """Raises `ValueError` unless labels `[B]` are those of B networks of a model with these tasks.

    Parameters:
        may_be_any (`bool`, defaults to `True`): Allow networks of any task, whose label is the number of tasks.
    """
    num_tasks = len(task_names or ())
    if labels is None and (may_be_any or not num_tasks):
        return
    most = num_tasks - (0 if may_be_any else 1)
    required = (
        f"`task_labels` must be {num_networks} integers of 0 to {most}" if num_tasks else "`task_labels` must be None"
    )
    if labels is None or not num_tasks:
        raise ValueError(f"{required}, for the model has {num_tasks or 'no'} tasks, but received {shown(labels)}.")
    is_integer = not labels.is_floating_point() and labels.dtype != torch.bool
    if labels.shape != (num_networks,) or not is_integer or not ((labels >= 0) & (labels <= most)).all():
        raise ValueError(f"{required}, but received {shown(labels)}.")
