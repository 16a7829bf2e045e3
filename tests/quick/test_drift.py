"""Distances from pinned log-probabilities."""

import math
import random

import pytest

from ttrl.engine.proof import Pin, Pinned
from ttrl.evaluation.drift import Drift, divergences

PIN = Pin(1, (1, 2, 3), 1)


def test_nothing_moved_and_nothing_known():
    still = Pinned(PIN, "float32", (-0.5, -1.0), (-0.5, -1.0), (-0.5, -1.0))
    assert divergences([still]) == Drift(0.0, 0.0)
    assert divergences([Pinned(PIN, "float32", (-0.5,), (-0.5,))]).from_live is None
    assert divergences([]) == Drift(None, None)


def test_it_is_the_divergence_of_the_distributions():
    """Tokens drawn from one coin, judged under another; the exact value is known."""
    own, other = {"h": 0.8, "t": 0.2}, {"h": 0.5, "t": 0.5}
    exact = sum(p * math.log(p / other[side]) for side, p in own.items())
    rng = random.Random(0)
    drawn = rng.choices(list(own), own.values(), k=50_000)
    logs = [tuple(math.log(under[side]) for side in drawn) for under in (own, other)]
    found = divergences([Pinned(PIN, "float32", logs[0], logs[1])])
    assert found.from_base == pytest.approx(exact, rel=0.02)
