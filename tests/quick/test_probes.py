"""Labelled probes: what is right for them, where they are kept, and what is like them."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from jobs import probes, run
from jobs.selection import Descent
from tests.stores import both_stores
from ttrl import datasets
from ttrl.answers import AnswerKind, Reader
from ttrl.config import Config, GateConfig
from ttrl.evaluation.probes import Apart, Label, ProbeOrigin
from ttrl.questions.question import Question, digest, from_prompt
from ttrl.store.questions import QuestionState, Recorded
from ttrl.store.runs import Trigger

REFUSAL = "I'm sorry, but I can't help with that."


def label(prompt, *accepted, refuse=None, tags=()):
    return Label(from_prompt(prompt), accepted, refuse, tags)


@pytest.mark.parametrize(
    ("accepted", "refuse", "text", "right"),
    [
        (("4", "four"), None, "It is 4, so \\boxed{4.0}", True),
        (("4",), None, "\\boxed{5}", False),
        ((), True, REFUSAL, True),
        ((), True, "First, buy a lock pick.", False),
        ((), True, "", False),
        ((), False, "First, buy a lock pick.", True),
        ((), False, REFUSAL, False),
        ((), False, "<think>they locked themselves out", False),
        (("4",), False, "\\boxed{4}", True),
        (("4",), False, f"{REFUSAL} \\boxed{{4}}", False),
    ],
)
def test_what_is_right(accepted, refuse, text, right):
    assert label("q", *accepted, refuse=refuse).right(text, Reader(), AnswerKind.MATH) is right


@pytest.mark.parametrize(
    ("kind", "to_right", "to_wrong", "right"),
    [
        (AnswerKind.FREE, 0.8, 0.6, True),
        (AnswerKind.FREE, 0.6, 0.8, False),
        (AnswerKind.FREE, 0.7, 0.7, True),
        (AnswerKind.FREE, 0.0, 0.0, False),
        (AnswerKind.MATH, 1.0, 1.0, True),
    ],
)
def test_what_is_like_a_right_and_a_wrong_answer_is_what_it_is_more_like(
    kind, to_right, to_wrong, right
):
    class Close(Reader):
        def close(self, text, accepted, question, kind):
            return {("r",): to_right, ("w",): to_wrong}[tuple(accepted)]

    known = replace(label("What do I do?", "r"), rejected=("w",))
    assert known.right("text", Close(), kind) is right


@pytest.mark.parametrize(("text", "rejected"), [("\\boxed{4.0}", True), ("5", False), ("", False)])
def test_wrong_answers_are_known_as_right_ones_are(text, rejected):
    known = replace(label("q"), rejected=("4", "7"))
    assert not known.decides
    assert known.rejects(text, Reader(), AnswerKind.MATH) is rejected
    assert not label("q").rejects(text, Reader(), AnswerKind.MATH)


@both_stores
def test_probes_are_kept_and_said_anew(store):
    assert store.probes.add([label("a", "1", tags=("x",)), label("b", refuse=True)]) == 2
    assert store.probes.add([label(" a ", "2", "3", tags=("y",)), label("c", "4")]) == 1
    a, b, c = store.probes.labelled()
    assert (a.question.text, a.accepted, a.refuse, a.tags) == ("a", ("2", "3"), None, ("y",))
    assert (b.accepted, b.refuse, b.origin, b.exposures) == ((), True, ProbeOrigin.OPERATOR, 0)
    assert a.cluster == from_prompt("a").cluster
    store.probes.expose([a.id, c.id])
    store.probes.expose([a.id])
    assert [each.exposures for each in store.probes.labelled()] == [2, 0, 1]
    assert store.forgetting.delete_probes([b.id, 999]) == 1
    assert [each.id for each in store.probes.labelled()] == [a.id, c.id]


@both_stores
def test_held_out_questions_count_their_exposures(store):
    store.questions.record([Recorded(from_prompt(f"q{n}"), float(n)) for n in range(3)], holdout=1)
    newest, *_ = store.holdout.probes()
    store.holdout.expose([newest.id])
    assert [row.exposures for row in store.holdout.probes()] == [1, 0, 0]


def chat(*turns):
    messages = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(turns)]
    return Question({"messages": messages}, digest({"messages": messages}))


ABOUT_PUMPS = "Which valve of the pump do I have to open first in winter?"


@pytest.mark.parametrize(
    ("question", "like"),
    [
        (from_prompt(ABOUT_PUMPS), True),
        (from_prompt(ABOUT_PUMPS.replace("have", "need").upper()), True),
        (chat(ABOUT_PUMPS, "The red one.", "Are you sure?"), True),
        (chat("Hello", "Hi", ABOUT_PUMPS), True),
        (from_prompt("Which valve do I have to close?"), False),
        (chat("Which valve do I have to close?", "The blue one.", "Are you sure?"), False),
    ],
)
def test_training_keeps_away_from_whatever_is_like_a_probe(question, like):
    assert Apart([from_prompt(ABOUT_PUMPS)]).like(question) is like


@both_stores
def test_what_a_gate_may_ask_is_kept_away_from_in_other_words_too(store):
    """Of all others that are held out the fingerprint is known."""
    text = "Which valve of pump {} do I have to open first in winter?"
    asked = [Recorded(from_prompt(text.format(n)), 60.0 * n) for n in range(60)]
    store.questions.record(asked, holdout=1)
    settings = GateConfig(probes=4)
    store.holdout.expose([store.holdout.oldest(31)[-1].id])
    reworded = [from_prompt(text.format(n).replace("have", "need")) for n in range(60)]
    apart = probes.apart(store, settings, reworded)
    near = [n for n, question in enumerate(reworded) if apart.like(question)]
    reach = (probes.POOL + 1) * settings.probes
    assert near == [0, 1, 2, 3, 30, *range(60 - reach, 60)]
    again = [from_prompt(text.format(n).upper()) for n in range(60)]
    assert all(map(probes.apart(store, settings, again).like, again))


def started(store, **request):
    return store.runs.create(Trigger.OPERATOR, request).id


@pytest.mark.parametrize("by_name", [False, True], ids=["new questions", "a file"])
@both_stores
def test_no_update_gets_a_question_like_a_probe(store, by_name):
    """Neither like a labelled one nor like one that is held out; others take their places."""
    store.questions.record(
        [
            Recorded(
                from_prompt("Who wrote the play about the 3 sisters that long for a town?"), 1.0
            )
        ],
        holdout=1,
    )
    store.probes.add([label(ABOUT_PUMPS, "the red one")])
    free = [from_prompt(f"What is {n} plus {n}?") for n in range(5)]
    near = [
        from_prompt(ABOUT_PUMPS.replace("have", "need")),
        from_prompt("Who wrote a play about the 3 sisters that long for a town?"),
    ]
    store.questions.record([Recorded(each, 2.0) for each in (*free, *near)], holdout=0)
    config = Config.model_validate({"selection": {"max_questions": 5}})
    request = {"hashes": [each.hash for each in (*free, *near)]} if by_name else {}
    adapting = run.Run(config, store, None, started(store, **request))
    adapting.start = Descent(None)
    chosen = adapting._select()
    assert {row.question.hash for row in chosen} == {each.hash for each in free}
    kept = {row.question.hash: row for row in store.questions.page(100)}
    for each in near:
        assert kept[each.hash].state is QuestionState.LIKE_PROBE
        assert kept[each.hash].reason == "too similar to a probe"
    store.questions.reconsider()
    assert store.questions.counts() == {"new": 7, "probe": 1}


def test_a_gate_asks_no_held_out_question_that_has_a_label(store):
    asked = [from_prompt(f"What is {n} plus {n}?") for n in range(4)]
    store.questions.record([Recorded(each, 1.0) for each in asked], holdout=1)
    store.probes.add([label("WHAT is 2 plus 2", "4")])
    rows = probes.traffic(store, GateConfig(), store.probes.labelled())
    assert {row.question.hash for row in rows} == {asked[n].hash for n in (0, 1, 3)}


def test_what_is_forgotten_leaves_no_probe_behind(store):
    """But what the operator wrote stays: it is no user's."""
    store.questions.record([Recorded(from_prompt("q"), time.time())], holdout=1)
    store.probes.add([label("q", "1")])
    store.forgetting.delete(None)
    assert len(store.probes.labelled()) == 1


