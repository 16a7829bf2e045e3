"""The simulations bet as the gate and the live monitor do, and judge as operators do."""

from __future__ import annotations

import itertools
import random
from statistics import fmean

import pytest
from click.testing import CliRunner

np = pytest.importorskip("numpy")

from benchmarks import estimates, gate, monitors  # noqa: E402
from ttrl.evaluation.gate import Verdict  # noqa: E402
from ttrl.monitoring.live import Stream  # noqa: E402


@pytest.mark.parametrize("alike", gate.ALIKE)
@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("+5 points", 0.05), ("+10 points", 0.10), ("+20 points", 0.20), ("-10 points", -0.10),
        ("+5 points by corrections", 0.05), ("+20 points by corrections", 0.20),
        ("unchanged", 0.0), ("collapse to noise", -0.45),
    ],
)  # fmt: skip
def test_a_simulated_candidate_is_what_its_name_says(kind, effect, alike):
    rng = np.random.default_rng(1)
    before = gate.live(rng, 20_000, alike, gate.UNREADABLE)
    after = gate.KINDS[kind](rng, before)
    for each in (before, after):
        assert np.allclose(each.chances.sum(axis=1), 1)
        assert each.chances.min() >= 0
    assert after.correct.mean() - before.correct.mean() == pytest.approx(effect, abs=0.02)


def test_a_lower_temperature_changes_no_most_likely_answer():
    rng = np.random.default_rng(1)
    before = gate.live(rng, 2000, 0.5, gate.UNREADABLE)
    after = gate.KINDS["lower temperature"](rng, before)
    assert (after.chances.argmax(axis=1) == before.chances.argmax(axis=1)).all()
    assert after.correct.mean() > before.correct.mean()


def test_the_simulation_asks_the_judge():
    verdicts = [
        gate.judged(gate.Case(kind, 0.5, 100), 52, 1)
        for kind in ("30% corrected", "unchanged", "collapse to one answer")
    ]
    assert verdicts == [Verdict.BETTER, Verdict.UNPROVEN, Verdict.WORSE]


MADE_FOR = {
    Stream.AGREEMENT: 0.10, Stream.UNREADABLE: 0.15, Stream.LONGER: 0.90, Stream.SHORTER: 0.75,
    Stream.REPETITION: 0.25, Stream.CONSTANT: 0.875, Stream.DEPARTURE: 0.25, Stream.ERRORS: 0.10,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("stream", Stream)
def test_a_version_gets_worse_by_about_what_its_stream_is_made_for(stream):
    traffic = monitors.TWO if stream is Stream.CONSTANT else monitors.Traffic()
    pairs = monitors.pairs(1, monitors.WORSE[stream], traffic=traffic)
    seen = [pair[stream] for pair in itertools.islice(pairs, 1500) if stream in pair]
    assert fmean(seen) == pytest.approx(MADE_FOR[stream], rel=0.3)


@pytest.mark.long
def test_versions_that_are_alike_raise_no_alarm_and_nonsense_does_soon():
    assert monitors.unchanged(1e4, 1500) == 0
    found = monitors.delays(monitors.NONSENSE, Stream.UNREADABLE, 1e4, 5)
    assert found["median"] == pytest.approx(found["stated"], rel=0.3)


@pytest.mark.long
def test_estimates_hold_for_operators_who_type_nothing():
    cells, moved = estimates.simulate(estimates.POPULATIONS[4:5], 16)
    found = estimates.summary(cells, moved)
    assert set(found["coverage_by_operator"]) == set(estimates.Operator)
    assert fmean(each["mean"] for each in found["operators"].values()) >= 0.9
    assert abs(found["bias"]) < 0.1
    widths = {name: each["width"] for name, each in found["operators"].items()}
    assert widths["types"] < widths["silent"] < widths["skips"], "the less is said, the wider"


def test_simulated_versions_are_as_good_as_they_should_be():
    for population in estimates.POPULATIONS:
        pool = estimates.pool(random.Random(1), population)
        for version in range(estimates.GATES + 1):
            assert pool.truth(version) == pytest.approx(population.right, abs=0.06)
            assert all(sum(each.chances) == pytest.approx(1) for each in pool.versions[version])


@pytest.mark.long
@pytest.mark.parametrize("case", monitors.BETTER)
def test_a_better_version_is_not_rolled_back(case):
    found = monitors.roll_backs(3, case, 1e5, 600)
    assert found["low"] == found["a_year"] == 0


@pytest.mark.integration
def test_the_monitors_are_measured():
    assert CliRunner().invoke(monitors.main, ["--smoke"], catch_exceptions=False).exit_code == 0
