"""The probes of a run: who is asked what, and which step is chosen."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from jobs.evaluation import Answers, Asker, Evaluation
from jobs.probes import Item, outlook, samples_drawn
from tests.answering import GONE, REFUSED, Engine, failing, labels, sums
from tests.runs import judgement
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.config.learning import LONGEST_ANSWER
from ttrl.engine.client import EngineRefused, EngineUnreachable
from ttrl.engine.pacing import Pacer
from ttrl.engine.proof import Pin, Pinned
from ttrl.engine.samples import Finish, Sample
from ttrl.evaluation.drift import Drift
from ttrl.evaluation.gate import Certainty
from ttrl.evaluation.probes import Label, LabelledProbe, ProbeOrigin
from ttrl.events import Probed, read
from ttrl.questions.question import from_prompt
from ttrl.questions.regime import Usage
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger
from ttrl.versions import AdapterDamaged


def examine(store, engine, live="live", restore=lambda _: None, **gate):
    store.adapters.served(live, "")
    run = store.runs.create(Trigger.OPERATOR, {})
    # The instruction is for training samples: the gate asks as users do.
    config = Config(gate={"samples": 8, **gate}, vote={"instruction": "In a box."})
    pacer = Pacer(engine.load, maximum=4, pause_waiting=64)
    return Evaluation(engine, store, config, run.id, pacer, Reader(), restore), pacer


@pytest.mark.integration
def test_the_best_step_is_chosen_and_judged_on_other_probes(store):
    store.probes.add(labels(200))
    engine = Engine()
    evaluation, pacer = examine(store, engine)
    with pacer:
        chosen = evaluation.best_step([5, 10, 15], lambda step: f"step-{step}")
        choosing = set(engine.questions["step-10"])
        examined = evaluation.evaluate("step-10")
    assert chosen == 10
    assert 30 < len(choosing) < 70
    assert not choosing & {each.probe.key for each in examined}
    assert len(choosing) + len(examined) == 200
    assert engine.asked == ["step-5", "step-10", "step-15", "base", "live", "step-10"]
    assert {probe.exposures for probe in store.probes.labelled()} == {1}


@pytest.mark.integration
def test_each_run_draws_its_own(store):
    store.probes.add(labels(200))
    drawn = []
    for _ in range(2):
        engine = Engine()
        evaluation, pacer = examine(store, engine)
        with pacer:
            evaluation.best_step([5, 10], lambda step: f"step-{step}")
        drawn.append(engine.questions["step-5"])
        store.runs.end(store.runs.active().id, "nothing", "")
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("known", [0, 20])
def test_without_labels_to_spare_the_last_step_is_taken_and_nothing_asked(store, known):
    store.probes.add(labels(known)) if known else None
    store.questions.record([Recorded(q, 1.0) for q in sums(60, 500)], holdout=1)
    engine = Engine()
    evaluation, pacer = examine(store, engine)
    with pacer:
        assert evaluation.best_step([5, 10, 15], lambda step: f"step-{step}") == 15
        assert engine.asked == []
        assert len(evaluation.evaluate("step-15")) == 60 + known


def test_a_base_that_serves_is_asked_once(store):
    store.probes.add(labels(40))
    engine = Engine()
    evaluation, pacer = examine(store, engine, live=None, choosing=0)
    with pacer:
        examined = evaluation.evaluate("step-10")
    assert engine.asked == ["base", "step-10"]
    assert evaluation.current
    store.adapters.served("promoted-meanwhile", "")
    assert not evaluation.current
    for each in examined:
        assert each.probe.base is each.probe.live
        assert each.probe.candidate.accuracy >= 0.5


def ask_as_users(store, asked, sampling):
    store.questions.record(
        [Recorded(replace(question, sampling=sampling), 1.0) for question in asked], holdout=1
    )


def by_question(engine, asked):
    """What each version was sent for each of these questions."""
    hashes = {question.hash for question in asked}
    return {key: sent for key, sent in engine.fields.items() if key[0] in hashes}


def test_all_versions_are_asked_as_users_ask(store):
    warm, cold, own = sums(10, 500), sums(10, 600), {"temperature": 0.9, "stop": "#", "top_p": 0.5}
    ask_as_users(store, warm, own)
    ask_as_users(store, cold, {"temperature": 0, "max_tokens": 9})
    store.questions.record([Recorded(q, 1.0) for q in sums(5, 700)], holdout=1)
    store.probes.add(labels(20))
    engine = Engine()
    evaluation, pacer = examine(store, engine, choosing=0)
    with pacer:
        examined = evaluation.evaluate("step-10")
    as_sent = [(8, {**own, "max_tokens": LONGEST_ANSWER})]
    at_zero = [(1, {"temperature": 0, "max_tokens": LONGEST_ANSWER})]
    for sent in by_question(engine, warm).values():
        assert sent == as_sent
    for sent in by_question(engine, cold).values():
        assert sent == [(1, {"temperature": 0, "max_tokens": 9})]
    borrowed = {"temperature": 0.9, "top_p": 0.5, "max_tokens": LONGEST_ANSWER}
    for each in examined:
        probe, arms = each.probe, (each.probe.base, each.probe.live, each.probe.candidate)
        sent = engine.fields[probe.key, "step-10"]
        assert sent == engine.fields[probe.key, "base"]
        assert all(len(arm.answers) == 8 for arm in arms)
        if probe.key in {question.hash for question in (*warm, *cold)}:
            assert all(arm.greedy_right is None for arm in arms)
        elif not probe.labelled:
            assert sent in ([(8, borrowed)], at_zero)
        elif sent == at_zero:
            assert all(arm.right == (arm.greedy_right,) * 8 for arm in arms)
        else:
            assert sent == [(8, borrowed), (1, {**borrowed, "temperature": 0})]
            assert [arm.greedy_right for arm in arms] == [False, False, True]
    labelled = [each.probe for each in examined if each.probe.labelled]
    sampled = [len(engine.fields[probe.key, "base"]) == 2 for probe in labelled]
    assert any(sampled)
    assert not all(sampled)


def test_a_labelled_question_that_users_asked_is_asked_as_they_did(store):
    store.probes.add(labels(20))
    own = {"temperature": 0.3, "stop": ["#"], "max_tokens": 7}
    ask_as_users(store, sums(10), own)
    ask_as_users(store, sums(10, 500), {"temperature": 0.9})
    engine = Engine()
    evaluation, pacer = examine(store, engine, choosing=0)
    with pacer:
        evaluation.evaluate("step-10")
    for sent in by_question(engine, sums(10)).values():
        assert sent[:2] == [(8, own), (1, {**own, "temperature": 0})]


def test_an_answer_is_as_long_as_its_own_users_want_it(store):
    """Half of the traffic wants one token: all that these users get is read, and nobody else's
    answer is cut off."""
    store.probes.add(labels(40))
    ask_as_users(store, sums(20), {"max_tokens": 1})
    ask_as_users(store, sums(20, 500), {"max_tokens": 1})
    engine = Engine()
    evaluation, pacer = examine(store, engine, choosing=0)
    with pacer:
        examined = evaluation.evaluate("step-10")
    lengths = {engine.fields[each.probe.key, "live"][0][1]["max_tokens"] for each in examined}
    assert lengths == {1, LONGEST_ANSWER}
    for each in examined:
        arm = each.probe.candidate
        assert arm.accuracy > 0.4 if each.probe.labelled else arm.readable > 0.4
        assert arm.greedy_right in (None, True)


@pytest.mark.parametrize(
    ("users_length", "finish", "right"),
    [
        (False, Finish.STOP, True),
        (False, Finish.LENGTH, False),
        (True, Finish.LENGTH, True),
    ],
)
def test_what_is_cut_off_is_read_where_its_user_wanted_no_more(users_length, finish, right):
    asker = Asker(None, Config(), None, Reader(), Usage())
    (label,) = labels(1)
    row = LabelledProbe(
        **vars(label), id=1, cluster="", origin=ProbeOrigin.OPERATOR, added=0.0, exposures=0
    )
    sample = Sample("\\boxed{300}", (1,), (0.0,), finish)
    drawn = Answers((sample,), 0.1, sample, users_length)
    ((_, (read,)),) = asker.read([(Item(1, label.question, row), [drawn])])
    assert (read.right, read.greedy_right) == ((right,), right)
    ((_, (unknown,)),) = asker.read([(Item(1, label.question), [drawn])])
    assert (unknown.answers != (None,)) is right


def test_the_step_is_chosen_as_users_ask_too(store):
    store.probes.add(labels(200))
    ask_as_users(store, sums(16, 700), {"temperature": 0.9})
    engine = Engine()
    evaluation, pacer = examine(store, engine)
    with pacer:
        evaluation.best_step([5, 10, 15], lambda step: f"step-{step}")
    sent = [each for asked in engine.fields.values() for each in asked]
    assert sent == [(8, {"temperature": 0.9, "max_tokens": LONGEST_ANSWER})] * len(sent)


@pytest.mark.parametrize(
    ("sent", "refuses", "then"),
    [
        (
            {"logit_bias": {"9": 1}},
            lambda f, n: "logit_bias" in f,
            (8, {"max_tokens": LONGEST_ANSWER}),
        ),
        ({}, lambda f, n: n > 1, (1, {"max_tokens": LONGEST_ANSWER, "temperature": 0})),
        (
            {"top_p": 0.5},
            lambda f, n: n > 1,
            (1, {"top_p": 0.5, "max_tokens": LONGEST_ANSWER, "temperature": 0}),
        ),
        (
            {"bad_words": ["x"], "temperature": 1.0},
            lambda f, n: n > 1 or "bad_words" in f,
            (1, {"max_tokens": LONGEST_ANSWER, "temperature": 0}),
        ),
    ],
)
def test_what_the_engine_refuses_is_asked_in_a_plainer_way_of_all_versions(
    store, sent, refuses, then
):
    """Another engine than the one that users asked, or one with other defaults."""
    ask_as_users(store, sums(5), sent)
    engine = Engine(refuses=refuses)
    evaluation, pacer = examine(store, engine)
    with pacer:
        examined = evaluation.evaluate("step-10")
    assert len(examined) == 5
    for (_, model), asked in engine.fields.items():
        assert asked[-1] == then
        assert model == "base" or asked == [then] * len(asked), "it is tried once"


BUSY, NO_SUCH = EngineRefused(503, "busy"), EngineRefused(404, "no such model")


@pytest.mark.parametrize(
    ("error", "versions", "count", "remark"),
    [
        (REFUSED, {"base", "live", "step-10"}, 1, "probes left out: 1 that the engine refused"),
        (REFUSED, {"step-10"}, 5, "probes left out: 5 that the engine refused"),
        (GONE, {"live"}, 1, "probes left out: 1 that the engine did not answer"),
        (BUSY, {"base"}, 2, "probes left out: 2 that the engine did not answer"),
    ],
)
def test_a_probe_that_cannot_be_had_is_left_out_for_all_versions(
    store, error, versions, count, remark
):
    store.probes.add(labels(5))
    ask_as_users(store, sums(5, 500), {"temperature": 0.5})
    lost = [*sums(5)[:3], *sums(5, 500)][-count:]
    engine = Engine(fails=failing(error, versions, lost))
    evaluation, pacer = examine(store, engine, choosing=0)
    with pacer:
        assert evaluation.remarks() == ""
        examined = evaluation.evaluate("step-10")
    assert evaluation.remarks() == remark
    every = {question.hash for question in (*sums(5), *sums(5, 500))}
    assert {each.probe.key for each in examined} == every - {each.hash for each in lost}
    for each in examined:
        arms = (each.probe.base, each.probe.live, each.probe.candidate)
        assert all(len(arm.answers) == 8 for arm in arms)
        assert (each.probe.candidate.greedy_right is None) is not each.probe.labelled
    exposures = [each.exposures for each in (*store.probes.labelled(), *store.holdout.probes())]
    assert exposures.count(0) == count, "no gate has seen what was left out"
    (*_, last) = store.runs.observed()
    assert read(last) == Probed(30, 30)


@pytest.mark.parametrize(
    ("error", "versions", "count"),
    [
        (REFUSED, {"base", "live", "step-10"}, 6),
        (GONE, {"step-10"}, 10),
        (NO_SUCH, {"live"}, 1),
    ],
    ids=["most are refused", "the engine is gone", "a version is gone"],
)
def test_a_gate_that_cannot_be_asked_ends_the_run(store, error, versions, count):
    ask_as_users(store, sums(10), {"temperature": 0.5})
    engine = Engine(fails=failing(error, versions, sums(10)[-count:]))
    evaluation, pacer = examine(store, engine)
    with pacer, pytest.raises(type(error), match=str(error)):
        evaluation.evaluate("step-10")


def test_a_version_that_the_engine_lost_is_asked_again_once_it_is_back(store):
    ask_as_users(store, sums(10), {"temperature": 0.5})
    lost = {"live", "step-10"}
    engine = Engine(fails=lambda model, _: NO_SUCH if model in lost else None)
    evaluation, pacer = examine(store, engine, restore=lost.discard)
    with pacer:
        assert len(evaluation.evaluate("step-10")) == 10
    assert not lost
    assert evaluation.remarks() == ""


def test_a_step_is_chosen_without_what_cannot_be_had_of_another(store):
    store.probes.add(labels(200))
    engine = Engine(fails=failing(REFUSED, {"step-5"}, sums(200)[::3]))
    evaluation, pacer = examine(store, engine)
    with pacer:
        assert evaluation.best_step([5, 10, 15], lambda step: f"step-{step}") == 10
    asked = engine.questions
    assert asked["step-10"] == asked["step-15"] < asked["step-5"]
    assert not asked["step-10"] & {question.hash for question in sums(200)[::3]}
    assert "probes left out" in evaluation.remarks()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("known", "undecided", "serves"),
    [(0, 0, None), (120, 0, None), (20, 100, "live")],
)
def test_the_cost_of_an_examination_is_what_it_draws(store, known, undecided, serves):
    """Of labels of which only wrong answers are known, none choose and none are asked at 0."""
    wrong = [Label(q, (), None, (), rejected=("1",)) for q in sums(undecided, 700)]
    store.probes.add([*labels(known), *wrong]) if known else None
    ask_as_users(store, sums(20, 500), {"temperature": 0.9, "max_tokens": 9})
    ask_as_users(store, sums(20, 600), {"temperature": 0})
    engine = Engine()
    evaluation, pacer = examine(store, engine, live=serves)
    with pacer:
        steps = [5, 10, 15]
        evaluation.best_step(steps, lambda step: f"step-{step}")
        evaluation.evaluate("step-10")
    drawn = sum(n for asked in engine.fields.values() for n, _ in asked)
    config = Config(gate={"samples": 8}, update={"snapshots": 3})
    usage = store.questions.usage(config.gate.min_probes)
    found = samples_drawn(
        config,
        15,
        store.probes.labelled(),
        [each.question for each in store.holdout.probes()],
        usage,
        from_base=serves is None,
    )
    assert found == pytest.approx(drawn, rel=0.15)
    asked_once = by_question(engine, [each.question for each in wrong])
    assert all(len(sent) == 1 for sent in asked_once.values())
    assert len(asked_once) == undecided * (2 if serves is None else 3)


def test_how_far_a_verdict_is_away_is_said_in_labels(store):
    """Those that choose a run's step come on top, and a gate that has just looked asks for more."""
    first = outlook(store, Config().gate)
    assert first == {"labels": 0, "needed": {"+20": 57, "+10": 154, "+5": 301}}
    store.probes.add(labels(12))
    run = store.runs.create(Trigger.OPERATOR, {})
    certain = replace(judgement(), certainty=Certainty(12, 2.0, 52.0, 100))
    store.runs.add_verdict(run.id, "c", "base", certain)
    second = outlook(store, Config().gate)
    assert second["labels"] == 12
    assert all(second["needed"][gain] > first["needed"][gain] for gain in first["needed"])


