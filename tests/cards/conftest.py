"""Folders of pipelines with an evaluation, whose cards are written."""

import json
import shutil

import pytest


@pytest.fixture
def robot_repo(robot_pipeline_folder, rollouts_path, tmp_path):
    """A robot's repository with an evaluation of some regions."""
    repo = tmp_path / "pickcube"
    shutil.copytree(robot_pipeline_folder, repo)
    report = json.loads(rollouts_path.read_text())
    report["settings"]["task"] = "pickcube"
    (repo / "evaluation.json").write_text(json.dumps(report))
    return repo


@pytest.fixture
def film(tmp_path):
    """Files of a film, as `film_rollouts.py` writes them, without its pictures."""
    folder = tmp_path / "film"
    folder.mkdir()
    (folder / "rollout.mp4").write_bytes(b"video")
    (folder / "rollout.png").write_bytes(b"strip")
    strip = [{"success_once": True}, {"success_once": False}]
    (folder / "rollout.json").write_text(json.dumps({"caption": "3 of all 10 failed.", "strip": strip}))
    return folder
