"""Which requests teach, and how an operator sees it before."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from click.testing import CliRunner

from serve.cli import main
from serve.gateway.keys import Key
from tests.stores import ask
from ttrl.config import Config, RecordConfig, Rule
from ttrl.config.loading import ConfigError, load
from ttrl.questions.question import Question, from_request
from ttrl.questions.screening import SIDE_PROMPTS, Circumstances, deciding, rules_of


def question(user: str, system: str | None = None) -> Question:
    told = [] if system is None else [{"role": "system", "content": system}]
    messages = [*told, {"role": "user", "content": user}]
    found = from_request({"messages": messages}, max_chars=100_000)
    assert isinstance(found, Question)
    return found


HISTORY = "<chat_history>\nUSER: Hi\n</chat_history>"
HERE = Circumstances("nightly", "demo", {"x-app": ["one", "two"]})


@pytest.mark.parametrize(
    ("rule", "around", "decides"),
    [
        ({}, HERE, True),
        ({"key": "night*"}, HERE, True),
        ({"key": "night"}, HERE, False),
        ({"key": ["day", "NIGHTLY"]}, HERE, True),
        ({"key": "?*"}, Circumstances("", "demo", {}), False),
        ({"model": "demo"}, HERE, True),
        ({"header": {"X-App": "two"}}, HERE, True),
        ({"header": {"X-App": "three"}}, HERE, False),
        ({"header": {"X-Other": "*"}}, HERE, False),
        ({"user": "*plus\n*"}, HERE, True),
        ({"user": "2 plus"}, HERE, False),
        ({"user": "*what*", "system": "*teacher*"}, HERE, True),
        ({"user": "*what*", "system": "*poet*"}, HERE, False),
        ({"key": "nightly", "model": "other"}, HERE, False),
        ({"model": "demo"}, Circumstances("nightly"), None),
        ({"model": "demo", "key": "daily"}, Circumstances("nightly"), False),
    ],
)
def test_a_rule_needs_all_that_it_names(rule, around, decides):
    asked = question(" What is 2 plus\n2? ", "You are a Teacher.")
    found, certain = deciding([Rule(name="one", **rule)], asked, around)
    assert (found is not None if certain else None) is decides


def test_the_first_rule_decides_and_the_built_in_ones_come_last():
    ours = {"name": "ours", "user": "*history*", "teach": True}
    side = question(f"### Task:\nTitle it.\n{HISTORY}")
    for rules, default, decides in (
        ([], True, "open_webui"), ([ours], True, "ours"), ([], False, None),
    ):  # fmt: skip
        record = RecordConfig.model_validate({"rules": rules, "default_rules": default})
        found, _ = deciding(rules_of(record), side, HERE)
        assert (found and found.name) == decides


@pytest.mark.parametrize(
    ("user", "system", "left_out_by"),
    [
        (f"### Task:\nGenerate a title.\n### Output:\nJSON\n{HISTORY}", None, "open_webui"),
        (f"### Task:\nSuggest follow-ups.\n{HISTORY}", None, "open_webui"),
        (f"### Task:\nComplete <text>.\n{HISTORY}\n<text>a</text>", None, "open_webui"),
        ("Query: sums", 'Available Tools: []\n{"tool_calls": []}', "open_webui_tools"),
        ("Analyze this conversation and provide:\n1. The detected language\n2. A title\n\nHi",
         None, "librechat"),
        ("Provide a concise title for the conversation.\n\nConversation:\nHi", None, "librechat"),
        ("Please generate a four to five word title", None, "titles"),
        ("Hi", "You code. Analyze if this message indicates a new conversation topic.",
         "titles_by_system"),
        ("### Task:\nAnswer with the context.\n<context>Sums</context>\n2 plus 2?", None, None),
        ("What is the history of the tag?", None, None),
        ("Provide a concise title for my essay about conversation.", None, None),
        ("Please write a short poem with the title Conversation", None, None),
        ("What does `<chat_history>` mean in a template?\n### Task: </chat_history>", None, None),
        ("Hi", "You help people. Give each conversation a title when asked to.", None),
    ],
)  # fmt: skip
def test_side_prompts_of_chat_interfaces_and_what_only_looks_like_one(user, system, left_out_by):
    found, certain = deciding(SIDE_PROMPTS, question(user, system), HERE)
    assert (found and found.name, certain) == (left_out_by, True)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["*a" * 20 + "*b", "?*" * 20 + "b", "*[a-z]" * 20 + "b"])
def test_a_text_made_to_be_slow_is_not(pattern):
    """What tries a part of the pattern at a second place would take years."""
    slow = Rule(name="one", user=(pattern,))
    assert deciding([slow, *SIDE_PROMPTS], question("a" * 32_000), HERE) == (None, True)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("[{name: a}, {name: a}]", "two rules with the name a"),
        ("[{name: A b}]", "rules.0.name"),
        ("[{name: a, user: ''}]", "rules.0.user"),
        ("[{name: a, users: x}]", "unknown setting"),
        ("[{name: a, header: {'X y': z}}]", "rules.0.header"),
    ],
)
def test_a_rule_that_cannot_be_says_why(tmp_path, rules, message):
    file = tmp_path / "ttrl.yaml"
    file.write_text(f"record: {{rules: {rules}}}")
    with pytest.raises(ConfigError, match=message):
        load(file, environ={})


KEY = hashlib.sha256(b"nightly").hexdigest()
RULES = [
    {"name": "night", "key": "nightly"},
    {"name": "app", "header": {"X-App": "bot"}, "user": "*2*"},
]


@pytest.fixture
def ttrl(tmp_path):
    keys, file = tmp_path / "keys.yaml", tmp_path / "ttrl.yaml"
    keys.write_text(yaml.safe_dump([Key(name="nightly", sha256=KEY).model_dump()]))
    keys.chmod(0o600)
    file.write_text(yaml.safe_dump({"gateway": {"keys": str(keys)}, "record": {"rules": RULES}}))

    def run(*words: str) -> object:
        words = ("questions", "rules", *words, "-c", str(file), "--state-dir", str(tmp_path))
        done = CliRunner().invoke(main, [*words, "--json"])
        assert done.exit_code == 0, done.output
        assert CliRunner().invoke(main, words).exit_code == 0
        return json.loads(done.stdout)

    return run


def test_rules_are_listed_in_their_order(ttrl):
    rows = ttrl()
    assert [row["name"] for row in rows] == ["night", "app", *(r.name for r in SIDE_PROMPTS)]
    assert rows[1]["if"]["header"] == {"X-App": ["bot"]}


def test_a_preview_of_what_was_recorded(ttrl, store):
    ask(store, "By night?", KEY)
    ask(store, "What is 2 plus 2?")
    for _ in range(3):
        ask(store, "What else?")
    ask(store, f"### Task:\nTags.\n{HISTORY}")
    assert sorted(ttrl("test"), key=lambda row: row["by"]) == [
        {"by": "no_rule", "teach": True, "questions": 1, "asked": 3, "examples": ["What else?"]},
        {"by": "rule_app", "teach": None, "questions": 1, "asked": 1,
         "examples": ["What is 2 plus 2?"]},
        {"by": "rule_night", "teach": False, "questions": 1, "asked": 1, "examples": ["By night?"]},
        {"by": "rule_open_webui", "teach": False, "questions": 1, "asked": 1,
         "examples": [f"### Task:\nTags.\n{HISTORY}"]},
    ]  # fmt: skip
    assert {each.state for each in store.questions.page(9)} == {"new"}


def test_a_preview_of_requests_in_a_file(ttrl, tmp_path):
    hi = [{"role": "user", "content": "2?"}]
    rows = [
        {"messages": hi, "headers": {"x-app": "bot"}, "key": ""},
        {"messages": hi, "headers": {"x-app": "human"}, "key": ""},
        {"messages": hi, "key": ""},
        {"url": "/v1/responses", "body": {"input": "2?", "previous_response_id": "1"}},
        {"input": "Hi?", "key": "nightly"},
        {"system": "s", "max_tokens": 1, "messages": [{"role": "user", "content": []}]},
        {"prompt": "Hi?", "key": ""},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    found = {(row["by"], row["teach"]): row["questions"] for row in ttrl("test", str(file))}
    assert found == {
        ("rule_app", False): 1, ("no_rule", True): 2, ("rule_app", None): 1,
        ("unknown_context", False): 1, ("rule_night", False): 1, ("no_question", False): 1,
    }  # fmt: skip


def test_rules_survive_the_way_to_a_worker():
    config = Config.model_validate({"record": {"rules": RULES}})
    assert Config.model_validate(config.model_dump(mode="json")) == config
