"""Evidence that may be looked at whenever one likes, and a budget of errors for a year."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.config import GateConfig
from ttrl.evaluation.evidence import (
    YEAR_SECONDS,
    e_value,
    interval,
    labels_for,
    labels_needed,
    threshold_at,
)

SETTINGS = GateConfig()
DAY = 86400.0


def test_no_probe_is_no_evidence():
    assert e_value([]) == pytest.approx(1)


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(-0.5, 0.5), st.randoms())
def test_the_order_of_the_probes_does_not_matter(differences, above, rng):
    shuffled = rng.sample(differences, len(differences))
    assert e_value(shuffled, above) == pytest.approx(e_value(differences, above), rel=1e-9)


@pytest.mark.parametrize("outcomes", [(-1, 1), (-1, 0, 1), (-0.5, -0.5, 1), (0, 0)])
def test_a_candidate_that_is_no_better_pays_nothing_on_average(outcomes):
    """Exactly: over all equally likely outcomes of four probes whose mean is 0."""
    all_ways = itertools.product(outcomes, repeat=4)
    assert fmean(map(e_value, all_ways)) == pytest.approx(1)


def test_a_margin_is_a_null_of_its_own():
    assert fmean(e_value(w, -0.5) for w in itertools.product((-1, 0), repeat=4)) == pytest.approx(1)
    assert e_value([0.0] * 100, -0.1) > 100, "not worse by a tenth"
    assert e_value([0.0] * 100) == pytest.approx(1)


def test_whoever_looks_after_each_probe_is_seldom_wrong():
    """The highest e-value on the way passes 20 in at most a twentieth of all cases (Ville)."""
    rng = random.Random(1)

    def passes() -> bool:
        seen = [rng.choice((-0.5, 0, 0.5)) for _ in range(60)]
        return any(e_value(seen[:count]) >= 20 for count in range(5, 61, 5))

    assert sum(passes() for _ in range(400)) <= 20


def test_large_evidence_is_a_number_still():
    assert e_value([1.0] * 5000) == math.inf
    assert e_value([-1.0] * 5000) < 1e-100


@pytest.mark.parametrize(
    ("past", "now", "threshold"),
    [
        pytest.param([], 0, 52, id="the first gate"),
        pytest.param([0], 0, 104, id="at once again"),
        pytest.param([0], 365, 52, id="after a year"),
        pytest.param([7 * week for week in range(60)], 7 * 60, 54.2, id="one a week"),
        pytest.param(range(400), 400, 379.6, id="one a night"),
        pytest.param([5], 0, 104, id="a clock that went back"),
    ],
)
def test_what_a_gate_asks_for(past, now, threshold):
    asked = threshold_at(now * DAY, [at * DAY for at in past], SETTINGS)
    assert asked == pytest.approx(threshold, rel=1e-3)


@pytest.mark.parametrize("every", [0.7, 7, 30])
@pytest.mark.parametrize("errors", [0.1, 1.0])
def test_a_years_gates_spend_no_more_than_its_errors(every, errors):
    settings = GateConfig(false_better_a_year=errors)
    times = [number * every * DAY for number in range(int(800 / every))]
    spent = [1 / threshold_at(at, times[:n], settings) for n, at in enumerate(times)]
    for first in range(0, len(times), max(1, len(times) // 20)):
        year = [
            s for at, s in zip(times, spent, strict=True) if 0 <= at - times[first] < YEAR_SECONDS
        ]
        assert sum(year) <= errors * (1 + 1e-9)


@pytest.mark.parametrize(
    ("count", "e", "threshold", "needed"),
    [(50, 10, 100, 100), (50, 100, 10, 50), (50, 0.9, 10, None)],
)
def test_how_many_would_decide(count, e, threshold, needed):
    assert labels_needed(count, e, threshold) == needed


@pytest.mark.parametrize("gain", [0.05, 0.2, 0.5])
def test_so_many_labels_prove_a_gain_in_nine_of_ten_gates(gain):
    rng, labels = random.Random(3), labels_for(gain, 52)

    def proves(count: int) -> bool:
        return e_value([float(rng.random() < gain) for _ in range(count)]) >= 52

    assert sum(proves(labels) for _ in range(200)) >= 168
    assert sum(proves(labels // 2) for _ in range(200)) <= 150


@pytest.mark.parametrize("chance", [0.5, 0.8])
def test_bounds_hold_at_whatever_time_one_looks(chance):
    """Coins of -1 and 1, looked at ten times: both bounds hold at all looks in nine tenths and
    more of the cases."""
    rng, mean = random.Random(2), 2 * chance - 1

    def holds() -> bool:
        seen = [1 if rng.random() < chance else -1 for _ in range(100)]
        bounds = [interval(seen[:count]) for count in range(10, 101, 10)]
        return all(low <= mean <= high for low, high in bounds)

    assert sum(holds() for _ in range(50)) >= 45


def test_without_evidence_the_bounds_are_the_widest():
    assert interval([]) == (-1.0, 1.0)
    low, high = interval([0.25] * 500)
    assert 0.2 < low < 0.25 < high < 0.3