PINNED = Pinned(Pin(1, (1, 2, 3), 1), "float32", (-1.0, -1.0), (-1.5, -1.5), None)


class Loading:
    """Stands for the candidate: says what is in the engine beside it."""

    def __init__(self, damaged=False):
        self.damaged = damaged
        self.beside_it = []

    @contextmanager
    def loaded_beside(self, directory):
        if self.damaged:
            raise AdapterDamaged("it is damaged")
        self.beside_it.append(directory.name)
        yield "beside"


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_live_a_week_ago_is_loaded_to_compare_with(store, monkeypatch, damaged):
    """Unless it is the base or what is live now, whose log-probabilities are known."""
    engine, candidate = Engine(), Loading(damaged)
    engine.read_back = lambda pin, *, model: {"beside": (-3.0, -1.0), "live": (-1.0, -1.0)}[model]
    evaluation, pacer = examine(store, engine)
    with pacer:
        base = evaluation.drift([PINNED], candidate)
        assert base.from_week == base.from_base is not None
        store.adapters.want("live", author="run", reason="")
        eight_days_on = time.time() + 8 * 86400
        monkeypatch.setattr("jobs.probes.time.time", lambda: eight_days_on)
        assert evaluation.drift([PINNED], candidate).from_week == 0.0
        evaluation.parent = "newer"
        found = evaluation.drift([PINNED], candidate)
    assert candidate.beside_it == ([] if damaged else ["live"])
    expected = None if damaged else pytest.approx((math.exp(-2) - 1 + 2) / 2)
    assert found.from_week == expected


