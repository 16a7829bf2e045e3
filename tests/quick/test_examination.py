"""The probes of a run: who is asked what, and which step is chosen."""

from __future__ import annotations

import math
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from jobs.probe import Examination
from ttrl.adapters import AdapterDamaged
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.engine.client import ModelCard
from ttrl.engine.pacer import Pacer
from ttrl.probes import Label
from ttrl.proof import Pin, Pinned
from ttrl.questions import from_prompt
from ttrl.samples import Finish, Sample, SampleSet
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger

RIGHT = {"base": 0.2, "live": 0.5, "step-5": 0.4, "step-10": 0.9, "step-15": 0.6}
"""The share of right answers of each version."""


@dataclass
class Engine:
    """Answers sums rightly as often as the version asked does."""

    asked: list[str] = field(default_factory=list)
    questions: dict[str, set[str]] = field(default_factory=dict)
    drawn: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def base_model(self):
        return ModelCard("base", None, None, None)

    def sample(self, question, *, model, n, sampling, priority):
        with self.lock:
            self.drawn += 1
            rng = random.Random(f"{model} {question.hash} {self.drawn}")
            if self.asked[-1:] != [model]:
                self.asked.append(model)
            self.questions.setdefault(model, set()).add(question.hash)
        a, b = (int(word.strip("?")) for word in question.text.split() if word[0].isdigit())
        given = [a + b if rng.random() < RIGHT[model] else rng.randrange(10**6) for _ in range(n)]
        drawn = (
            Sample(f"\\boxed{{{number}}}", (1, 2), (0.0, 0.0), Finish.STOP) for number in given
        )
        return SampleSet(model, (1,), tuple(drawn))

    def load(self):
        return None


def sums(count, first=0):
    return [from_prompt(f"What is {100 + n} plus {200 + n}?") for n in range(first, first + count)]


def examine(store, engine, live="live", **gate):
    store.adapters.served(live, "")
    run = store.runs.create(Trigger.OPERATOR, {})
    config = Config(gate={"samples": 8, **gate})
    pacer = Pacer(engine.load, maximum=4, pause_waiting=64)
    return Examination(engine, store, config, run.id, pacer, Reader()), pacer


def labels(count):
    return [Label(q, (str(300 + 2 * n),), None, ()) for n, q in enumerate(sums(count))]


def test_the_best_step_is_chosen_and_judged_on_other_probes(store):
    store.probes.add(labels(200))
    engine = Engine()
    examination, pacer = examine(store, engine)
    with pacer:
        chosen = examination.choose([5, 10, 15], lambda step: f"step-{step}")
        choosing = set(engine.questions["step-10"])
        examined = examination.judge("step-10")
    assert chosen == 10
    assert 30 < len(choosing) < 70
    assert not choosing & {each.probe.key for each in examined}
    assert len(choosing) + len(examined) == 200
    assert engine.asked == ["step-5", "step-10", "step-15", "base", "live", "step-10"]
    assert {probe.exposures for probe in store.probes.labelled()} == {1}


def test_each_run_draws_its_own(store):
    store.probes.add(labels(200))
    drawn = []
    for _ in range(2):
        engine = Engine()
        examination, pacer = examine(store, engine)
        with pacer:
            examination.choose([5, 10], lambda step: f"step-{step}")
        drawn.append(engine.questions["step-5"])
        store.runs.end(store.runs.active().id, "nothing", "")
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("known", [0, 20])
def test_without_labels_to_spare_the_last_step_is_taken_and_nothing_asked(store, known):
    store.probes.add(labels(known)) if known else None
    store.questions.record([Recorded(q, 1.0) for q in sums(60, 500)], holdout=1)
    engine = Engine()
    examination, pacer = examine(store, engine)
    with pacer:
        assert examination.choose([5, 10, 15], lambda step: f"step-{step}") == 15
        assert engine.asked == []
        assert len(examination.judge("step-15")) == 60 + known


def test_the_live_version_is_asked_twice_and_the_base_once(store):
    store.probes.add(labels(40))
    engine = Engine()
    examination, pacer = examine(store, engine, live=None, choosing=0)
    with pacer:
        examined = examination.judge("step-10")
    assert engine.asked == ["base", "step-10"], "twice in a row"
    assert examination.current
    store.adapters.served("promoted-meanwhile", "")
    assert not examination.current
    for each in examined:
        assert each.probe.base == each.probe.live
        assert each.probe.candidate.accuracy >= 0.5
        assert len(each.probe.again.answers) == 8
    assert any(each.probe.again != each.probe.live for each in examined)


PINNED = Pinned(Pin(1, (1, 2, 3), 1), "float32", (-1.0, -1.0), (-1.5, -1.5), None)


class Loading:
    """Stands for the candidate: says what is in the engine beside it."""

    def __init__(self, damaged=False):
        self.damaged = damaged
        self.beside_it = []

    @contextmanager
    def beside(self, directory):
        if self.damaged:
            raise AdapterDamaged("it is damaged")
        self.beside_it.append(directory.name)
        yield "beside"


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_live_a_week_ago_is_loaded_to_compare_with(store, monkeypatch, damaged):
    """Unless it is the base or what is live now, whose log-probabilities are known."""
    engine, candidate = Engine(), Loading(damaged)
    engine.read_back = lambda pin, *, model: {"beside": (-3.0, -1.0), "live": (-1.0, -1.0)}[model]
    examination, pacer = examine(store, engine)
    with pacer:
        base = examination.drift([PINNED], candidate)
        assert base.from_week == base.from_base is not None
        store.adapters.want("live", author="run", reason="")
        eight_days_on = time.time() + 8 * 86400
        monkeypatch.setattr("jobs.probe.time.time", lambda: eight_days_on)
        assert examination.drift([PINNED], candidate).from_week == 0.0
        examination.parent = "newer"
        found = examination.drift([PINNED], candidate)
    assert candidate.beside_it == ([] if damaged else ["live"])
    expected = None if damaged else pytest.approx((math.exp(-2) - 1 + 2) / 2)
    assert found.from_week == expected
