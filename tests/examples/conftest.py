"""The scripts of `examples/` as modules, and an untrained pipeline for digits, small enough to build and run."""

import sys
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from nnit_diffusers import (
    GraphHyperNetwork,
    NNiTArchitectureScheduler,
    NNiTPipeline,
    NNiTTransformer,
    WeightPatchTokenizer,
    get_task,
)


EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "benchmarks"), str(EXAMPLES / "figures")]


@pytest.fixture(scope="session")
def digits():
    return get_task("digits")


@pytest.fixture(scope="session")
def digits_pipeline_folder(digits, tmp_path_factory):
    """An untrained pipeline, saved: its networks guess."""
    torch.manual_seed(0)
    statistics = {
        "observation_mean": digits.observation_mean.tolist(),
        "observation_std": digits.observation_std.tolist(),
    }
    sizes = {"node_dim": 8, "num_message_passes": 1, "map_channels": 4, "num_convolutions": 1, "num_templates": 2}
    pipeline = NNiTPipeline(
        NNiTTransformer(64, 10, max_width=64, num_layers=1, num_attention_heads=1, attention_head_dim=8),
        FlowMatchEulerDiscreteScheduler(),
        NNiTArchitectureScheduler(),
        WeightPatchTokenizer(64, 10, **statistics),
        GraphHyperNetwork(64, 10, max_width=64, latent_dim=4, **sizes, **statistics),
        min_width=digits.min_width,
        max_depth=digits.max_depth,
    )
    folder = tmp_path_factory.mktemp("digits")
    pipeline.save_pretrained(folder)
    return folder
