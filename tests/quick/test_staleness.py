"""Probes that no longer look like the traffic are found out."""

import random

import pytest

from ttrl.config import GateConfig
from ttrl.evaluation.drift import FEWEST, staleness_of_labels

pytestmark = pytest.mark.integration  # scikit-learn takes its time to be loaded

SUMS = ("What is {} plus {}?", "Add {} and {}.", "How much is {} less {}?")
PUMPS = (
    "The pump in hall {} leaks at {} bar, what do I do?",
    "Which seal fits pump {} of {}?",
    "Pump {} has run for {} hours: when is it due?",
)


def texts(templates, count, seed):
    rng = random.Random(seed)
    return [
        rng.choice(templates).format(rng.randrange(999), rng.randrange(99)) for _ in range(count)
    ]


def test_probes_like_the_traffic_are_not_stale():
    found = staleness_of_labels(texts(SUMS, 75, 1), texts(SUMS, 150, 2))
    assert not found.stale(GateConfig())
    assert found.told_apart < 0.65
    assert found.speaking > 0.5


def test_probes_unlike_the_traffic_are_stale():
    found = staleness_of_labels(texts(SUMS, 75, 1), texts(PUMPS, 150, 2))
    assert found.stale(GateConfig())
    assert found.told_apart > 0.99


def test_traffic_that_is_mostly_something_else_leaves_few_that_speak_for_it():
    """Half of the probes are of a kind that is a small part of the traffic."""
    mixed = texts(PUMPS, 10, 3) + texts(SUMS, 140, 4)
    all_alike = staleness_of_labels(texts(SUMS, 75, 5), texts(SUMS, 150, 6))
    found = staleness_of_labels(texts(PUMPS, 40, 1) + texts(SUMS, 40, 2), mixed)
    assert found.told_apart > all_alike.told_apart
    assert found.speaking < all_alike.speaking


def test_a_few_say_nothing():
    assert staleness_of_labels(texts(SUMS, FEWEST - 1, 1), texts(SUMS, 150, 2)) is None
    assert staleness_of_labels([], []) is None
