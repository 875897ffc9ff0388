"""Provenance of results."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

import nnit_diffusers
from nnit_diffusers.provenance import provenance


def test_provenance_has_the_command_versions_and_time(tmp_path):
    script = tmp_path / "train it.py"
    script.write_text("import json; from nnit_diffusers.provenance import provenance; print(json.dumps(provenance()))")
    command = [sys.executable, str(script), "--seed", "0"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["command"] == f"'{script}' --seed 0"
    assert found["versions"]["nnit_diffusers"] == nnit_diffusers.__version__
    assert found["versions"]["torch"] == torch.__version__
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["date"])).total_seconds()) < 60


def test_provenance_has_the_commit_of_the_checkout_and_none_outside_one():
    root = Path(nnit_diffusers.__file__).parents[2]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout
        assert provenance()["git_commit"].removesuffix("-dirty") == head.strip()
    else:
        assert provenance()["git_commit"] is None
