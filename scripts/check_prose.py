"""Holds what people read to short sentences and to one word for one thing.

    python scripts/check_prose.py            # everything; exit code 1 and a line for every finding
    python scripts/check_prose.py README.md src/nnit_diffusers/cli

Read are Markdown files and card templates without their code, and of Python files the docstrings, comments and
messages. A docstring of an argument is what `--help` prints, so help is held to the same.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "*.md",
    "docs/**/*.md",
    "nnit/*/README.md",
    "space/*.md",
    "examples/**/*.md",
    "src/**/*.jinja",
    "src/**/*.md",
    ".github/**/*.md",
)
CODE = ("src/**/*.py", "examples/**/*.py", "benchmarks/*.py", "space/*.py", "scripts/*.py", "setup.py")
MAX_WORDS = 40

# The field's word for a thing, and what not to write instead. A word with another, common meaning is matched only
# where its neighbours give it the meaning that is not wanted.
WORDS = {
    "metrics, results": [r"figures?(?!\s+\d)"],
    "training run": [
        r"trainings",
        r"(?:an?|another|each|every|one|this|that|whole|short) training"
        r"(?=[.,;:)]|\s+(?:of|on|that|which|and|is|was|with|in|to|from)\b)",
    ],
    "generates networks": [r"(?:write|writes|wrote|writing) (?:\w+ ){0,2}(?:networks|weights)(?! (?:of|to) an? file)"],
    "GHN samples": [r"(?:GHN|hypernetwork) (?:writes|wrote)"],
    "resumes, continues": [r"(?:go|goes|going|went|gone) on"],
    "requested": [r"asked for"],
    "complete, intact": [r"wholes?"],
    "reported, specifies": [r"told|tells?|says?|said"],
    "architecture-only samples": [r"bare architectures?"],
    "minimum": [r"worst"],
    "best 10 of 100 (chosen on validation)": [r"selected"],
    "success at episode end": [r"at the end"],
    "nearest-neighbour, pairwise distance ratio": [r"[Mm]utual", r"[Nn]earest, ratio"],
    "effective dimensionality (participation ratio)": [r"Directions", r"in how many directions"],
    "constraint violations": [r"[Rr]equests? broken"],
    "unconditional": [r"[Jj]oint (?:generation|sampling|samples|networks)", r"jointly"],
    "novelty": [r"comparison"],
    "region": [
        r"(?:training|held-out|held out|seen|deeper|wider|narrower) splits?",
        r"splits? of architectures",
        r"architectures? (?:a|of a|of each|of every|of the) split",
    ],
    "evaluations": [r"looks"],
    "fix": [r"mend(?:s|ed|ing)?"],
    "untrusted files": [r"strangers?"],
}
_WORDS = {
    re.compile(rf"(?<![\w`-])(?:{pattern})(?![\w`])"): wanted
    for wanted, patterns in WORDS.items()
    for pattern in patterns
}
# Figures that matplotlib draws are called so by everyone.
DRAWING = re.compile(r"matplotlib|examples/figures/|draw|picture|caption|axes", re.IGNORECASE)


class Text(NamedTuple):
    """A piece of prose and where it stands."""

    path: Path
    line: int
    text: str


def documents(path: Path) -> Iterator[Text]:
    """Paragraphs of a Markdown file or template: no code, no tables' rules, no header of metadata."""
    text = path.read_text(encoding="utf-8")

    def blank(match: re.Match[str]) -> str:
        """Nothing, on as many lines: what follows keeps its line number."""
        return "\n" * match.group().count("\n")

    text = re.sub(r"\A---\n.*?\n---\n", blank, text, flags=re.DOTALL)
    text = re.sub(r"^( *)```.*?^\1```", blank, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|\{%.*?%\}|\{\{.*?\}\}", blank, text, flags=re.DOTALL)
    number = 1
    # A blank line, an item of a list, a heading, a row of a table: each begins prose of its own.
    for block in re.split(r"(\n(?=\s*\n|\s*[-*|#>]|\s*\d+\. )|\n\s*\n)", text):
        yield Text(path, number + len(block) - len(block.lstrip("\n")), block)
        number += block.count("\n")


def code_prose(path: Path) -> Iterator[Text]:
    """Docstrings, messages and comments of a Python file."""
    source = path.read_text(encoding="utf-8")
    # docstrings and messages: every string, an f-string as one
    nodes = list(ast.walk(ast.parse(source)))
    pieces = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield from _message(path, node, "".join(str(part) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            yield from _message(path, node, node.value)
    # comments: the lines of one together
    comment: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comment.append(token.string.lstrip("#!: "))
        elif token.type != tokenize.NL and comment:
            yield Text(path, token.start[0], " ".join(comment))
            comment = []


def _message(path: Path, node: ast.expr, text: str) -> Iterator[Text]:
    """A string that is prose: words between blanks, not an identifier, a path or a pattern."""
    if " " not in text.strip() or text.startswith("(?"):
        return
    for paragraph in re.split(
        r"\n\s*\n|\n(?=\s*[-*] )|\n(?=\s+`?\w+`? \()", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    ):
        yield Text(path, node.lineno, paragraph)


def plain(text: str) -> str:
    """Prose without what stands in backticks, links' addresses, and tags."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "`x`", text)
    return " ".join(re.sub(r"<[^>]*>|https?://\S+", " ", text).split())


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])[)\"']?\s+(?=[A-Z\[`*\"(])|\s\|\s|:\s(?=$)", text)


def findings(piece: Text) -> Iterator[str]:
    """What is wrong with a piece of prose."""
    text = plain(piece.text)
    place = f"{piece.path.relative_to(ROOT)}:{piece.line}"
    for sentence in sentences(text):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        if len(words) > MAX_WORDS:
            yield f"{place}: {len(words)} words in a sentence, at most {MAX_WORDS}: {' '.join(words[:8])} …"
    for pattern, wanted in _WORDS.items():
        match = pattern.search(text)
        if match is None or (match.group().startswith("figure") and DRAWING.search(str(piece.path) + text)):
            continue
        around = text[max(0, match.start() - 25) : match.end() + 25]
        yield f"{place}: {match.group()!r}, write {wanted!r}: … {around} …"


def read(path: Path) -> Iterator[Text]:
    yield from code_prose(path) if path.suffix == ".py" else documents(path)


def main(names: list[str]) -> int:
    chosen = [Path(name).resolve() for name in names]
    paths = sorted({path for pattern in (*DOCUMENTS, *CODE) for path in ROOT.glob(pattern)} - {Path(__file__)})
    found = [
        finding
        for path in paths
        if not chosen or any(path == one or one in path.parents for one in chosen)
        for piece in read(path)
        for finding in findings(piece)
    ]
    print("\n".join(found) or "Prose: nothing found.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
