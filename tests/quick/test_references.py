"""Right answers from a file, and what they are worth."""

from __future__ import annotations

import json

import pytest

from jobs import process
from ttrl import datasets
from ttrl.answers import AnswerKind
from ttrl.config import Config
from ttrl.datasets import DatasetUnreadable
from ttrl.meaning import Letters
from ttrl.questions.question import from_prompt

ASKED = "Who pays?"


def lines(tmp_path, *rows):
    file = tmp_path / "references.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return file


def test_by_question_and_more_than_one(tmp_path):
    file = lines(
        tmp_path,
        {"prompt": ASKED, "reference": "Anna pays."},
        "",
        {"messages": [{"role": "user", "content": ASKED}], "reference": ["Anna.", "She does."]},
        {"prompt": "When?", "reference": "Now.", "note": "anything else is not read"},
    )
    assert datasets.read_references(file, max_chars=100) == {
        from_prompt(ASKED).hash: ("Anna pays.", "Anna.", "She does."),
        from_prompt("When?").hash: ("Now.",),
    }


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "expected {"),
        ({"prompt": ASKED}, "no `reference`"),
        ({"prompt": ASKED, "reference": [1]}, "no `reference`"),
        ({"prompt": ASKED, "reference": ["Anna.", ""]}, "no `reference`"),
        ({"prompt": ASKED, "reference": []}, "no `reference`"),
        ({"prompt": ASKED, "reference": 5}, "no `reference`"),
        ({"prompt": ASKED, "reference": True}, "no `reference`"),
        ({"prompt": ASKED, "reference": {"a": 1}}, "no `reference`"),
        ({"prompt": ASKED, "reference": " "}, "no `reference`"),
        ({"reference": "Anna."}, "expected {"),
    ],
)
def test_a_bad_line_is_named_and_not_quoted(tmp_path, row, says):
    with pytest.raises(DatasetUnreadable, match=r"references\.jsonl:2: ") as caught:
        datasets.read_references(
            lines(tmp_path, {"prompt": "Q", "reference": "A"}, row), max_chars=100
        )
    assert says in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(DatasetUnreadable, match="cannot read"):
        datasets.read_references(tmp_path / "none", max_chars=1)
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetUnreadable, match="UTF-8"):
        datasets.read_references(tmp_path / "latin", max_chars=1)


def test_as_configured(tmp_path):
    file = lines(tmp_path, {"prompt": ASKED, "reference": "Anna."})
    config = Config(vote={"kind": "free"}, meaning={"alike": 0.4, "references": file})
    made = process.reader_for(config)
    assert (made.kind, made.likeness.alike) == (AnswerKind.FREE, 0.4)
    assert isinstance(made.likeness, Letters)
    assert process.known_answers(config) == {from_prompt(ASKED).hash: ("Anna.",)}
    assert process.known_answers(Config()) == {}


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"meaning\.model, which is not set"):
        Config(meaning={"by": "pairs"})
    with pytest.raises(ValueError, match="references"):
        Config(meaning={"references": tmp_path / "none"})


def test_a_model_needs_the_extra(monkeypatch):
    monkeypatch.setattr("ttrl.config.learning.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install 'sentence-transformers>="):
        Config(meaning={"model": "m"})
