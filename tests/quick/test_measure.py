"""The look between runs, on a stand-in for the engine."""

from __future__ import annotations

import random
import time

import pytest

from jobs import measure
from tests.answering import REFUSED, Engine, failing, labels, sums
from ttrl.config import Config
from ttrl.evaluation.estimates import Quality
from ttrl.questions.question import from_prompt, from_request
from ttrl.store.questions import Recorded

pytestmark = pytest.mark.integration  # scikit-learn takes its time to be loaded

DAY = 86400.0


def config(**more):
    return Config(gate={"samples": 8}, **more)


def test_the_live_version_is_measured_and_nobody_else(store):
    store.probes.add(labels(40))
    store.questions.record([Recorded(q, 1.0) for q in sums(30, 500)], holdout=1)
    store.adapters.served("live", "")
    engine, seen = Engine(), []
    found = measure.run(config(), store, engine, lambda done, of: seen.append((done, of)))
    assert engine.asked == ["live"]
    assert seen[-1] == (70, 70)
    assert found.quality is not None
    assert found.quality.pass_at_1 == pytest.approx(0.5, abs=0.15)
    assert (found.quality.questions, found.quality.labelled) == (70, 40)
    kept = store.measurements.newest(Quality, "live")
    assert kept is not None
    assert kept.found == found.quality
    assert store.measurements.newest(Quality) is None, "nothing of the base model"
    assert {probe.exposures for probe in store.probes.labelled()} == {0}, "no gate has looked"


def test_what_cannot_be_had_is_left_out_and_said(store):
    store.probes.add(labels(40))
    engine = Engine(fails=failing(REFUSED, {"base"}, sums(2)))
    found = measure.run(config(), store, engine)
    assert found.quality is not None
    assert found.quality.questions == 38
    assert found.remarks == "probes left out: 2 that the engine refused"
    kept = store.measurements.newest(Quality)
    assert kept is not None
    assert kept.found.remarks == found.remarks


def test_labels_that_do_not_look_like_the_traffic_do_not_speak_for_it(store):
    every = list(zip(sums(240), labels(240), strict=True))
    store.set_fact("holdout_key", "00" * 32)  # else which are asked is another draw each time
    store.probes.add([label for _, label in every[::6]])
    engine = Engine()
    few = measure.run(config(), store, engine)
    assert few.quality is not None
    assert few.quality.estimate is None, "of so little traffic nobody knows"
    traffic = [Recorded(q, 1.0) for n, (q, _) in enumerate(every) if n % 6]
    store.questions.record(traffic, holdout=1)
    known = measure.run(config(), store, engine)
    assert known.quality is not None
    assert known.quality.estimate is not None
    assert known.quality.estimate.low <= 0.2 + 0.1
    others = [from_prompt(f"Please write {n} + {n} letters on swans") for n in range(600)]
    store.questions.record([Recorded(q, 2.0) for q in others], holdout=0)
    stale = measure.run(config(), store, engine)
    assert stale.quality is not None
    assert stale.quality.estimate is None


def test_without_probes_nothing_is_asked(store):
    engine = Engine()
    assert measure.run(config(), store, engine).quality is None
    assert engine.asked == []


def record(store, texts, at):
    store.questions.record([Recorded(from_prompt(text), at) for text in texts], holdout=0)


PLACES = ("Ulm", "Bonn", "Kiel", "Jena", "Celle", "Trier", "Worms", "Halle", "Essen", "Fulda")


def sentences(what, count):
    return [f"{what} {PLACES[n % 10]}, number {n}?" for n in range(count)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_questions_that_move_are_seen(store):
    now = time.time()
    every = sentences("How do I get to", 300)
    random.Random(0).shuffle(every)
    record(store, every[:150], now - 10 * DAY)
    assert measure.shift_of_questions(config(), store) is None, "none are new"
    record(store, every[150:], now - DAY)
    quiet = measure.shift_of_questions(config(), store)
    assert quiet is not None
    assert not quiet.moved
    record(store, sentences("What does a night cost in", 150), now - DAY)
    loud = measure.shift_of_questions(config(), store)
    assert loud is not None
    assert loud.moved
    assert loud.psi > 4 * quiet.psi
    assert (loud.before, loud.after) == (150, 300)


@pytest.mark.parametrize(
    "texts",
    [
        ["yes", "no", "ok"],
        ["?", "!", "..."],
        ["7"],
        ["\N{GRINNING FACE}", "\N{CRYING FACE}"],
    ],
)
def test_questions_that_say_little(store, texts):
    """Conversations that end in the same few words are different questions."""
    now, recorded = time.time(), []
    for n in range(240):
        body = [
            {"role": "user", "content": f"Tell me of {n}."},
            {"role": "assistant", "content": "Shall I?"},
            {"role": "user", "content": texts[n % len(texts)]},
        ]
        question = from_request({"messages": body}, max_chars=1000)
        recorded.append(Recorded(question, now - (n % 2) * 10 * DAY))
    store.questions.record(recorded, holdout=0)
    found = measure.shift_of_questions(config(), store)
    assert found is None or not found.moved