def test_a_live_version_that_cannot_be_read_back_is_within_no_limit(store):
    """The gate has been asked by then: it holds the candidate, and the run goes on."""

    def gone(pin, *, model):
        raise EngineUnreachable("it does not answer")

    engine = Engine()
    engine.read_back = gone
    evaluation, pacer = examine(store, engine)
    with pacer:
        found = evaluation.drift([PINNED], Loading())
    assert found.from_base == found.from_week is not None
    assert math.isnan(found.from_live)
    store.measurements.add("step-10", found)
    kept = store.measurements.newest(Drift, "step-10").found
    assert kept == replace(found, from_live=None)


def test_a_probe_whose_answers_cannot_be_read_is_left_out():
    class Choking(Reader):
        def read(self, question, texts):
            if question == "worse":
                raise ValueError("what it choked on")
            return super().read(question, texts)

    asker = Asker(None, Config(), None, Choking(), Usage())
    drawn = Answers((Sample("5", (1,), (-1.0,), Finish.STOP),), 1.0)
    items = [Item(number, from_prompt(text)) for number, text in enumerate(["worse", "better"])]
    read = list(asker.read((item, [drawn]) for item in items))
    assert [item.question.text for item, _ in read] == ["better"]
    assert asker.remarks() == "probes left out: 1 that could not be read"
