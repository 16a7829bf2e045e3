"""Accuracy on the traffic from few labels and many votes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.evaluation.estimates import LEAST, estimate

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


HALF = [(1.0, 0.9)] * 20 + [(0.0, 0.6)] * 20
"""Half of the questions have correct majorities; of the others only the majority is known to be
wrong, so that 40% of the answers to them may be right."""
UNKNOWN = [0.0] * 20 + [0.4] * 20


@pytest.mark.parametrize(
    ("right", "judged", "value"), [(0, 0, 0.6), (0, 49, 0.502), (49, 49, 0.698), (12, 24, 0.6)]
)
def test_unknown_answers_are_right_as_often_as_those_that_were_judged(right, judged, value):
    found = estimate(HALF, (), UNKNOWN, (), (right, judged))
    assert found is not None
    assert found.value == pytest.approx(value, abs=1e-3)


def test_the_interval_holds_whatever_the_unknown_answers_are():
    least = estimate(HALF)
    most = estimate([(right + more, s) for (right, s), more in zip(HALF, UNKNOWN, strict=True)])
    found = estimate(HALF, (), UNKNOWN, (), (0, 100))
    assert found is not None
    assert least is not None
    assert most is not None
    assert (found.low, found.high) == (least.low, most.high)
    assert found.labels == 40


def test_what_was_skipped_may_be_right_or_wrong():
    found = estimate(HALF, (), (), [(1.0, 0.5)] * 10)
    assert found is not None
    wrong, right = estimate([*HALF, *[(0.0, 0.5)] * 10]), estimate([*HALF, *[(1.0, 0.5)] * 10])
    assert wrong is not None
    assert right is not None
    assert found.value == 0.5, "like the others, as far as one knows"
    assert (found.low, found.high) == (wrong.low, right.high)
    assert estimate(HALF[: LEAST - 1], (), (), [(1.0, 0.5)] * 10) is None


@pytest.mark.integration
@pytest.mark.parametrize("labels", [20, 40, 80])
@pytest.mark.parametrize("types", [True, False])
def test_an_operator_who_types_nothing_is_not_taken_for_one_with_easy_questions(labels, types):
    """Majorities are right on 60% of the questions (`neither.py`, which said 71% for 64%)."""
    rng = random.Random(7)
    population = []
    for _ in range(5000):
        known = rng.random() < 0.6
        share = max(0.15, rng.betavariate(6, 2) if known else rng.betavariate(3, 3))
        population.append((known, share if known else (1 - share) * rng.betavariate(1, 4), share))
    truth = sum(right for _, right, _ in population) / len(population)
    made, inside, values = 0, 0, []
    for _ in range(120):
        drawn = rng.choices(population, k=labels)
        seen = [(right if known or types else 0.0, share) for known, right, share in drawn]
        unknown = [0.0 if known or types else 1 - share for known, _, share in drawn]
        again = [rng.random() * (1 - s) < right for k, right, s in drawn if not (k or types)]
        more = [share for _, _, share in rng.choices(population, k=64)]
        found = estimate(seen, more, unknown, (), (sum(again[:10]), len(again[:10])))
        if found is not None:
            made += 1
            inside += found.low <= truth <= found.high
            values.append(found.value)
    assert made >= 110
    assert inside >= 0.93 * made
    assert sum(values) / made == pytest.approx(truth, abs=0.04)
