"""Accuracy on the traffic from few labels and many votes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.estimate import LEAST, estimate

ratio = st.floats(0, 1)


def draw(rng, count, *, sure=1.0):
    """Questions: the chance that an answer is right, and the majority's share, which claims more
    than that by `sure`."""
    found = []
    for _ in range(count):
        right = min(max(rng.betavariate(3, 2), 0.0), 1.0)
        found.append((right, min(1.0, right * sure + rng.uniform(0, 0.1))))
    return found


@pytest.mark.parametrize(
    ("share", "value", "low", "high"),
    [(0.95, 0.58285714, 0.50132223, 0.66439205), (0.5, 0.66609824, 0.55040072, 0.78179576)],
)
def test_as_the_authors_own_package_has_it(share, value, low, high):
    """ppi-python 0.2.3: ppi_mean_pointestimate, ppi_mean_ci. Ours is for few labels, and wider."""
    labelled = [(0.9, share), (0.4, 0.6), (0.7, 0.7), (1.0, 0.9), (0.0, 0.4)] * 5
    unlabelled = [0.8, 0.7, 0.9, 0.6, 0.5, 0.95, 0.4] * 10
    found = estimate(labelled, unlabelled)
    assert found is not None
    assert found.value == pytest.approx(value, abs=0.003), "the weight is of samples, not theirs"
    assert high - low < found.high - found.low < 1.4 * (high - low)
    assert (found.labels, found.unlabelled) == (25, 70)


def test_few_labels_say_nothing():
    assert estimate([(1.0, 1.0)] * (LEAST - 1), [0.5] * 100) is None


def test_labels_alone_are_their_mean():
    found = estimate([(1.0, 0.2), (0.0, 0.9)] * LEAST)
    assert found is not None
    assert found.value == pytest.approx(0.5)


def test_all_right_is_not_certainty():
    found = estimate([(1.0, 1.0)] * LEAST, [1.0] * 100)
    assert found is not None
    assert found.value == 1.0
    assert found.low < 0.9


@pytest.mark.parametrize("sure", [1.0, 1.5])
def test_what_claims_too_much_is_set_right(sure):
    """After training the share is inflated; the labels say by how much."""
    rng = random.Random(1)
    labelled, more = draw(rng, 60, sure=sure), [share for _, share in draw(rng, 600, sure=sure)]
    found = estimate(labelled, more)
    alone = estimate(labelled)
    assert found is not None
    assert alone is not None
    assert found.low <= 0.6 <= found.high
    assert found.high - found.low < alone.high - alone.low, "votes make it narrower"


def test_the_truth_lies_inside():
    """In at least 90 of 100, by few labels and by many."""
    for labels in (LEAST, 50):
        inside = 0
        made = 0
        for seed in range(100):
            rng = random.Random(seed)
            found = estimate(draw(rng, labels, sure=1.3), [s for _, s in draw(rng, 200, sure=1.3)])
            made += found is not None
            inside += found is not None and found.low <= 0.6 <= found.high
        assert made >= 95
        assert inside >= 0.9 * made


@given(st.lists(st.tuples(ratio, ratio), min_size=LEAST, max_size=60), st.lists(ratio, max_size=60))
def test_it_is_a_share_within_its_bounds(labelled, unlabelled):
    found = estimate(labelled, unlabelled)
    assert found is None or 0 <= found.low <= found.value <= found.high <= 1


def test_traffic_that_has_moved_away_from_its_labels():
    labelled = [(1.0, 0.9), (1.0, 0.8), (0.0, 0.7)] * 10
    assert estimate(labelled, [0.8, 0.9, 0.7] * 20) is not None
    assert estimate(labelled, [0.3, 0.9, 0.4] * 20) is None
    assert estimate(labelled, [0.3] * (LEAST - 1)) is not None, "too few to tell"
    assert estimate([(1.0, 0.9)] * LEAST, [0.8] * LEAST) is None
