"""Untrained pipelines with the sizes of real tasks, and settings of an evaluation that takes seconds."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from nnit_diffusers import (
    GraphHyperNetwork,
    NestedMLP,
    NNiTArchitectureScheduler,
    NNiTPipeline,
    NNiTTransformer,
    Task,
    WeightPatchTokenizer,
)


# Few networks of every section.
FEW = {
    "num_inference_steps": 1,
    "num_architectures": 2,
    "num_networks": 3,
    "num_selected": 1,
    "num_direct_architectures": 1,
    "num_direct_networks": 2,
    "direct_steps": 60,
    "widths": (8, 20, 80),
    "num_width_networks": 2,
    "depths": (1, 3, 5),
    "num_depth_architectures": 2,
    "num_depth_networks": 1,
    "num_unconditional_networks": 6,
    "num_budget_networks": 4,
    "documented_architecture": (48, 40),
    "num_compared_networks": 4,
    "num_references": 6,
    "num_ensemble": 2,
    "steps": (1, 2),
    "num_step_architectures": 2,
    "num_step_networks": 1,
}


def save_untrained(folder: Path, task: Task, statistics: dict[str, Any]) -> Path:
    """Saves an untrained pipeline with its GHN and nested slices."""
    torch.manual_seed(0)
    features = (task.in_features, task.out_features)
    sizes = {"node_dim": 8, "num_message_passes": 1, "map_channels": 4, "num_convolutions": 1, "num_templates": 2}
    NNiTPipeline(
        NNiTTransformer(
            *features, max_width=task.max_width, num_layers=1, num_attention_heads=1, attention_head_dim=8
        ),
        FlowMatchEulerDiscreteScheduler(),
        NNiTArchitectureScheduler(),
        WeightPatchTokenizer(*features, **statistics),
        GraphHyperNetwork(*features, max_width=task.max_width, latent_dim=4, **sizes, **statistics),
        NestedMLP(
            *features, max_width=task.max_width, min_depth=task.min_depth, max_depth=task.max_depth, **statistics
        ),
        min_width=task.min_width,
        min_depth=task.min_depth,
        max_depth=task.max_depth,
    ).save_pretrained(folder)
    return folder


def statistics_of(task: Task) -> dict[str, Any]:
    """Mean and spread of the inputs of a task, as a tokenizer takes them."""
    return {"observation_mean": task.observation_mean.tolist(), "observation_std": task.observation_std.tolist()}


def without_times(part: Any) -> Any:
    """A part of a report without what differs from run to run."""
    if isinstance(part, dict):
        return {key: without_times(value) for key, value in part.items() if "seconds" not in key}
    if isinstance(part, list):
        return [without_times(value) for value in part]
    return part
