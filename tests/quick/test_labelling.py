"""Which pairs of answers an operator is asked about, and what a judgement makes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from jobs import probe
from jobs.asker import Asked
from serve.cli import main
from serve.labels import sides
from ttrl.config import GateConfig
from ttrl.labelling import Judged, Pair, Side, Told, to_judge
from ttrl.paired import Answered, Probe
from ttrl.probes import Label, ProbeOrigin
from ttrl.questions import Question, digest, from_prompt
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger


def told(key, live, candidate):
    """Answers written as letters; "-" is unreadable."""

    def side(name, letters):
        texts = [f"{name} says {letter}" for letter in letters]
        return texts, [None if letter == "-" else letter for letter in letters]

    return Told(key, *side("live", live), *side("candidate", candidate))


@pytest.mark.parametrize(
    ("live", "candidate", "expected"),
    [
        ("aab", "bba", ("live says a", "a", "candidate says b", "b")),
        ("baa", "ccc", ("live says a", "a", "candidate says c", "c")),
        ("aab", "aac", None),
        ("aab", "ab-", None),
        ("aab", "---", None),
    ],
)
def test_what_is_asked_about(live, candidate, expected):
    found = to_judge([told(7, live, candidate)], drawn=0, seed=1)
    shown = [(p.live.text, p.live.label, p.candidate.text, p.candidate.label) for p in found]
    assert shown == ([expected] if expected else [])


def test_some_are_drawn_whether_versions_disagree_or_not():
    every = [told(key, "aa", "bb" if key < 10 else "aa") for key in range(40)]
    drawn = [to_judge(every, drawn=8, seed=seed) for seed in range(50)]
    agreeing = 0
    for found in drawn:
        at_random = [p for p in found if p.origin is ProbeOrigin.RANDOM]
        others = {p.question_id for p in found} - {p.question_id for p in at_random}
        assert len(at_random) == 8
        assert others == set(range(10)) - {p.question_id for p in at_random}
        agreeing += sum(p.live.label == p.candidate.label for p in at_random)
    assert 0.65 < agreeing / (8 * 50) < 0.85, "three in four, as there are"
    assert len(to_judge(every, drawn=100, seed=1)) == 40


PAIR = Pair(1, ProbeOrigin.DISAGREEMENT, Side("so 4", "4"), Side("so 5", "5"))


@pytest.mark.parametrize(
    ("pair", "judged", "typed", "accepted"),
    [
        (PAIR, Judged.LIVE, "", ("4",)),
        (PAIR, Judged.CANDIDATE, "", ("5",)),
        (PAIR, Judged.BOTH, "", ("4", "5")),
        (replace(PAIR, candidate=PAIR.live), Judged.BOTH, "", ("4",)),
        (PAIR, Judged.NEITHER, "6", ("6",)),
        (PAIR, Judged.NEITHER, "", ()),
        (PAIR, Judged.CANNOT_TELL, "", ()),
    ],
)
def test_what_is_right_going_by_a_judgement(pair, judged, typed, accepted):
    assert pair.accepted(judged, typed) == accepted


def held_out(store, count, text="What is {} plus {}?"):
    asked = [Recorded(from_prompt(text.format(n, n)), float(n)) for n in range(count)]
    store.questions.record(asked, holdout=1)
    return sorted(row.id for row in store.holdout.probes())


@pytest.fixture
def queue(store):
    """Three pairs to judge: live says 4, the candidate 5."""
    run = store.runs.create(Trigger.OPERATOR, {})
    store.comparisons.add(run.id, [replace(PAIR, question_id=key) for key in held_out(store, 3)])
    return store


def labels(store):
    return {probe.question.text: probe.accepted for probe in store.probes.labelled()}


def test_a_question_is_asked_about_once(queue):
    first = queue.comparisons.waiting()[0]
    run = queue.runs.newest()[0].id
    again = [
        replace(PAIR, question_id=key, origin=ProbeOrigin.RANDOM)
        for key in queue.comparisons.compared()
    ]
    queue.comparisons.add(run, again)
    assert [each.pair.origin for each in queue.comparisons.waiting()] == ["disagreement"] * 3
    assert queue.comparisons.drawn_since(0.0) == 0
    queue.comparisons.judge(first, Judged.CANNOT_TELL)
    queue.comparisons.add(run, again)
    assert len(queue.comparisons.waiting()) == 2
    assert queue.comparisons.get(first.id).judged is Judged.CANNOT_TELL


def test_a_verdict_labels_and_another_takes_its_place(queue):
    first = queue.comparisons.waiting()[0]
    queue.comparisons.judge(first, Judged.LIVE)
    (probe,) = queue.probes.labelled()
    assert (probe.accepted, probe.origin, probe.refuse) == (("4",), "disagreement", None)
    queue.comparisons.judge(first, Judged.NEITHER, "6")
    assert labels(queue) == {first.question.text: ("6",)}
    queue.comparisons.judge(first, None)
    assert labels(queue) == {}
    assert len(queue.comparisons.waiting()) == 3


def test_what_the_operator_wrote_is_not_asked_nor_changed(queue):
    first = queue.comparisons.waiting()[0]
    queue.probes.add([Label(first.question, ("9",), None, ())])
    assert first.id not in {each.id for each in queue.comparisons.waiting()}
    queue.comparisons.judge(first, Judged.LIVE)
    queue.comparisons.judge(first, None)
    assert labels(queue) == {first.question.text: ("9",)}


def test_pairs_and_their_labels_go_with_their_question(queue):
    first, second, _ = queue.comparisons.waiting()
    queue.comparisons.judge(first, Judged.LIVE)
    queue.comparisons.judge(second, Judged.LIVE)
    queue.questions.delete([first.pair.question_id])
    assert list(labels(queue)) == [second.question.text]
    with pytest.raises(KeyError, match=f"no pair {first.id}"):
        queue.comparisons.get(first.id)
    queue.comparisons.judge(first, Judged.LIVE)
    assert list(labels(queue)) == [second.question.text]


def examined(key, live, candidate, label=None):
    one = told(key, live, candidate)
    of_live, of_candidate = (
        Answered(tuple(one.live_answers)),
        Answered(tuple(one.candidate_answers)),
    )
    seen = Probe(str(key), "c", of_live, of_live, of_live, of_candidate)
    asked = Asked(key, from_prompt(str(key)), label)
    return probe.Examined(asked, seen, one.live, one.candidate)


def test_a_week_has_its_random_ones(store):
    """Whatever number of gates it has; labelled probes and known pairs are not asked about."""
    keys, settings = held_out(store, 8), GateConfig(random_labels=3)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    store.probes.add([Label(from_prompt("q"), ("a",), None, ())])
    (labelled,) = store.probes.labelled()
    gate = [examined(key, "aa", "aa") for key in keys] + [examined(99, "aa", "bb", labelled)]
    found = probe.to_label(store, settings, run, gate)
    assert [pair.origin for pair in found] == [ProbeOrigin.RANDOM] * 3
    store.comparisons.add(run, found)
    assert probe.to_label(store, settings, run, gate) == []
    moved = [examined(key, "aa", "bb") for key in keys]
    later = probe.to_label(store, settings, run, moved)
    assert {pair.question_id for pair in later} == set(keys) - {p.question_id for p in found}
    assert {pair.origin for pair in later} == {ProbeOrigin.DISAGREEMENT}


@pytest.fixture
def ttrl(tmp_path):
    def run(*words, code=0, **options):
        words = ["label", *words, "--state-dir", str(tmp_path)]
        done = CliRunner().invoke(main, words, env={"COLUMNS": "120"}, **options)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    return run


def right(stored, key):
    """What is right if A, or B, is."""
    a, b = sides(stored)
    return ({"a": a, "b": b}[key][1].label,)


def test_keys_one_after_the_other(ttrl, queue):
    first, second, third = queue.comparisons.waiting()
    said = ttrl(input="aXb=")
    assert "1 of 3" in said
    assert "3 of 3 judged" in said
    assert labels(queue) == {
        first.question.text: right(first, "a"),
        second.question.text: right(second, "b"),
        third.question.text: ("4", "5"),
    }
    assert "every pair so far is judged" in ttrl()


def test_the_last_is_undone_and_the_answer_typed(ttrl, queue):
    first, second, third = queue.comparisons.waiting()
    said = ttrl(input="auun 42 \nn\n?")
    assert "3 of 3 judged" in said
    assert labels(queue) == {first.question.text: ("42",)}
    judged = [queue.comparisons.get(each.id).judged for each in (first, second, third)]
    assert judged == [Judged.NEITHER, Judged.NEITHER, Judged.CANNOT_TELL]


@pytest.mark.parametrize("ending", ["q", ""], ids=["q", "end of input"])
def test_quitting_loses_nothing(ttrl, queue, ending):
    first, *others = queue.comparisons.waiting()
    assert "1 of 3 judged" in ttrl(input=f"b{ending}")
    assert labels(queue) == {first.question.text: right(first, "b")}
    assert queue.comparisons.waiting() == others


def test_nothing_says_which_side_is_which(ttrl, store):
    run = store.runs.create(Trigger.OPERATOR, {})
    store.comparisons.add(run.id, [replace(PAIR, question_id=key) for key in held_out(store, 200)])
    rows = json.loads(ttrl("--list", "--json"))
    assert {frozenset(row) for row in rows} == {
        frozenset(("id", "run", "origin", "body", "a", "b"))
    }
    assert 70 < sum(row["a"]["answer"] == "4" for row in rows) < 130
    assert rows == json.loads(ttrl("--list", "--json"))
    shown = ttrl(input="q")
    assert "live" not in shown
    assert "candidate" not in shown


def test_programs_judge(ttrl, queue):
    first, second, third = queue.comparisons.waiting()
    row = json.loads(ttrl("--list", "--json"))[0]
    assert row["id"] == first.id
    assert "its question is a probe" in ttrl("--judge", str(first.id), "a")
    ttrl("--judge", str(second.id), "neither", "--answer", "42")
    assert "is judged." in ttrl("--judge", str(third.id), "skip")
    assert labels(queue) == {
        first.question.text: (row["a"]["answer"],),
        second.question.text: ("42",),
    }
    assert json.loads(ttrl("--list", "--json")) == []
    assert "no pair 999" in ttrl("--judge", "999", "a", code=1)
    assert "'c' is not one of" in ttrl("--judge", str(first.id), "c", code=2)
    assert "--answer goes with" in ttrl("--judge", str(first.id), "a", "--answer", "4", code=2)


def test_one_answer_is_shown_once(ttrl, store):
    run = store.runs.create(Trigger.OPERATOR, {})
    same = replace(PAIR, origin=ProbeOrigin.RANDOM, candidate=PAIR.live)
    store.comparisons.add(run.id, [replace(same, question_id=key) for key in held_out(store, 1)])
    shown = ttrl("--list")
    assert "both say this, and is it right?" in shown
    assert shown.count("so 4") == 1


def test_without_pairs_it_says_why(ttrl, store):
    assert "pairs come from runs" in ttrl()


def test_texts_do_not_steer_the_terminal(ttrl, store):
    run = store.runs.create(Trigger.OPERATOR, {})
    turns = [
        {"role": "system", "content": "be [bold]brief[/x]"},
        {"role": "user", "content": "q\x1b[2J"},
    ]
    question = Question({"messages": turns}, digest({"messages": turns}))
    store.questions.record([Recorded(question, 1.0)], holdout=1)
    (row,) = store.holdout.probes()
    texts = Side("a\x9b31m\u202e[/red]", "4"), Side("b\x00", "5")
    store.comparisons.add(run.id, [Pair(row.id, ProbeOrigin.RANDOM, *texts)])
    shown = ttrl("--list")
    assert "be [bold]brief[/x]" in shown
    assert "[/red]" in shown
    assert not {"\x1b", "\x9b", "\x00", "\u202e"} & set(shown)
