"""The check of sizes finds long files and long functions, and counts nothing but code."""

from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


@pytest.fixture
def check_sizes(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import check_sizes

    monkeypatch.setattr(check_sizes, "ROOT", tmp_path)
    return check_sizes


@pytest.fixture
def findings_of(check_sizes, tmp_path):
    """What is found in a file of these lines."""

    def find(lines):
        (tmp_path / "module.py").write_text("\n".join(lines) + "\n")
        return list(check_sizes.findings(tmp_path / "module.py"))

    return find


def test_a_file_may_have_four_hundred_lines_and_no_more(findings_of):
    assert findings_of(["pass"] * 400) == []
    assert findings_of(["pass"] * 401) == ["module.py: 401 lines in a file, at most 400"]


def test_a_function_may_have_fifty_lines_of_code_and_no_more(findings_of):
    assert findings_of(["def f():", *["    pass"] * 49]) == []
    assert findings_of(["pass", "def f():", *["    pass"] * 50]) == ["module.py:2: 51 lines in `f`, at most 50"]
    assert len(findings_of(["class C:", "    async def f():", *["        pass"] * 50])) == 1


def test_docstrings_comments_and_blank_lines_are_not_counted(findings_of):
    docstring = ['    """What it does.', *["    More."] * 30, '    """']
    assert findings_of(["def f():", *docstring, *["", "    # A reason.", "    pass"] * 49]) == []


def test_the_command_exits_with_1_where_something_is_found(check_sizes, tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/long.py").write_text("pass\n" * 401)
    assert check_sizes.main([]) == 1
    assert "src/long.py: 401" in capsys.readouterr().out
    (tmp_path / "src/short.py").write_text("pass\n")
    assert check_sizes.main(["src/short.py"]) == 0
