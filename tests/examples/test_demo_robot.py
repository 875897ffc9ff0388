import os
import re
import subprocess
import sys
from pathlib import Path

import demo_robot
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from matplotlib.image import imread

from nnit_diffusers import (
    NNiTArchitectureScheduler,
    NNiTPipeline,
    NNiTTransformer,
    WeightPatchTokenizer,
    get_task,
)
from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator


@pytest.fixture(scope="module")
def robot_pipeline_folder(tmp_path_factory):
    """An untrained pipeline for PickCube, saved."""
    torch.manual_seed(0)
    statistics = {"observation_mean": [0.1] * 42, "observation_std": [0.5] * 42}
    folder = tmp_path_factory.mktemp("pickcube")
    NNiTPipeline(
        NNiTTransformer(42, 8, max_width=256, num_layers=1, num_attention_heads=1, attention_head_dim=8),
        FlowMatchEulerDiscreteScheduler(),
        NNiTArchitectureScheduler(),
        WeightPatchTokenizer(42, 8, **statistics),
        min_width=16,
        max_depth=3,
    ).save_pretrained(folder)
    return folder


def test_the_demo_prints_success_with_its_interval_and_writes_a_video_and_a_picture(
    robot_pipeline_folder, tmp_path, capsys
):
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))
    demo_robot.main(
        ["--pipeline", str(robot_pipeline_folder), "--output_dir", str(tmp_path / "made"), "--num_episodes", "1"]
    )
    printed = capsys.readouterr().out
    assert "hidden layers [128, 256] (held out combinations; 40,584 parameters)" in printed
    assert re.search(
        r"PickCube-v1: success in [01] of 1 episodes, \d+% \(\d+ to \d+\); still so at the end in", printed
    )
    assert (tmp_path / "made" / "rollout.mp4").read_bytes()[4:8] == b"ftyp"
    assert imread(tmp_path / "made" / "weights.png").std() > 0.1


def test_without_a_vulkan_device_it_says_what_to_install_and_runs_the_digits_demo(
    robot_pipeline_folder, digits_pipeline_folder, tmp_path
):
    command = [sys.executable, demo_robot.__file__, "--pipeline", str(robot_pipeline_folder)]
    command += ["--digits_pipeline", str(digits_pipeline_folder), "--output_dir", str(tmp_path)]
    no_vulkan = {"VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | no_vulkan)
    assert "apt-get install mesa-vulkan-drivers libvulkan1" in ran.stdout
    assert (tmp_path / "digits.png").exists()
    assert not (tmp_path / "rollout.mp4").exists()


def test_the_architecture_is_held_out():
    assert get_task("pickcube").splits.split_of(demo_robot.ARCHITECTURE) == "held_out_combinations"


def test_without_a_pipeline_it_says_where_it_looked(tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo_robot.main(["--pipeline", str(tmp_path / "nothing")])
    assert f"there is no pipeline in '{Path(tmp_path) / 'nothing'}'" in capsys.readouterr().err
