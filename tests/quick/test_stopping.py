"""When a vote is decided."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.stopping import decided, rounds


@pytest.mark.parametrize(
    ("counts", "is_decided"),
    [
        ([], False),
        ([3], False),  # 15/16
        ([4], True),  # 31/32
        ([5, 1], False),  # 120/128
        ([6, 1], True),  # 247/256
        ([8, 2], True),
        ([9, 3], True),
        ([10, 4], False),
        ([11, 4], True),
        ([3, 4, 6, 1], False),
        ([1, 9, 3, 2, 1], True),
    ],
)
def test_the_beta_rule(counts, is_decided):
    assert decided(counts, 0.95) is is_decided


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.51, 0.999))
def test_the_closed_form_is_the_beta_integral(lead, second, sure):
    """By drawing: the share of Beta draws above a half, within what so many draws show."""
    first = second + lead
    draw = random.Random(first * 31 + second).betavariate
    above = sum(draw(first + 1, second + 1) > 0.5 for _ in range(4000)) / 4000
    if abs(above - sure) > 0.03:
        assert decided([first, second], sure) is (above > sure)


@given(st.integers(0, 40), st.integers(0, 40))
def test_another_vote_for_the_leader_undoes_no_decision(lead, second):
    counts = [second + lead, second]
    assert not decided(counts, 0.9) or decided([counts[0] + 1, second], 0.9)


@pytest.mark.parametrize(
    ("samples", "count", "sizes"),
    [
        (64, 1, [64]),
        (64, 4, [8, 8, 16, 32]),
        (32, 2, [16, 16]),
        (10, 3, [2, 3, 5]),
        (3, 8, [1, 2]),
    ],
)
def test_rounds(samples, count, sizes):
    assert rounds(samples, count) == sizes


@given(st.integers(1, 256), st.integers(1, 12))
def test_rounds_draw_what_may_be_drawn(samples, count):
    sizes = rounds(samples, count)
    assert sum(sizes) == samples
    assert len(sizes) <= count
    assert min(sizes) > 0
