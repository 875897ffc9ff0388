"""What tests of commands check: one line of error, and the files that were written."""

from pathlib import Path


def files_below(folder):
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def assert_bad_input(result, message):
    assert result.code == 2
    assert message in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    assert result.out == ""
