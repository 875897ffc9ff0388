import os
import re
import subprocess
import sys
from pathlib import Path

import demo_robot
import pytest
from matplotlib.image import imread

from nnit_diffusers import get_task


def test_the_demo_prints_success_with_its_interval_and_writes_a_video_and_a_picture(
    robot_pipeline_folder, simulator, tmp_path, capsys
):
    demo_robot.main(
        ["--pipeline", str(robot_pipeline_folder), "--output_dir", str(tmp_path / "made"), "--num_episodes", "1"]
    )
    printed = capsys.readouterr().out
    assert "hidden layers [128, 256] (held out combinations; 40,584 parameters)" in printed
    assert re.search(
        r"PickCube-v1: success in [01] of 1 episodes, \d+% \(\d+ to \d+\); success at episode end in", printed
    )
    assert (tmp_path / "made" / "rollout.mp4").read_bytes()[4:8] == b"ftyp"
    assert imread(tmp_path / "made" / "weights.png").std() > 0.1


def test_without_a_vulkan_device_it_prints_what_to_install_and_runs_the_digits_demo(
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
    assert get_task("pickcube").regions.region_of(demo_robot.ARCHITECTURE) == "held_out_combinations"


def test_a_missing_pipeline_is_reported_with_its_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo_robot.main(["--pipeline", str(tmp_path / "nothing")])
    assert f"there is no pipeline in '{Path(tmp_path) / 'nothing'}'" in capsys.readouterr().err
