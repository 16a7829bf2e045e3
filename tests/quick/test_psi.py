"""The population stability index."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.evaluation.drift import compare

groups = st.lists(st.integers(0, 5), min_size=1, max_size=50)


def test_by_hand():
    """Halves against three quarters and one."""
    found = compare([0, 1] * 50, [0, 0, 0, 1] * 25)
    assert found.psi == pytest.approx(0.25 * math.log(1.5) + 0.25 * math.log(2))
    assert (found.before, found.after) == (100, 100)
    assert found.by_chance == pytest.approx(3.841 * 2 / 100, rel=0.03), "chi-square, 1 degree"
    assert found.moved


def test_a_group_that_nobody_is_in():
    assert 0 < compare([0] * 100, [1] * 100).psi < 100


@given(groups, groups)
def test_it_is_never_negative_and_the_same_both_ways(before, after):
    found = compare(before, after)
    assert found.psi >= 0
    assert compare(after, before).psi == pytest.approx(found.psi)
    assert compare(before, before).psi == 0


def test_chance_seldom_passes_its_bound():
    rng = random.Random(0)
    moved = 0
    for _ in range(400):
        before, after = ([rng.randrange(10) for _ in range(300)] for _ in range(2))
        moved += compare(before, after).moved
    assert 4 <= moved <= 40, "about one in twenty"
