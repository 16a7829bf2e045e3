"""Which answers say the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttrl.meaning import Letters, agreement, cluster

QUESTION = "May I return a kettle?"


def clusters(texts):
    return cluster(agreement(texts, QUESTION, Letters()))


def test_the_same_but_for_its_marks_is_another_meaning():
    texts = [
        "You may return it within 30 days of buying it.",
        "You may return it within thirty days of buying it.",
        "You may return it within 14 days of buying it.",
        "You may not return it within 30 days of buying it.",
        "Bananas are yellow.",
    ]
    assert clusters(texts) == [0, 0, 1, 2, 3]


def test_nothing_in_common_is_not_alike():
    assert clusters(["!?", "...", "a"]) == [0, 1, 2]
    assert clusters([]) == []
    assert clusters(["same words here"] * 3) == [0, 0, 0]


def test_what_is_exchanged_in_a_close_text_tells():
    assert clusters(["Close the main valve first.", "Close the main valves first."]) == [0, 0]
    assert clusters(["Close the main valve first.", "Close the drain valve first."]) == [0, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It takes a week.", "It takes a month."),
        ("Press up.", "Press down."),
        ("禁止吸烟。", "允许吸烟。"),
    ],
)
def test_of_two_telling_words_one_may_tell(one, other):
    assert clusters([one, other]) == [0, 1]


@pytest.mark.xfail(reason="neither has a name; the documentation says so", strict=True)
def test_who_does_what_to_whom():
    assert clusters(["The cat chased the dog.", "The dog chased the cat."]) == [0, 1]


def test_no_chain_leads_from_one_meaning_to_another():
    """The middle one agrees with both, they not with each other: it goes where it agrees more."""
    agree = [[1, 0.8, 0], [0.8, 1, 0.7], [0, 0.7, 1]]
    assert cluster(agree) == [0, 0, 1]
    turned = [[agree[a][b] for b in (0, 2, 1)] for a in (0, 2, 1)]
    assert cluster(turned) == [0, 1, 0]


@given(st.integers(1, 8).flatmap(lambda n: arrays(float, (n, n), elements=st.floats(0, 1))))
def test_all_of_a_cluster_agree(drawn):
    agree = np.where(drawn + drawn.T > 1, drawn + drawn.T, 0) / 2
    np.fill_diagonal(agree, 1)
    clusters = cluster(agree.tolist())
    for a, first in enumerate(clusters):
        for b, second in enumerate(clusters):
            assert first != second or agree[a, b] > 0
    assert list(dict.fromkeys(clusters)) == list(range(max(clusters) + 1)), "numbered in order"


@pytest.mark.parametrize(
    ("one", "other", "at_least", "at_most"),
    [
        ("the valve is closed", "the valve is closed", 1, 1),
        ("the valve is closed", "close the valves", 0.3, 0.9),
        ("the valve is closed", "bananas ripen quickly", 0, 0.1),
        ("请等三天", "请等三天吧", 0.5, 1),
    ],
)
def test_letters(one, other, at_least, at_most):
    found = Letters().compare([one, other])
    assert found[0][0] == found[1][1] == 1
    assert at_least <= found[0][1] == found[1][0] <= at_most


def test_a_code_between_digits_is_as_it_is_written():
    assert clusters(["It is part 5a7.", "It is part 5b7.", "It is part 5a7."]) == [0, 1, 0]
