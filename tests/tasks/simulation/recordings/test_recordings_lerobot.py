"""Data sets of LeRobot are read in every layout; what holds no vectors is one sentence."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_episodes import EPISODES, check_is_as_recorded

from nnit_diffusers.tasks.simulation.recordings import read_recording


def lerobot_folder(folder, version, success=None, environment_state=False, change=None):
    """Layouts 2.1, one file for each episode, and 3.0, files of many episodes."""
    names = ["observation.state", *(["observation.environment_state"] if environment_state else [])]
    features = {name: {"dtype": "float32", "shape": [5 // len(names)]} for name in [*names, "action"]}
    if success:
        features["next.success"] = {"dtype": "bool", "shape": [1]}
    tables = []
    for number, (observations, actions) in enumerate(EPISODES):
        length = len(actions)
        parts = [observations[:-1]] if not environment_state else [observations[:-1, :3], observations[:-1, 3:]]
        kind = pa.list_(pa.float32()) if version == "v2.1" else None
        columns = {
            name: pa.array(part.tolist(), kind or pa.list_(pa.float32(), part.shape[1]))
            for name, part in zip([*names, "action"], [*parts, actions])
        }
        columns |= {"frame_index": pa.array(range(length)), "episode_index": pa.array([number] * length)}
        if success:
            columns["next.success"] = pa.array([success[number]] * length)
        tables.append(pa.table(change(columns) if change else columns))
    chunk = folder / "data" / "chunk-000"
    chunk.mkdir(parents=True, exist_ok=True)
    if version == "v2.1":
        for number, table in enumerate(tables):
            pq.write_table(table, chunk / f"episode_{number:06}.parquet")
    else:
        pq.write_table(pa.concat_tables(tables[:2]), chunk / "file-000.parquet")
        pq.write_table(tables[2], chunk / "file-001.parquet")
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps({"codebase_version": version, "features": features}))
    return folder


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("environment_state", [False, True])
def test_a_data_set_of_lerobot_is_read(tmp_path, version, environment_state):
    recording = read_recording(lerobot_folder(tmp_path, version, environment_state=environment_state))
    check_is_as_recorded(recording)
    assert (recording.kind, recording.details) == ("lerobot", {"version": version})
    assert [episode.success for episode in recording.episodes] == [None] * 3


def test_failed_episodes_of_lerobot_are_left_out(tmp_path):
    check_is_as_recorded(read_recording(lerobot_folder(tmp_path, "v3.0", success=(False, True, True))), kept=(1, 2))


def test_steps_of_lerobot_are_in_the_order_of_their_index(tmp_path):
    def reverse(columns):
        return {name: column[::-1] for name, column in columns.items()}

    check_is_as_recorded(read_recording(lerobot_folder(tmp_path, "v2.1", change=reverse)))


def with_gaps(columns):
    return {**columns, "action": pa.array([None] * len(columns["action"]), pa.list_(pa.float32()))}


def of_text(columns):
    return {**columns, "action": pa.array(["left"] * len(columns["action"]))}


def ragged(columns):
    values = [[0.0] * (2 + row) for row in range(len(columns["action"]))]
    return {**columns, "action": pa.array(values, pa.list_(pa.float32()))}


def without_action(columns):
    return {name: column for name, column in columns.items() if name != "action"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_gaps, "`action` of .* must be numbers without gaps"),
        (of_text, "`action` of .* must be numbers"),
        (ragged, r"`action` of .* must have one size, but has \[2, 3, 4\]"),
        (without_action, r"must have the columns .* but lacks \['action'\]"),
    ],
)
def test_columns_that_are_no_vectors_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_recording(lerobot_folder(tmp_path, "v2.1", change=change))


def test_a_truncated_or_missing_file_of_lerobot_is_named(tmp_path):
    folder = lerobot_folder(tmp_path, "v3.0")
    path = folder / "data" / "chunk-000" / "file-001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OSError, match="file-001.parquet' is truncated or no Parquet"):
        read_recording(folder)
    for each in path.parent.iterdir():
        each.unlink()
    with pytest.raises(ValueError, match="must have Parquet files"):
        read_recording(folder)


def test_a_data_set_of_images_only_is_refused(tmp_path):
    folder = lerobot_folder(tmp_path, "v3.0")
    info = {"features": {"observation.images.top": {}, "action": {}}}
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"must have `observation.state` and `action`, but has \['observation.images"):
        read_recording(folder)
