"""How users sample: what is recorded of it, who shares it, and how it is said."""

from __future__ import annotations

import json
import math
import time
from collections import Counter

import pytest

from tests.stores import both_stores
from ttrl import datasets
from ttrl.questions.question import SHAPING_FIELDS, from_prompt, from_request
from ttrl.questions.regime import FIELDS, Regime, Usage, ends, evaluated, sampling_of
from ttrl.store import Store
from ttrl.store.questions import Origin, Recorded


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        ({}, {}),
        ({"temperature": 0.7, "top_k": -1}, {"temperature": 0.7, "top_k": -1}),
        ({"temperature": None, "stop": None, "max_tokens": None}, {}),
        ({"stop": "###"}, {"stop": "###"}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_token_ids": [1, 2]}, {"stop_token_ids": [1, 2]}),
        ({"logit_bias": {"50": -100}}, {"logit_bias": {"50": -100}}),
        ({"max_tokens": 5, "seed": 3, "n": 4, "user": "ada", "stream": True}, {"max_tokens": 5}),
        ({"temperature": "hot", "top_p": True, "top_k": 1.5, "ignore_eos": 1}, {}),
        ({"temperature": math.nan, "top_p": math.inf, "top_k": 10**400}, {}),
        ({"stop": 7, "stop_token_ids": ["a"], "bad_words": "a", "logit_bias": {"1": "x"}}, {}),
        ({"stop": ["a", 7]}, {}),
        ({"stop": "x" * 257}, {}),
        ({"stop": ["x"] * 17}, {}),
        ({"stop_token_ids": list(range(1025))}, {}),
        ({"logit_bias": {"x" * 33: 1}}, {}),
    ],
)  # fmt: skip
def test_what_is_recorded_of_a_request(request_, kept):
    question = from_request(
        {"messages": [{"role": "user", "content": "a"}], **request_}, max_chars=99
    )
    assert question.sampling == kept
    assert question == from_request({"messages": question.body["messages"]}, max_chars=99)


def test_the_largest_that_is_recorded_is_small():
    largest = {
        "stop": ["\0" * 256] * 16,
        "bad_words": ["\0" * 256] * 16,
        "stop_token_ids": [-(2**63)] * 1024,
        "allowed_token_ids": [-(2**63)] * 1024,
        "logit_bias": {"\0" * 28 + f"{n:04}": 1e-300 for n in range(1024)},
    }
    assert sampling_of(largest) == largest
    assert len(json.dumps(sampling_of(largest)).encode()) < 350_000


@pytest.mark.parametrize(
    ("sent", "shared"),
    [
        (None, {}),
        ({"temperature": 0.2, "max_tokens": 9, "ignore_eos": True, "logit_bias": {"1": 1}}, {}),
        ({"stop": "#", "stop_token_ids": [7]}, {"stop": "#", "stop_token_ids": [7]}),
        ({"min_tokens": 100}, {"min_tokens": 100}),
        ({"min_tokens": 101}, {}),
        (
            {"include_stop_str_in_output": True, "skip_special_tokens": False},
            {"include_stop_str_in_output": True, "skip_special_tokens": False},
        ),
    ],
)
def test_training_samples_share_how_an_answer_ends(sent, shared):
    assert ends(sent, 100) == shared


COLD, WARM = {"temperature": 0.2, "max_tokens": 50}, {"temperature": 0.9}
MIXED = Usage.of([(COLD, 30), ({**WARM, "stop": "#", "logit_bias": {"1": 1}}, 60), ({}, 10)])


@pytest.mark.parametrize(
    ("sent", "usage", "fields"),
    [
        ({"temperature": 0.5}, MIXED, {"temperature": 0.5, "max_tokens": 64}),
        ({}, MIXED, {"max_tokens": 64}),
        ({"max_tokens": 4000, "stop": "#"}, MIXED, {"max_tokens": 4000, "stop": "#"}),
        ({"max_completion_tokens": 8}, MIXED, {"max_completion_tokens": 8}),
        ({"max_completion_tokens": 0}, MIXED, {"max_completion_tokens": 0, "max_tokens": 64}),
        (None, Usage(), {"max_tokens": 64}),
        (None, Usage.of([(COLD, 1)]), {"temperature": 0.2, "max_tokens": 64}),
        (None, Usage.of([({"max_tokens": 1}, 9)]), {"max_tokens": 64}),
        (None, Usage.of([({"max_completion_tokens": 1}, 9)]), {"max_tokens": 64}),
        (None, Usage.of([({**WARM, "stop": "#"}, 7)]), {**WARM, "max_tokens": 64}),
        (None, Usage.of([({"ignore_eos": True}, 7)]), {"max_tokens": 64}),
    ],
)  # fmt: skip
def test_which_sampling_a_probe_gets(sent, usage, fields):
    assert evaluated("some hash", sent, usage, max_tokens=64).fields == fields


@pytest.mark.parametrize(
    ("sent", "users"),
    [
        ({"max_tokens": 1}, True),
        ({"max_completion_tokens": 8}, True),
        ({"max_completion_tokens": 0}, False),
        ({"temperature": 0.5}, False),
        (None, False),
    ],
)
def test_whose_length_it_is(sent, users):
    regime = evaluated("some hash", sent, MIXED, max_tokens=64)
    assert regime.users_length is users
    assert regime.at_zero().users_length is users


def test_what_nobody_asked_is_sampled_as_often_as_others_are():
    drawn = Counter(
        evaluated(str(number), None, MIXED, max_tokens=64).fields.get("temperature")
        for number in range(10_000)
    )
    assert {each: count / 10_000 for each, count in drawn.items()} == {
        0.2: pytest.approx(0.3, abs=0.02),
        0.9: pytest.approx(0.6, abs=0.02),
        None: pytest.approx(0.1, abs=0.02),
    }


