"""Holds files to a length that is read at once, and functions to a screen.

    python scripts/check_sizes.py            # everything; exit code 1 and a line for every finding
    python scripts/check_sizes.py src tests/cli

A function's lines are those of code: its docstring, comments and blank lines are not counted.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).parents[1]
CODE = ("setup.py", "src", "examples", "benchmarks", "space", "scripts", "tests")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def python_files(names: list[str]) -> list[Path]:
    """The Python files with these names, relative to the root, and those in folders with these names."""
    found = [[path] if path.is_file() else path.rglob("*.py") for path in (ROOT / name for name in names)]
    return sorted({path for paths in found for path in paths})


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Lines of a function's code, among the `lines` of its file."""
    first = function.body[0]
    docstring = range(first.lineno, (first.end_lineno or 0) + 1) if ast.get_docstring(function) is not None else ()
    return sum(
        number not in docstring and not lines[number - 1].strip().startswith("#") and lines[number - 1].strip() != ""
        for number in range(function.lineno, (function.end_lineno or 0) + 1)
    )


def findings(path: Path) -> Iterator[str]:
    """What is too long in a file."""
    source, place = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
    lines = source.splitlines()
    if len(lines) > MAX_FILE_LINES:
        yield f"{place}: {len(lines)} lines in a file, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = code_lines(node, lines)
            if length > MAX_FUNCTION_LINES:
                yield f"{place}:{node.lineno}: {length} lines in `{node.name}`, at most {MAX_FUNCTION_LINES}"


def main(names: list[str]) -> int:
    found = [finding for path in python_files(names or list(CODE)) for finding in findings(path)]
    print("\n".join(found) or "Sizes: nothing found.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
