"""The scripts of `examples/` as modules, and untrained pipelines, small enough to build and run."""

import sys
from pathlib import Path

import pytest
import tiny_tasks  # noqa: F401  # registers its tasks
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny import tiny_pipeline

from nnit_diffusers import (
    GraphHyperNetwork,
    NNiTArchitectureScheduler,
    NNiTPipeline,
    NNiTTransformer,
    WeightPatchTokenizer,
    get_task,
)
from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator


EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path[:0] = [str(EXAMPLES), str(EXAMPLES.parent / "benchmarks"), str(EXAMPLES / "figures")]


@pytest.fixture(scope="session")
def digits():
    return get_task("digits")


def save_untrained(folder, task, statistics):
    """Saves an untrained pipeline with its GHN."""
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
        min_width=task.min_width,
        min_depth=task.min_depth,
        max_depth=task.max_depth,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def digits_pipeline_folder(digits, tmp_path_factory):
    statistics = {
        "observation_mean": digits.observation_mean.tolist(),
        "observation_std": digits.observation_std.tolist(),
    }
    return save_untrained(tmp_path_factory.mktemp("digits"), digits, statistics)


@pytest.fixture(scope="session")
def robot_pipeline_folder(tmp_path_factory):
    """The same for PickCube."""
    statistics = {"observation_mean": [0.1] * 42, "observation_std": [0.5] * 42}
    return save_untrained(tmp_path_factory.mktemp("pickcube"), get_task("pickcube"), statistics)


@pytest.fixture(scope="session")
def rollouts_path(tmp_path_factory):
    """The evaluation of an untrained pipeline on a task with episodes: one section, with one region missing."""
    import evaluate_nnit

    folder = tmp_path_factory.mktemp("rollouts")
    tiny_pipeline(ghn=True).save_pretrained(folder / "pipeline")
    evaluate_nnit.main(
        evaluate_nnit.Arguments(
            str(folder / "pipeline"),
            task="tiny_demand",
            output_path=str(folder / "evaluation.json"),
            sections=("regions",),
            regions=("seen", "held_out_combinations", "deeper", "wider"),
            num_inference_steps=1,
            num_episodes=20,
            num_final_episodes=30,
            num_architectures=2,
            num_networks=2,
            num_selected=1,
            documented_architecture=(8, 6),
        )
    )
    return folder / "evaluation.json"


@pytest.fixture
def simulator():
    """Skips a test where ManiSkill cannot run."""
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))
