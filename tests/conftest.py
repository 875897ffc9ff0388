"""What holds for every test: no network, no display, one thread, the same random numbers whatever ran before."""

import os
import random


# Read when huggingface_hub and matplotlib are first imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


# Shared by tests of the evaluation, cards, examples and benchmarks. Imports are late: most tests need none of this.


@pytest.fixture(scope="session")
def digits():
    from nnit_diffusers import get_task

    return get_task("digits")


@pytest.fixture(scope="session")
def digits_pipeline_folder(digits, tmp_path_factory):
    """An untrained pipeline of digits, with its GHN."""
    from untrained import save_untrained, statistics_of

    return save_untrained(tmp_path_factory.mktemp("digits"), digits, statistics_of(digits))


@pytest.fixture(scope="session")
def robot_pipeline_folder(tmp_path_factory):
    """The same for PickCube."""
    from untrained import save_untrained

    from nnit_diffusers import get_task

    statistics = {"observation_mean": [0.1] * 42, "observation_std": [0.5] * 42}
    return save_untrained(tmp_path_factory.mktemp("pickcube"), get_task("pickcube"), statistics)


@pytest.fixture(scope="session")
def evaluation_path(digits, digits_pipeline_folder, tmp_path_factory):
    """The evaluation of the untrained pipeline of digits: every section, with few networks of each."""
    from untrained import FEW

    from nnit_diffusers import NNiTPipeline
    from nnit_diffusers.evaluation.config import EvaluationConfig
    from nnit_diffusers.evaluation.pipeline import evaluate_pipeline

    path = tmp_path_factory.mktemp("evaluation") / "evaluation.json"
    evaluate_pipeline(NNiTPipeline.from_pretrained(digits_pipeline_folder), digits, path, EvaluationConfig(**FEW))
    return path


@pytest.fixture(scope="session")
def rollouts_path(tmp_path_factory):
    """The evaluation of an untrained pipeline on a task with episodes: one section, with one region missing."""
    from tiny import tiny_pipeline
    from tiny_tasks import TinyDemandTask

    from nnit_diffusers.evaluation.config import EvaluationConfig
    from nnit_diffusers.evaluation.pipeline import evaluate_pipeline

    path = tmp_path_factory.mktemp("rollouts") / "evaluation.json"
    config = EvaluationConfig(
        sections=("regions",),
        seed=1,  # some policies of the seen region fail
        regions=("seen", "held_out_combinations", "deeper", "wider"),
        num_inference_steps=1,
        num_episodes=20,
        num_final_episodes=30,
        num_architectures=2,
        num_networks=2,
        num_selected=1,
        documented_architecture=(8, 6),
    )
    evaluate_pipeline(tiny_pipeline(ghn=True), TinyDemandTask(), path, config)
    return path


@pytest.fixture
def simulator():
    """Skips a test where ManiSkill cannot run."""
    from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator

    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))
