"""Which samples go into the update."""

import statistics
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.sampling.groups import Downsampling, informative, keep

BINARY = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)
WORTH = st.lists(st.floats(-3, 3), min_size=2, max_size=9)
HOW = st.sampled_from(Downsampling)


@pytest.mark.parametrize(
    ("rewards", "differ"),
    [([1.0, 0.0], True), ([1.0, 1.0], False), ([0.0], False), ([], False), ([0.5, 0.25], True)],
)
def test_informative(rewards, differ):
    assert informative(rewards) is differ


@pytest.mark.parametrize(
    ("ones", "zeros", "count", "kept_ones"),
    [(3, 61, 32, 3), (20, 44, 32, 16), (60, 4, 32, 28), (64, 0, 32, 32), (0, 64, 32, 0)],
)
def test_half_of_each_topped_up_from_the_other(ones, zeros, count, kept_ones):
    rewards = [1.0] * ones + [0.0] * zeros
    kept = keep(rewards, count, seed=1)
    assert len(kept) == count
    assert sum(rewards[place] for place in kept) == kept_ones


@given(BINARY, st.integers(1, 50), st.integers(0, 2**31), HOW)
def test_kept_are_places_in_order_and_the_same_for_the_same_seed(rewards, count, seed, how):
    kept = keep(rewards, count, seed, how)
    assert kept == keep(rewards, count, seed, how)
    assert list(kept) == sorted(set(kept))
    assert count % len(kept) == 0
    assert len(kept) == max(n for n in range(1, len(rewards) + 1) if count % n == 0)
    assert all(0 <= place < len(rewards) for place in kept)


@given(BINARY, st.integers(1, 25).map(lambda half: 2 * half))
def test_what_differs_still_differs_among_the_kept(rewards, count):
    kept = [rewards[place] for place in keep(rewards, count, seed=0)]
    assert informative(kept) is informative(rewards)


@given(WORTH | st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=9), st.integers(2, 8))
def test_nothing_varies_more_than_what_is_kept(rewards, count):
    count = len(keep(rewards, count, seed=3))
    kept = [rewards[place] for place in keep(rewards, count, seed=3)]
    best = max(map(statistics.pvariance, combinations(rewards, count)))
    assert statistics.pvariance(kept) == pytest.approx(best, abs=1e-9)


def test_which_of_a_class_are_kept_is_drawn():
    rewards = [1.0] * 32 + [0.0] * 32
    assert len({keep(rewards, 8, seed) for seed in range(20)}) > 15


def test_by_hand():
    """Four of six: two and two vary by 0.35, three low ones and a high one by 0.34."""
    worth = [0.9, 0.1, 0.11, 0.12, 0.13, 0.8]
    assert keep(worth, 4, seed=0) == (0, 1, 2, 5)
    assert keep(worth, 6, seed=0) == (0, 1, 2, 3, 4, 5)
    assert keep(worth, 8, seed=0) == (0, 1, 2, 5), "of 8, 4 of the 6"


def test_the_first_and_random_ones():
    rewards = [1.0] * 4 + [0.0] * 60
    assert keep(rewards, 8, 1, Downsampling.FIRST) == tuple(range(8))
    drawn = [keep(rewards, 32, seed, Downsampling.RANDOM) for seed in range(400)]
    assert len(set(drawn)) > 390
    share = statistics.fmean(sum(rewards[place] for place in kept) / 32 for kept in drawn)
    assert share == pytest.approx(4 / 64, abs=0.005), "the vote's share is kept"


@pytest.mark.parametrize(("drawn", "agree"), [(12, 6), (12, 3), (8, 1), (8, 4), (15, 14), (3, 1)])
def test_repeated_to_fill_the_rows_no_advantage_changes(drawn, agree):
    rewards = [1.0] * agree + [0.0] * (drawn - agree)
    kept = [rewards[place] for place in keep(rewards, 16, seed=1)]
    rows = kept * (16 // len(kept))
    assert len(rows) == 16
    assert statistics.fmean(rows) == statistics.fmean(kept)
    assert statistics.pstdev(rows) == pytest.approx(statistics.pstdev(kept))
    assert 0 < statistics.fmean(kept) < 1
