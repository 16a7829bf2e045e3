"""What is a question, and which two are one."""

from __future__ import annotations

import json

import pytest

from ttrl import datasets
from ttrl.datasets import DatasetUnreadable
from ttrl.questions.question import Question, Unlearnable, from_prompt, from_request


def user(content):
    return {"role": "user", "content": content}


def ask(*messages, **fields):
    return from_request({"messages": list(messages), **fields}, max_chars=1000)


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}},
    ],
}
BLANK = ("", None, [], " \n", "\u00a0\u3000", "\u200b\ufeff", [{"type": "text", "text": "\t"}])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({}, Unlearnable.MALFORMED),
        ({"messages": []}, Unlearnable.MALFORMED),
        ({"messages": "hi"}, Unlearnable.MALFORMED),
        ({"messages": ["hi"]}, Unlearnable.MALFORMED),
        ({"messages": [{"role": ["user"], "content": "x"}]}, Unlearnable.MALFORMED),
        ({"messages": [user(7)]}, Unlearnable.MALFORMED),
        ({"messages": [user("a"), {"role": "assistant", "content": "b"}]}, Unlearnable.NO_QUESTION),
        *(({"messages": [user(blank)]}, Unlearnable.NO_QUESTION) for blank in BLANK),
        ({"messages": [user([{"type": "image_url", "image_url": {}}])]}, Unlearnable.NOT_TEXT),
        ({"messages": [{"role": "tool", "content": "b"}]}, Unlearnable.NO_QUESTION),
        (
            {"messages": [user(" "), CALL, {"role": "tool", "content": "b"}]},
            Unlearnable.NO_QUESTION,
        ),
        ({"messages": [user("a"), CALL]}, Unlearnable.NO_QUESTION),
        ({"messages": [user("a"), CALL, {"role": "tool", "content": 4}]}, Unlearnable.MALFORMED),
        ({"messages": [user("a"), {"role": "function", "content": "b"}]}, Unlearnable.MALFORMED),
        ({"messages": [user("x" * 1001)]}, Unlearnable.TOO_LONG),
        (
            {"messages": [user("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 56)]},
            Unlearnable.TOO_LONG,
        ),
    ],
)
def test_what_cannot_be_learned_from_has_a_reason(request_, reason):
    assert from_request(request_, max_chars=1000) is reason


def test_all_that_shapes_the_prompt_is_kept_and_nothing_else():
    found = ask(
        user("a"), tools=[{"type": "function"}], chat_template_kwargs={"x": 1}, temperature=0.3, n=4
    )
    assert isinstance(found, Question)
    assert set(found.body) == {"messages", "tools", "chat_template_kwargs"}


def test_the_vote_is_on_the_last_turn():
    found = ask(
        user("a"), {"role": "assistant", "content": "b"}, user([{"type": "text", "text": "c"}])
    )
    assert isinstance(found, Question)
    assert found.text == "c"


def test_after_a_tools_result_the_question_is_still_the_users():
    messages = [user("What is 2 plus 2?"), CALL, {"role": "tool", "content": "4", "id": "1"}]
    found = ask(*messages)
    assert isinstance(found, Question)
    assert found.body["messages"] == messages
    assert found.text == "What is 2 plus 2?"
    assert found.goes_on_from == ask(messages[0])
    assert found.cluster == ask(messages[0]).cluster


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (ask(user("a b")), ask(user(" a\n b ")), True),
        (ask(user("é")), ask(user("e\u0301")), True),
        (ask(user("a")), ask(user("A")), False),
        (ask(user("a")), ask({"role": "system", "content": "s"}, user("a")), False),
        (ask(user("a")), ask(user("a"), tools=[{}]), False),
        (ask(user("a"), temperature=0), ask(user("a"), temperature=1), True),
        (from_prompt("a"), ask(user("a")), True),
    ],
)
def test_which_questions_are_one(one, other, equal):
    assert (one.hash == other.hash) is equal


