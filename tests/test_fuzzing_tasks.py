"""Fuzzing of what describes a task: any table's or simulator's JSON, teacher or recording is read or refused."""

import json
import tempfile
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzed import FUZZED, JSON, bounded_memory, corrupted, damaged_anywhere  # noqa: F401  # a fixture of every test
from hypothesis import given
from hypothesis import strategies as st

from nnit_diffusers import MLP
from nnit_diffusers.tasks.simulation.recordings import read_recording
from nnit_diffusers.tasks.simulation.teachers import load_teacher
from nnit_diffusers.tasks.simulators import simulator_task_from_spec
from nnit_diffusers.tasks.specs import task_from_spec
from nnit_diffusers.tasks.tables import TableSchema, load_table_task, table_task_from_spec


@pytest.fixture(scope="module")
def table_spec(tmp_path_factory):
    """The specification of a table with columns of all kinds."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    colours = ("red", "", "blue", "red", "blue")
    rows = [f"{row / 7},{colours[row % 5]},2020-01-{row % 28 + 1:02},{'ab'[row % 3 == 0]}" for row in range(60)]
    path.write_text("\n".join(["length,colour,day,kind", *rows]))
    return json.loads(json.dumps(load_table_task(path, "kind", max_width=12).spec()))


SIMULATOR_SPEC = {
    "kind": "simulator",
    "library": "gymnasium",
    "env_id": "Pendulum-v1",
    "env_kwargs": {"g": 9.0, "max_episode_steps": 20},
    "success": 0.9,
    "teacher_return": -200.0,
    "grid": {"min_width": 8, "max_width": 32, "min_depth": 1, "max_depth": 2},
    "name": "my-pendulum",
}


@FUZZED
@given(data=st.data())
def test_a_damaged_schema_of_a_table_is_read_or_refused(table_spec, data):
    content = data.draw(st.one_of(JSON, damaged_anywhere(table_spec["schema"])))
    with suppress(ValueError):
        schema = TableSchema.from_dict(content)
        assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
        assert sum(features.size for features in schema.layout()) == schema.in_features


@FUZZED
@given(data=st.data())
def test_a_damaged_specification_of_a_table_gives_a_task_that_scores_networks_or_is_refused(table_spec, data):
    spec, source = data.draw(st.one_of(JSON, damaged_anywhere(table_spec))), table_spec["source"]
    with suppress(OSError, ValueError):
        table_task_from_spec(spec, source)
    with suppress(OSError, ValueError):
        task = task_from_spec(spec if isinstance(spec, dict) else {}, source=source)
        (score,) = task.score([MLP(task.in_features, [4], task.out_features)])
        assert score.num_episodes == task.num_evaluation_samples("validation")


@FUZZED
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")  # Gymnasium warns of arguments that it does not expect
def test_a_damaged_specification_of_a_simulator_gives_a_task_or_is_refused(data):
    spec = data.draw(st.one_of(JSON, damaged_anywhere(SIMULATOR_SPEC)))
    with suppress(ValueError):
        simulator_task_from_spec(spec)
    with suppress(OSError, ValueError):
        task = task_from_spec(spec if isinstance(spec, dict) else {})
        assert (task.in_features, task.out_features) == (3, 1)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Files of a policy, of every format that holds plain tensors."""
    folder, network = tmp_path_factory.mktemp("teachers"), MLP(5, [4], 3)
    network.save_pretrained(folder)
    torch.save(network.state_dict(), folder / "teacher.pt")
    torch.save(network.state_dict(), folder / "policy.pth")
    with zipfile.ZipFile(folder / "teacher.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_kwargs": {"activation_fn": "ReLU"}}))
        archive.write(folder / "policy.pth", "policy.pth")
    return {path.name: path.read_bytes() for path in (folder / name for name in TEACHERS)}


TEACHERS = ("model.safetensors", "teacher.pt", "teacher.zip")


@pytest.mark.parametrize("name", TEACHERS)
@FUZZED
@given(data=st.data())
def test_a_damaged_file_of_a_teacher_gives_a_teacher_or_is_refused_in_one_line(teachers, name, data):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / name
        path.write_bytes(data.draw(corrupted(teachers[name])))
        try:
            teacher = load_teacher(path, activation="relu")
        except (OSError, ValueError) as error:
            assert "\n" not in str(error)
        else:
            assert teacher(np.zeros((2, teacher.in_features))).shape == (2, teacher.out_features)


@FUZZED
@given(data=st.data())
def test_arrays_of_any_bytes_are_read_as_a_recording_or_refused_in_one_line(data):
    arrays = BytesIO()
    np.savez(arrays, observations=np.zeros((6, 5)), actions=np.zeros((6, 2)), episode_ends=np.array([2, 6]))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "recording.npz"
        path.write_bytes(data.draw(corrupted(arrays.getvalue())))
        try:
            recording = read_recording(path)
        except (OSError, ValueError) as error:
            assert "\n" not in str(error)
        else:
            assert len(recording.observations) == len(recording.actions) == sum(recording.lengths)