def test_a_few_questions_more_change_the_sampling_of_few_probes():
    """So that a gate can be compared with the one before."""
    grown = Usage.of([(COLD, 33), (WARM, 60), ({}, 10)])
    keys = [str(number) for number in range(2000)]
    assert [MIXED.borrow(key) for key in keys] == [MIXED.borrow(key) for key in keys]
    changed = sum(MIXED.borrow(key) != grown.borrow(key) for key in keys)
    assert 0 < changed < 0.06 * len(keys)


@pytest.mark.parametrize(
    ("fields", "greedy"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0, "top_p": 0.5}, True),
        ({"temperature": 0.01}, False),
        ({"temperature": 1, "top_k": 1}, True),
        ({"top_k": 0}, False),
        ({}, False),
    ],
)
def test_what_is_greedy(fields, greedy):
    assert Regime({**fields, "max_tokens": 1}).greedy == greedy
    assert Regime({**fields, "max_tokens": 1}).at_zero().greedy


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        ([], "with the engine's defaults: too little traffic to know how users sample"),
        ([({}, 4)], "as users ask: engine default (100%)"),
        (
            [({"temperature": 0.7}, 50), ({"temperature": 0.7, "top_p": 0.9}, 11), ({}, 39)],
            "as users ask: temperature 0.7 (61%), engine default (39%)",
        ),
        (
            [({"temperature": n / 10}, 10 - n) for n in range(5)],
            "as users ask: temperature 0 (25%), temperature 0.1 (22%), temperature 0.2 (20%), "
            "others (32%)",
        ),
    ],
)
def test_how_it_is_said(counted, words):
    assert str(Usage.of(counted)) == words


def ask(store: Store, prompt: str, at: float = 1.0, origin: Origin = Origin.TRAFFIC, **fields):
    question = from_request(
        {"messages": [{"role": "user", "content": prompt}], **fields}, max_chars=999
    )
    store.questions.record([Recorded(question, at)], holdout=0, origin=origin)


def sampling(store: Store):
    return {each.question.text: each.question.sampling for each in store.questions.page(99)}


@both_stores
def test_the_newest_way_of_a_question_is_kept(store):
    ask(store, "a", temperature=0.5, stop=["#"])
    ask(store, "a", temperature=0.7)
    ask(store, "b", top_p=0.9)
    store.questions.record([Recorded(from_prompt("b"), 2.0)], holdout=0, origin=Origin.FILE)
    store.questions.record([Recorded(from_prompt("c"), 2.0)], holdout=0)
    assert sampling(store) == {"a": {"temperature": 0.7}, "b": {"top_p": 0.9}, "c": None}
    assert [each.count for each in store.questions.page(99)] == [1, 2, 2]


@both_stores
def test_the_usage_counts_each_question_of_the_traffic_once(store):
    assert store.questions.usage(1) == Usage()
    for number in range(5):
        ask(store, "the same", temperature=0)
        ask(store, f"another {number}", temperature=0.7, stop=str(number), max_tokens=99)
        ask(store, f"default {number}")
    ask(store, "of a file", origin=Origin.FILE, temperature=2)
    store.questions.record([Recorded(from_prompt("nobody knows"), 1.0)], holdout=0)
    assert store.questions.usage(12) == Usage(), "too few are known"
    usage = store.questions.usage(11)
    assert str(usage) == (
        "as users ask: temperature 0.7 (45%), engine default (45%), temperature 0 (9%)"
    )
    assert len(usage.ways) == 3


@both_stores
def test_it_goes_out_and_comes_in_again(store, tmp_path, fresh_url):
    ask(store, "a", temperature=0.7, stop=["#"])
    ask(store, "b")
    store.questions.record([Recorded(from_prompt("c"), 1.0)], holdout=0)
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(datasets.line_of(e, keys=False) for e in store.questions.export()))
    read = datasets.read_exported(file, max_chars=99, now=time.time())
    (tmp_path / "other").mkdir()
    with Store.open(tmp_path / "other", fresh_url()) as other:
        ask(other, "a", 0.5, temperature=0.1)
        ask(other, "b", 2.0, temperature=0.2)
        other.questions.take_in(read, holdout=0)
        found = sampling(other)
    assert found == {"a": {"temperature": 0.7, "stop": ["#"]}, "b": {"temperature": 0.2}, "c": None}
    assert [each.sampling for each in datasets.read_questions(file, max_chars=99)] == [
        {"temperature": 0.7, "stop": ["#"]},
        {},
        None,
    ]


def test_a_file_may_say_how_its_questions_are_sampled(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text(
        '{"prompt": "a"}\n{"messages": [{"role": "user", "content": "b"}], "stop": "#"}'
    )
    plain, stops = datasets.read_questions(file, max_chars=99)
    assert (plain.sampling, stops.sampling) == (None, {"stop": "#"})


@both_stores
def test_a_stop_string_is_forgotten_with_its_question(store):
    ask(store, "a", stop=["Ada Lovelace"])
    ask(store, "b")
    doomed = store.forgetting.saying(lambda text: "Ada" in text)
    (left,) = [row.id for row in store.questions.page(9) if row.question.text == "b"]
    assert doomed.questions == [row.id for row in store.questions.page(9) if row.id != left]


def test_what_shapes_a_prompt_is_not_recorded_twice():
    assert not FIELDS.keys() & set(SHAPING_FIELDS)
