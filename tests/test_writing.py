"""Atomic writes: readers see the old file or folder or the new one, and a failed write leaves nothing."""

import json
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from nnit_diffusers.writing import (
    replace_folder,
    replacing_file,
    replacing_folder,
    write_bytes,
    write_first_free,
    write_json,
)


@contextmanager
def full_disk(most=1000):
    """No file can have more bytes, as on a disk with no more space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content_of(folder):
    """Every file of a folder, hidden ones too, with its text; every empty folder with `None`."""
    paths = [path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())]
    return {path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None for path in paths}


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


def write_in_two_parts(path, content):
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        file.write(content[:500])
        file.flush()
        file.write(content[500:])


def write_all(folder, content):
    with replacing_folder(folder) as new:
        (new / "first.txt").write_bytes(b"new")
        (new / "second.txt").write_bytes(content)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("file.txt", write_bytes),
        ("file.txt", write_in_two_parts),
        ("file.txt", lambda path, content: write_json(path, content.decode())),
        ("other.txt", lambda path, content: write_first_free([path], content)),
        ("folder", write_all),
    ],
    ids=["bytes", "parts", "json", "first free", "folder"],
)
def test_a_full_disk_keeps_what_was_there_and_leaves_nothing_half_written(tmp_path, name, write):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "first.txt").write_text("old")
    (tmp_path / "file.txt").write_text("old")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write(tmp_path / name, b"n" * 2000)
    assert content_of(tmp_path) == {"folder/first.txt": "old", "file.txt": "old"}
    write(tmp_path / name, b"n" * 2000)
    assert "n" * 2000 in "".join(content_of(tmp_path).values())


def test_a_temporary_file_has_the_name_of_the_file_and_parent_folders_are_created(tmp_path):
    with replacing_file(tmp_path / "films" / "rollout.mp4") as temporary:
        assert temporary.name == "rollout.mp4"
        assert not temporary.exists()
        temporary.write_text("film")
    assert content_of(tmp_path) == {"films/rollout.mp4": "film"}


def test_a_file_that_the_block_does_not_write_is_an_error_and_the_old_one_stays(tmp_path):
    (tmp_path / "index.txt").write_text("old")
    with pytest.raises(FileNotFoundError), replacing_file(tmp_path / "index.txt"):
        pass
    assert content_of(tmp_path) == {"index.txt": "old"}


def test_a_file_replaces_no_other_where_the_first_writer_wins(tmp_path):
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    assert [write_first_free(paths, text) for text in (b"0", b"1", b"2")] == paths
    with pytest.raises(ValueError, match="there is a file at each"):
        write_first_free(paths, b"3")
    assert content_of(tmp_path) == {"0.txt": "0", "1.txt": "1", "2.txt": "2"}


def test_a_folder_that_cannot_be_moved_leaves_the_old_one_in_place(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept.txt").write_text("old")
    with pytest.raises(FileNotFoundError, match="missing"):
        replace_folder(tmp_path / "missing", tmp_path / "old")
    with pytest.raises(FileNotFoundError, match="missing"):
        replace_folder(tmp_path / "missing", tmp_path / "new")
    assert content_of(tmp_path) == {"old/kept.txt": "old"}


def test_files_can_be_read_by_those_who_can_read_others(tmp_path):
    (tmp_path / "other.txt").write_text("other")
    write_bytes(tmp_path / "file.txt", b"file")
    assert os.stat(tmp_path / "file.txt").st_mode == os.stat(tmp_path / "other.txt").st_mode
