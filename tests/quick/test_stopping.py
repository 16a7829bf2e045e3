"""When enough samples were drawn, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.votes import decided, rounds

COUNTS = st.lists(st.integers(0, 60), max_size=6)
SURE = st.floats(0.5, 1, exclude_min=True, exclude_max=True)


@pytest.mark.parametrize(
    ("samples", "most", "sizes"),
    [
        (64, 4, [8, 8, 16, 32]),
        (64, 1, [64]),
        (32, 3, [8, 8, 16]),
        (10, 3, [2, 3, 5]),  # 2, 5, 10
        (7, 3, [1, 2, 4]),
        (2, 9, [1, 1]),  # not a round without a sample
        (3, 9, [1, 2]),
    ],
)
def test_each_round_doubles_what_there_is(samples, most, sizes):
    assert rounds(samples, most) == sizes


@given(st.integers(1, 256), st.integers(1, 12))
def test_rounds_draw_all_samples_and_are_no_more_than_may_be(samples, most):
    sizes = rounds(samples, most)
    assert sum(sizes) == samples
    assert min(sizes) >= 1
    assert len(sizes) <= most


@pytest.mark.parametrize(
    ("counts", "certainty"),
    [
        ([], 1 / 2),  # Beta(1, 1)
        ([1], 3 / 4),  # Beta(2, 1): 1 - 1/2^2
        ([3, 0], 15 / 16),  # Beta(4, 1): 1 - 1/2^4
        ([8], 511 / 512),  # Beta(9, 1)
        ([2, 1], 11 / 16),  # Beta(3, 2): P(at most 2 of 4 heads) = (1 + 4 + 6) / 16
        ([1, 3, 2], 42 / 64),  # Beta(4, 3): P(at most 3 of 6) = (1 + 6 + 15 + 20) / 64
        ([5, 5], 1 / 2),
        ([5, 5, 1], 1 / 2),  # only the first two count
    ],
)
def test_a_vote_is_decided_from_its_certainty_on(counts, certainty):
    """P(p > 1/2) with p ~ Beta(a + 1, b + 1)."""
    assert decided(counts, certainty)
    assert not decided(counts, math.nextafter(certainty, 1))


@given(COUNTS, SURE)
def test_one_more_vote_for_the_first_never_unsettles_it(counts, sure):
    first, *rest = sorted([*counts, 0], reverse=True)
    assert not decided(counts, sure) or decided([first + 1, *rest], sure)
