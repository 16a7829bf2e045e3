"""Which pairs of answers an operator is asked about, and what a judgement makes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jobs import probes
from jobs.evaluation import Answers, Asker, quality_of
from jobs.probes import Compared, Item
from serve.views import sides
from tests.judging import PAIR, label_command
from tests.stores import both_stores, held_out
from ttrl.answers import AnswerKind, Reader
from ttrl.config import Config, GateConfig
from ttrl.engine.samples import Finish, Sample
from ttrl.evaluation.evidence import Answered, Probe
from ttrl.evaluation.probes import (
    Judged,
    Label,
    LabelledProbe,
    Pair,
    ProbeOrigin,
    Side,
    draw,
    to_judge,
    to_judge_again,
)
from ttrl.feedback import Correction
from ttrl.questions.question import Question, digest, from_prompt
from ttrl.questions.regime import Usage
from ttrl.store.database import NotFound
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger


def told(key, live, candidate):
    """Answers written as letters; "-" is unreadable."""

    def side(name, letters):
        answers = tuple(None if letter == "-" else letter for letter in letters)
        return Answered(answers, texts=tuple(f"{name} says {letter}" for letter in letters))

    return key, side("live", live), side("candidate", candidate)


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
    found = to_judge([told(7, live, candidate)], (), seed=1)
    shown = [(p.live.text, p.live.label, p.candidate.text, p.candidate.label) for p in found]
    assert shown == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("live", "candidate", "expected"),
    [
        ("aab", "bba", {("a", "b")}),
        ("aab", "aab", {("a", "a")}),
        ("aab", "ab-", {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}),
        ("ab-", "ccc", {("a", "c"), ("b", "c")}),
        ("aaa", "---", {("a", "")}),
        ("---", "---", {("", "")}),
    ],
)
def test_a_drawn_question_is_asked_about_whatever_is_said_to_it(live, candidate, expected):
    """Where either has no majority, about any of the answers that can be read."""
    found = [to_judge([told(7, live, candidate)], {7}, seed=seed) for seed in range(40)]
    assert {(p.live.label, p.candidate.label) for (p,) in found} == expected
    for (pair,) in found:
        assert pair.origin is ProbeOrigin.RANDOM
        for name, side in (("live", pair.live), ("candidate", pair.candidate)):
            assert side.text == (f"{name} says {side.label}" if side.label else "")


def test_some_are_drawn_whether_versions_disagree_or_not():
    every = [told(key, "aa", "bb" if key < 10 else "ab") for key in range(40)]
    counts = dict.fromkeys(range(40), 0)
    for seed in range(200):
        drawn = draw(range(40), 8, seed=seed)
        found = to_judge(every, drawn, seed=seed)
        assert {p.question_id for p in found if p.origin is ProbeOrigin.RANDOM} == drawn
        assert {p.question_id for p in found} == drawn | set(range(10))
        for key in drawn:
            counts[key] += 1
    assert all(15 < count < 70 for count in counts.values()), "each one time in five"
    assert draw(range(3), 8, seed=1) == {0, 1, 2}
    assert draw(range(3), -1, seed=1) == frozenset()


def test_undecided_answers_are_drawn_by_how_many_there_are():
    """Of two questions one has nine undecided answers, and one has one."""
    sides = [Side(f"text {n}", str(n)) for n in range(10)]
    undecided = [Pair(n > 0, ProbeOrigin.RANDOM, side, side, 1) for n, side in enumerate(sides)]
    drawn = [to_judge_again(undecided, 1, seed=seed) for seed in range(300)]
    assert 0.84 < sum(pair.question_id for (pair,) in drawn) / 300 < 0.96
    assert len({pair.live.label for (pair,) in drawn}) == 10
    assert all(pair.live == pair.candidate and pair.round == 1 for (pair,) in drawn)
    assert len(to_judge_again(undecided, 5, seed=1)) == 2, "one answer of a question"
    assert to_judge_again(undecided, 0, seed=1) == []


@pytest.mark.parametrize(
    ("pair", "judged", "typed", "accepted", "rejected"),
    [
        (PAIR, Judged.LIVE, "", ("4",), ("5",)),
        (PAIR, Judged.CANDIDATE, "", ("5",), ("4",)),
        (PAIR, Judged.BOTH, "", ("4", "5"), ()),
        (replace(PAIR, candidate=PAIR.live), Judged.BOTH, "", ("4",), ()),
        (replace(PAIR, candidate=PAIR.live), Judged.LIVE, "", ("4",), ()),
        (PAIR, Judged.NEITHER, "6", ("6",), ("4", "5")),
        (PAIR, Judged.NEITHER, "", (), ("4", "5")),
        (replace(PAIR, live=Side("", "")), Judged.NEITHER, "", (), ("5",)),
        (PAIR, Judged.CANNOT_TELL, "", None, None),
        (replace(PAIR, origin=ProbeOrigin.RANDOM), Judged.CANNOT_TELL, "", (), ()),
    ],
)
def test_what_is_known_by_a_judgement(pair, judged, typed, accepted, rejected):
    known = pair.label(from_prompt("q"), judged, typed)
    assert (known and known.accepted, known and known.rejected) == (accepted, rejected)


def test_a_surer_version_gains_nothing_by_that():
    """Where one has no majority, single answers of both are compared, though the other has one."""
    worth = []
    for seed in range(600):
        (pair,) = to_judge([told(7, "rrrwx", "rrwwxx")], {7}, seed=seed)
        said = {
            (True, True): Judged.BOTH, (True, False): Judged.LIVE,
            (False, True): Judged.CANDIDATE, (False, False): Judged.NEITHER,
        }[pair.live.label == "r", pair.candidate.label == "r"]  # fmt: skip
        worth.append(pair.worth(said))
    assert sum(worth) / 600 == pytest.approx(2 / 6 - 3 / 5, abs=0.07)


def test_what_was_judged_wrong_before_stays_wrong():
    known = PAIR.label(from_prompt("q"), Judged.NEITHER, wrong=("1", "4"))
    assert known.rejected == ("1", "4", "5")
    assert PAIR.label(from_prompt("q"), Judged.CANNOT_TELL, wrong=("1",)).rejected == ("1",)
    assert PAIR.label(from_prompt("q"), Judged.LIVE, wrong=("1", "4")).rejected == ("1", "5")


@pytest.fixture
def queue(store):
    """Three pairs to judge: live says 4, the candidate 5."""
    run = store.runs.create(Trigger.OPERATOR, {})
    store.comparisons.add(run.id, [replace(PAIR, question_id=key) for key in held_out(store, 3)])
    return store


def question_ids(store):
    return {seen.question_id for seen in store.comparisons.history().values()}


def labels(store):
    return {probe.question.text: probe.accepted for probe in store.probes.labelled()}


@both_stores
def test_a_question_is_asked_about_once(queue):
    first = queue.comparisons.waiting()[0]
    run = queue.runs.newest()[0].id
    again = [
        replace(PAIR, question_id=key, origin=ProbeOrigin.RANDOM) for key in question_ids(queue)
    ]
    queue.comparisons.add(run, again)
    assert [each.pair.origin for each in queue.comparisons.waiting()] == ["disagreement"] * 3
    assert queue.comparisons.drawn_since(0.0) == 0
    queue.comparisons.judge(first, Judged.CANNOT_TELL)
    queue.comparisons.add(run, again)
    assert len(queue.comparisons.waiting()) == 2
    assert queue.comparisons.get(first.id).judged is Judged.CANNOT_TELL


@both_stores
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


@both_stores
def test_what_the_operator_wrote_is_not_asked_nor_changed(queue):
    first = queue.comparisons.waiting()[0]
    queue.probes.add([Label(first.question, ("9",), None, ())])
    assert first.id not in {each.id for each in queue.comparisons.waiting()}
    queue.comparisons.judge(first, Judged.LIVE)
    queue.comparisons.judge(first, None)
    assert labels(queue) == {first.question.text: ("9",)}


@both_stores
def test_pairs_and_their_labels_go_with_their_question(queue):
    first, second, _ = queue.comparisons.waiting()
    queue.comparisons.judge(first, Judged.LIVE)
    queue.comparisons.judge(second, Judged.LIVE)
    queue.forgetting.delete([first.pair.question_id])
    assert list(labels(queue)) == [second.question.text]
    with pytest.raises(NotFound, match=f"no pair {first.id}"):
        queue.comparisons.get(first.id)
    queue.comparisons.judge(first, Judged.LIVE)
    assert list(labels(queue)) == [second.question.text]


def answered(label, letters):
    """Answers to a labelled probe, as the gate reads them."""
    samples = [
        Sample("" if letter == "-" else letter, (1,), (0.0,), Finish.STOP) for letter in letters
    ]
    asker = Asker(None, Config(), None, Reader(AnswerKind.TEXT), Usage())
    item = Item(label.id, label.question, label)
    ((_, (found,)),) = asker.read([(item, [Answers(samples, 0.1)])])
    return found


def examined(row, live, candidate):
    """What two versions said to a held-out question, or to one of which something is known."""
    _, of_live, of_candidate = told(row.id, live, candidate)
    label = row if isinstance(row, LabelledProbe) else None
    if label is not None:
        of_live = replace(answered(label, live), texts=of_live.texts)
        of_candidate = replace(answered(label, candidate), texts=of_candidate.texts)
    seen = Probe(row.question.hash, "c", of_live, of_live, of_candidate)
    asked = Item(row.id, row.question, label, traffic=True)
    return Compared(asked, seen)


def traffic(store, live, candidate):
    """The same answers to every held-out question, whatever is known of it."""
    known = {each.question.hash: each for each in store.probes.labelled()}
    return [
        examined(known.get(row.question.hash, row), live, candidate)
        for row in sorted(store.holdout.probes(), key=lambda row: row.id)
    ]


def test_a_week_has_its_random_ones(store):
    """Whatever number of gates it has; labelled probes and known pairs are not asked about."""
    keys, settings = held_out(store, 8), GateConfig(random_labels=3)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    store.probes.add([Label(from_prompt("q"), ("a",), None, ())])
    (labelled,) = store.probes.labelled()
    gate = [*traffic(store, "aa", "aa"), examined(labelled, "aa", "bb")]
    found = probes.to_label(store, settings, run, gate)
    assert [pair.origin for pair in found] == [ProbeOrigin.RANDOM] * 3
    store.comparisons.add(run, found)
    assert probes.to_label(store, settings, run, gate) == []
    later = probes.to_label(store, settings, run, traffic(store, "aa", "bb"))
    assert {pair.question_id for pair in later} == set(keys) - {p.question_id for p in found}
    assert {pair.origin for pair in later} == {ProbeOrigin.DISAGREEMENT}


def test_questions_without_majorities_are_drawn_like_all_others(store):
    """`neither2.py`: of six, five had a tie, and only the sixth was ever asked about."""
    keys = held_out(store, 6)
    every = traffic(store, "112", "12-")[:5] + traffic(store, "11", "11")[5:]
    settings = GateConfig(random_labels=2)
    drawn = {
        pair.question_id
        for run in range(30)
        for pair in probes.to_label(store, settings, run, every)
    }
    assert drawn == set(keys)


def test_what_users_corrected_is_drawn_like_all_others(store):
    """Users correct what is wrong: without it the random questions would be too easy."""
    key, *_ = held_out(store, 4)
    question = store.questions.get(key).question
    users = [Correction(n, client, "a", 1.0) for n, client in enumerate("xy")]
    store.feedback.settle(question, users, ["a", "a"], agree=2)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    gate = traffic(store, "aa", "bb")
    off, all_ = GateConfig(random_labels=0), GateConfig(random_labels=4)
    assert key not in {pair.question_id for pair in probes.to_label(store, off, run, gate)}
    found = probes.to_label(store, all_, run, gate)
    assert [pair.origin for pair in found if pair.question_id == key] == [ProbeOrigin.RANDOM]
    store.comparisons.add(run, found)
    pair = next(each for each in store.comparisons.waiting() if each.pair.question_id == key)
    store.comparisons.judge(pair, Judged.CANDIDATE)
    (label,) = store.probes.labelled()
    assert (label.origin, label.accepted) == (ProbeOrigin.RANDOM, ("b",))


@both_stores
def test_disagreements_stay_among_what_is_drawn(store):
    """Without those on which versions disagreed once, only easy questions would be left."""
    keys, settings = held_out(store, 20), GateConfig(random_labels=5)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    off = settings.model_copy(update={"random_labels": 0})
    store.comparisons.add(run, probes.to_label(store, off, run, traffic(store, "aa", "bb")))
    first, *_ = store.comparisons.waiting()
    store.comparisons.judge(first, Judged.LIVE)
    assert [each.origin for each in store.probes.labelled()] == [ProbeOrigin.DISAGREEMENT]
    all_ = settings.model_copy(update={"random_labels": 20})
    some = [*traffic(store, "aa", "aa")]
    assert probes.to_label(store, settings, run, some) == [], "all were asked about already"
    assert store.comparisons.drawn_since(0.0) == 5
    assert probes.to_label(store, all_, run, some) == []
    assert question_ids(store) == set(keys)
    assert [each.origin for each in store.probes.labelled()] == [ProbeOrigin.RANDOM]
    assert store.comparisons.drawn_since(0.0) == 20


def test_a_disagreement_that_could_not_be_judged_counts_as_skipped_once_it_is_drawn(store):
    """As one that was drawn first and judged then does."""
    keys, off = held_out(store, 2), GateConfig(random_labels=0)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    store.comparisons.add(run, probes.to_label(store, off, run, traffic(store, "aa", "bb")))
    first, second = store.comparisons.waiting()
    store.comparisons.judge(first, Judged.CANNOT_TELL)
    store.probes.add([Label(second.question, ("9",), None, ())])
    store.comparisons.judge(second, Judged.CANNOT_TELL)
    store.comparisons.mark_random(keys)
    found = {each.question.hash: each for each in store.probes.labelled()}
    known = found.pop(first.question.hash)
    assert (known.origin, known.decides, known.rejected) == (ProbeOrigin.RANDOM, False, ())
    assert [each.accepted for each in found.values()] == [("9",)], "what the operator wrote stays"
    asked = [(Item(known.id, known.question, known, traffic=True), answered(known, "ab"))]
    measured = quality_of(store, GateConfig(), asked, None)
    assert (measured.speaking, measured.undecided) == (0, 1.0)
    store.comparisons.judge(first, Judged.LIVE)
    assert ("a",) in {each.accepted for each in store.probes.labelled()}


def test_a_judgement_of_a_pair_that_was_drawn_meanwhile_counts_as_random(queue):
    seen = queue.comparisons.waiting()
    queue.comparisons.mark_random({seen[0].pair.question_id})
    for each in seen:
        queue.comparisons.judge(each, Judged.LIVE)
    origins = {each.question.hash: each.origin for each in queue.probes.labelled()}
    assert origins == {
        each.question.hash: ProbeOrigin.DISAGREEMENT if number else ProbeOrigin.RANDOM
        for number, each in enumerate(seen)
    }


@pytest.mark.parametrize(
    ("later", "typed", "again", "accepted", "rejected"),
    [
        (Judged.BOTH, "", Judged.NEITHER, ("7",), ("4", "5")),
        (Judged.BOTH, "", Judged.LIVE, ("4", "7"), ("5",)),
        (Judged.BOTH, "", Judged.CANNOT_TELL, ("7",), ()),
        (Judged.BOTH, "", None, ("7",), ()),
        (Judged.NEITHER, "", Judged.LIVE, ("4",), ("7", "5")),
        (Judged.NEITHER, "6", Judged.NEITHER, ("6",), ("7", "4", "5")),
        (Judged.NEITHER, "6", Judged.LIVE, ("4", "6"), ("7", "5")),
        (Judged.NEITHER, "6", None, ("6",), ("7",)),
        (Judged.CANNOT_TELL, "", None, None, None),
    ],
)
def test_another_judgement_of_the_first_round_keeps_what_the_second_said(
    store, later, typed, again, accepted, rejected
):
    (key,) = held_out(store, 1)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    asked = replace(PAIR, question_id=key, origin=ProbeOrigin.RANDOM)
    seven = Side("so 7", "7")
    store.comparisons.add(run, [asked])
    (first,) = store.comparisons.waiting()
    store.comparisons.judge(first, Judged.NEITHER)
    store.comparisons.add(run, [replace(asked, live=seven, candidate=seven, round=1)])
    (second,) = store.comparisons.waiting()
    store.comparisons.judge(second, later, typed)
    known = store.comparisons.judge(first, again)
    assert (known and known.accepted, known and known.rejected) == (accepted, rejected)
    kept = [(each.accepted, each.rejected) for each in store.probes.labelled()]
    assert kept == ([(accepted, rejected)] if known else [])
    store.comparisons.judge(first, Judged.NEITHER)
    assert store.comparisons.judge(second, None).accepted == (), "taken back with what was typed"


@both_stores
def test_what_nobody_decided_is_asked_about_again(store):
    """One answer of the live version at a time, until there is none, or it cannot be judged."""
    held_out(store, 2)
    settings = GateConfig(random_labels=2)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    store.comparisons.add(run, probes.to_label(store, settings, run, traffic(store, "aab", "aac")))
    for each in store.comparisons.waiting():
        assert store.comparisons.judge(each, Judged.NEITHER).rejected == ("a",)

    def again():
        open_ = [examined(each, "aabb-c", "aaaaac") for each in store.probes.labelled()]
        found = probes.to_label(store, settings, run, open_)
        store.comparisons.add(run, found)
        assert probes.to_label(store, settings, run, open_) == [], "one at a time"
        return store.comparisons.waiting()

    found = again()
    assert {each.pair.live.label for each in found} <= {"b", "c"}
    assert all(each.pair.live == each.pair.candidate for each in found)
    assert store.comparisons.undecided_right() == (0, 0)
    first, second = found
    store.comparisons.judge(first, Judged.BOTH)
    assert store.comparisons.judge(second, Judged.NEITHER).rejected == (
        "a",
        second.pair.live.label,
    )
    assert store.comparisons.undecided_right() == (1, 2)
    assert store.comparisons.worth(run) == [0.0, 0.0], "of the first round alone"
    store.comparisons.judge(second, None)
    assert sorted(each.rejected for each in store.probes.labelled()) == [("a",), ("a",)]
    store.comparisons.judge(second, Judged.CANNOT_TELL)
    monday = settings.model_copy(update={"random_labels": 9})
    open_ = [examined(each, "aabb", "aaaa") for each in store.probes.labelled()]
    assert probes.to_label(store, monday, run, open_) == []


def test_neither_is_a_label_and_cannot_tell_is_not_forgotten(store):
    """`neither3.py`: both, neither, neither made one label of three questions."""
    held_out(store, 4)
    run = store.runs.create(Trigger.OPERATOR, {}).id
    settings = GateConfig(random_labels=4)
    store.comparisons.add(run, probes.to_label(store, settings, run, traffic(store, "aab", "aab")))
    said = (Judged.BOTH, Judged.NEITHER, Judged.NEITHER, Judged.CANNOT_TELL)
    for each, judged in zip(store.comparisons.waiting(), said, strict=True):
        store.comparisons.judge(each, judged)
    known = [(each.accepted, each.rejected, each.decides) for each in store.probes.labelled()]
    assert known == [
        (("a",), (), True), ((), ("a",), False), ((), ("a",), False), ((), (), False)
    ]  # fmt: skip
    read = [answered(each, "aab-") for each in store.probes.labelled()]
    assert [(each.right, each.rejected) for each in read] == [
        ((True, True, False, False), None),
        (None, (True, True, False, True)),
        (None, (True, True, False, True)),
        (None, (False, False, False, True)),
    ]
    assert store.comparisons.waiting() == []


@pytest.fixture
def ttrl(tmp_path):
    return label_command(tmp_path)


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
    assert "every pair has been judged" in ttrl()


def test_the_last_is_undone_and_the_answer_typed(ttrl, queue):
    first, second, third = queue.comparisons.waiting()
    said = ttrl(input="auun 42 \nn\n?")
    assert "3 of 3 judged" in said
    assert labels(queue) == {first.question.text: ("42",), second.question.text: ()}
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
    assert "now a labelled probe" in ttrl("--judge", str(first.id), "a")
    ttrl("--judge", str(second.id), "neither", "--answer", "42")
    assert "recorded as skip" in ttrl("--judge", str(third.id), "skip")
    assert labels(queue) == {
        first.question.text: (row["a"]["answer"],),
        second.question.text: ("42",),
    }
    assert json.loads(ttrl("--list", "--json")) == []
    assert "no pair 999" in ttrl("--judge", "999", "a", code=1)
    assert "'c' is not one of" in ttrl("--judge", str(first.id), "c", code=2)
    assert "--answer needs" in ttrl("--judge", str(first.id), "a", "--answer", "4", code=2)


def test_one_answer_is_shown_once(ttrl, store):
    run = store.runs.create(Trigger.OPERATOR, {})
    same = replace(PAIR, origin=ProbeOrigin.RANDOM, candidate=PAIR.live)
    store.comparisons.add(run.id, [replace(same, question_id=key) for key in held_out(store, 1)])
    shown = ttrl("--list")
    assert "one answer; is it right?" in shown
    assert shown.count("so 4") == 1


def test_without_pairs_it_says_why(ttrl, store):
    assert "no run's candidate has reached the gate" in ttrl()


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
