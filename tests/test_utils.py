import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

import nnit_diffusers
from nnit_diffusers.utils import provenance, replacing_folder, write_json


def test_json_is_written_atomically_and_parent_folders_are_created(tmp_path):
    path = tmp_path / "results" / "digits.json"
    write_json(path, {"accuracy": 0.96, "name": "ü"})
    write_json(path, {"accuracy": 0.97, "name": "ü"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"accuracy": 0.97, "name": "ü"}
    assert [file.name for file in path.parent.iterdir()] == ["digits.json"]


@pytest.mark.parametrize(("payload", "error"), [({"loss": float("nan")}, ValueError), ({"path": Path()}, TypeError)])
def test_values_that_json_does_not_support_are_refused_and_the_old_file_stays(tmp_path, payload, error):
    path = tmp_path / "digits.json"
    write_json(path, {"accuracy": 0.96})
    with pytest.raises(error):
        write_json(path, payload)
    assert json.loads(path.read_text()) == {"accuracy": 0.96}
    assert [file.name for file in tmp_path.iterdir()] == ["digits.json"]


def test_provenance_has_the_command_versions_and_time(tmp_path):
    script = tmp_path / "train it.py"
    script.write_text("import json; from nnit_diffusers.utils import provenance; print(json.dumps(provenance()))")
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


def test_a_folder_is_replaced_atomically_and_stays_if_the_block_fails(tmp_path):
    folder = tmp_path / "networks"
    with replacing_folder(folder) as new:
        (new / "old.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as new:
        (new / "new.txt").write_text("new")
        raise KeyboardInterrupt
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["networks", "networks/old.txt"]
    with replacing_folder(folder) as new:
        (new / "new.txt").write_text("new")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["networks", "networks/new.txt"]
