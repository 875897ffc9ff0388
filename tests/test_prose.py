"""The check of what people read finds what it is for, and nothing in good prose."""

from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


@pytest.fixture
def check_prose(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import check_prose

    return check_prose


@pytest.fixture
def findings_of(check_prose, monkeypatch, tmp_path):
    """What is found in a file of this content, without its place."""
    monkeypatch.setattr(check_prose, "ROOT", tmp_path)

    def find(content, name="page.md"):
        path = tmp_path / name
        path.write_text(content)
        return [finding for piece in check_prose.read(path) for finding in check_prose.findings(piece)]

    return find


def test_a_sentence_may_have_forty_words_and_no_more(findings_of):
    assert findings_of("word " * 39 + "word.") == []
    (finding,) = findings_of("word " * 40 + "word.")
    assert finding.startswith("page.md:1: 41 words in a sentence")


def test_sentences_items_and_cells_are_counted_by_themselves(findings_of):
    half = "word " * 25
    assert findings_of(f"{half}end. Another {half}end.") == []
    assert findings_of(f"- {half}\n- {half}") == []
    assert findings_of(f"| {half} | {half} |\n|---|---|\n| {half} | {half} |") == []
    assert len(findings_of(f"- {half}\n  {half}")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The figures are good.",
        "It took a training of an hour.",
        "Three trainings failed.",
        "It writes networks.",
        "What the GHN wrote.",
        "It goes on from there.",
        "The architecture asked for.",
        "The whole file.",
        "The log says so.",
        "With bare architectures.",
        "The worst policy.",
        "The selected networks.",
        "Success at the end.",
        "Mutual distances.",
        "Directions of the weights.",
        "Requests broken: 0.",
        "The joint generation.",
        "A comparison with others.",
        "Architectures of the training split.",
        "After two looks.",
        "This mends it.",
        "Files of strangers.",
    ],
)
def test_every_word_of_the_glossary_is_found(findings_of, text):
    assert len(findings_of(text)) == 1
    assert findings_of(f'"""{text}"""\n', "module.py") != []
    assert findings_of(f"# {text}\npass\n", "module.py") != []


@pytest.mark.parametrize(
    "text",
    [
        "The metrics of a training run on the validation split.",
        "Joint-delta actions, and the joints' positions.",
        "The training data, and a training step.",
        "`nnit selected whole` is code, and so is:\n\n```\nthe worst whole figures\n```\n",
        "See [the results](https://example.org/worst).",
    ],
)
def test_good_prose_and_code_pass(findings_of, text):
    assert findings_of(text) == []


def test_messages_and_help_are_read_and_plain_code_is_not(findings_of):
    lines = [
        "def f(worst):",
        '    """Fine."""',
        '    whole = worst["selected"]',
        '    raise ValueError(f"the worst of {whole}")',
    ]
    module = "\n".join(lines) + "\n"
    (finding,) = findings_of(module, "module.py")
    assert finding.startswith("module.py:4: 'worst'")


def test_the_command_exits_with_1_where_something_is_found(check_prose, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(check_prose, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("The worst.")
    assert check_prose.main([]) == 1
    assert "README.md:1" in capsys.readouterr().out
    (tmp_path / "README.md").write_text("The minimum.")
    assert check_prose.main([]) == 0