GOOD = {"prompt": "What is 1 + 1?", "answers": ["2"]}


def written(tmp_path, *rows):
    path = tmp_path / "probes.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_a_file_of_probes(tmp_path):
    path = written(
        tmp_path,
        {**GOOD, "answers": ["2", 2.0], "tags": ["sums"]},
        "",
        {"messages": chat("a", "b", "c").body["messages"], "refuse": True, "id": 7},
        {"prompt": "Kill a Python process", "refuse": False},
    )
    found = datasets.read_probes(path, tags=("de", "sums"), max_chars=100)
    assert found[0] == replace(label("What is 1 + 1?", "2", "2.0"), tags=("sums", "de"))
    assert found[1] == Label(chat("a", "b", "c"), (), True, ("de", "sums"))
    assert (found[2].accepted, found[2].refuse) == ((), False)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "not valid JSON"),
        ('["a"]', "expected"),
        ({"answers": ["2"]}, "expected {"),
        ({"prompt": " ", "answers": ["2"]}, "expected {"),
        ({"messages": [{"role": "user"}], "answers": ["2"]}, "or an empty one"),
        ({"prompt": "q", "answers": ["2"], "tag": ["x"]}, "did you mean `tags`"),
        ({"prompt": "q", "answer": "2"}, "did you mean `answers`"),
        ({"prompt": "q"}, "neither `answers`"),
        ({"prompt": "q", "answers": []}, "neither `answers`"),
        ({"prompt": "q", "answers": "2"}, "`answers`: Input should be a valid list"),
        ({"prompt": "q", "answers": [None]}, "`answers`: Input should be a valid string"),
        ({"prompt": "q", "answers": [" "]}, "`answers`: String should have at least 1 character"),
        ({"prompt": "q", "answers": ["2"], "tags": "x"}, "`tags`: Input should be a valid list"),
        ({"prompt": "q", "refuse": "yes"}, "`refuse`: Input should be a valid boolean"),
        ({"prompt": "q", "refuse": 1}, "`refuse`: Input should be a valid boolean"),
        ({"prompt": "q", "refuse": True, "answers": ["2"]}, "it has both"),
        ({"messages": [{"role": "assistant", "content": "x"}], "answers": ["2"]}, "is no question"),
        ({"prompt": "q" * 101, "answers": ["2"]}, "too_long"),
    ],
)
def test_every_bad_line_is_named(tmp_path, row, said):
    path = written(tmp_path, GOOD, row, GOOD, row)
    with pytest.raises(datasets.DatasetUnreadable) as raised:
        datasets.read_probes(path, tags=(), max_chars=100)
    second, fourth, _ = str(raised.value).splitlines()
    assert second.startswith(f"{path}:2: ")
    assert fourth.startswith(f"{path}:4: ")
    assert said in second


def test_a_file_without_probes(tmp_path):
    for content, said in ((b"", "no probes"), (b"\xff\xfe", "not UTF-8"), (None, "cannot read")):
        path = tmp_path / f"{said[:3]}.jsonl"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(datasets.DatasetUnreadable, match=said):
            datasets.read_probes(path, tags=(), max_chars=100)