def test_a_file_is_read_without_its_labels(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [
        {"prompt": "one?", "answers": ["1"]},
        {"messages": [user("two?")], "label": "2"},
        {"prompt": " one? "},
        {"prompt": "three\u2028lines\x85?"},
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\r\n".join(lines) + "\n\n", encoding="utf-8")
    found = datasets.read_questions(path, max_chars=100)
    assert [question.text for question in found] == ["one?", "two?", "three\u2028lines\x85?"]
    assert "answers" not in json.dumps([dict(question.body) for question in found])


BATCH = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions"}
ROWS = [
    {"question": "one?", "answer": "1"},
    {"problem": "two?", "messages": [user("two?"), {"role": "assistant", "content": "2"}]},
    {**BATCH, "body": {"model": "m", "temperature": 0.5, "messages": [user("three?")]}},
    {**BATCH, "body": {"messages": [user("four?")]}},
]


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.txt"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "content",
    ["\n".join(map(json.dumps, ROWS)), json.dumps(ROWS), "\n" + json.dumps(ROWS, indent=2)],
    ids=["lines", "array", "indented array"],
)
def test_files_as_others_write_them(tmp_path, name, mark, content):
    path = tmp_path / name
    path.write_text(mark + content, encoding="utf-8")
    found = datasets.read_questions(path, max_chars=100)
    assert [question.text for question in found] == ["one?", "two?", "three?", "four?"]
    assert [question.sampling for question in found] == [None, None, {"temperature": 0.5}, None]


def test_the_answers_beside_questions(tmp_path):
    rows = [
        {"prompt": "one?", "answers": ["1", 1.0]},
        {"question": "two?", "answer": "1 and 1 are\n#### 2"},
        {"problem": "three?", "answer": None},
        {"prompt": "four?", "answer": {"value": "4"}},
        {**BATCH, "body": {"messages": [user("five?")]}, "answer": 5},
    ]
    path = tmp_path / "q.json"
    path.write_text(json.dumps(rows))
    assert datasets.read_answers(path, max_chars=100) == {
        from_prompt("one?").hash: ("1", "1.0"),
        from_prompt("two?").hash: ("2",),
        from_prompt("five?").hash: ("5",),
    }
    (tmp_path / "q.txt").write_text("one?")
    assert datasets.read_answers(tmp_path / "q.txt", max_chars=100) == {}


def test_a_byte_order_mark_is_no_part_of_a_question(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("one?\n[ { what? }\n", encoding="utf-8-sig")
    assert [q.text for q in datasets.read_questions(path, max_chars=100)] == ["one?", "[ { what? }"]


def test_an_array_of_texts(tmp_path):
    for name, found in (("q.json", ["one?", "two?"]), ("q.txt", ['["one?",', '"two?"]'])):
        path = tmp_path / name
        path.write_text('["one?",\n "two?"]')
        assert [q.text for q in datasets.read_questions(path, max_chars=100)] == found


def test_plain_lines_are_questions(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("one?\n\ntwo?\n")
    assert [q.text for q in datasets.read_questions(path, max_chars=100)] == ["one?", "two?"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no questions"),
        (b"{broken", "q.jsonl:1: this line is not valid JSON"),
        (b'{"prompt": "a"}\n{"text": "b"}', "q.jsonl:2: expected"),
        (b'{"prompt": 7}', "q.jsonl:1: expected"),
        (b"7", "q.jsonl:1: expected"),
        (b"[]", "no questions"),
        (b'["a", 7]', "q.jsonl:1: expected"),
        (b'[{"prompt": "a"},\n\n {"prompt": "b"},\n {"text": "c"}]', "q.jsonl:4: expected"),
        (b'[\n{"prompt": "a"},\n{"prompt" "b"}]', "q.jsonl:3: this array is not valid JSON"),
        (b'[{"prompt": "a"}]\n[{"prompt": "b"}]', "q.jsonl:2: this array is not valid JSON"),
        (b'{"body": {"input": "a"}}', "q.jsonl:1: expected"),
        (b'{"messages": []}', "malformed"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_an_unreadable_file_says_where(tmp_path, content, message):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetUnreadable, match=message):
        datasets.read_questions(path, max_chars=100)
