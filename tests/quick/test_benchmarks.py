"""The simulations bet as the gate and the live guard do."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import pytest

np = pytest.importorskip("numpy")

from benchmarks import detector, gate  # noqa: E402
from ttrl.detector import BOUNDS, Stream  # noqa: E402
from ttrl.evidence import Budget, e_value  # noqa: E402


def test_the_simulation_sees_the_gates_own_evidence(monkeypatch):
    """At its last look, with probes that are answered for certain."""
    live, other = np.zeros(200), np.r_[np.ones(12), np.zeros(188)]
    monkeypatch.setattr(gate, "LOOKS", 1)
    e = e_value(list(other - live))
    for threshold, seen in ((e * 0.999, True), (e * 1.001, False)):
        monkeypatch.setattr(Budget, "threshold", threshold)
        assert gate.look_and_look(np.random.default_rng(0), live, live, other, Budget()) is seen
    assert math.isfinite(e)


def test_better_than_live_is_not_enough_when_the_base_was_better_still():
    rng, base = np.random.default_rng(0), np.ones(500)
    live, other = base * 0.2, base * 0.8
    assert gate.look_and_look(rng, live, live, other, Budget())
    assert not gate.look_and_look(rng, base, live, other, Budget())


def test_a_candidate_moves_as_much_as_it_should():
    rng = np.random.default_rng(1)
    live = gate.begin(rng).live
    for effect in (0.03, -0.01, 0.0, 0.05):
        made = gate.candidate(rng, live, effect)
        assert made.mean() - live.mean() == pytest.approx(effect, abs=1e-4)
        assert 0.1 < (made != live).mean() < gate.MOVED + 0.02


def test_more_labels_ship_a_better_candidate_sooner_and_no_labels_none():
    rng = np.random.default_rng(2)
    assert gate.power(rng, 2000, 5, 10, 0.05) == 1
    assert gate.power(rng, 10, 5, 10, 0.05) is None
    assert gate.harm(rng, 200, 5, 10)["ever_harmed_share"] == 0


@pytest.mark.parametrize("stream", Stream)
def test_a_version_gets_worse_by_about_what_its_stream_is_made_for(stream):
    pairs = itertools.islice(detector.stream_of(1, detector.CHANGES[stream]), 1500)
    seen = [pair[stream] for pair in pairs if stream in pair]
    assert fmean(seen) == pytest.approx(BOUNDS[stream].made_for, rel=0.3)


def test_versions_that_are_alike_raise_no_alarm_and_nonsense_does_soon():
    assert detector.unchanged(1e4, 1500) == 0
    found = detector.delays(detector.NONSENSE, Stream.UNREADABLE, 1e4, 5)
    assert found["median"] == pytest.approx(found["stated"], rel=0.3)
