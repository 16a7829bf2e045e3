"""How much a question may teach, by earlier votes, and in which order questions come for it."""

from __future__ import annotations

from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.questions.question import from_prompt
from ttrl.sampling.selection import Basis, History, ShareEstimate, by_signal, fitted
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.store.runs import PastVote
from ttrl.votes import VoteOutcome

LABEL, TIE, ABOVE = VoteOutcome.LABEL, VoteOutcome.TIE, VoteOutcome.ABOVE_CEILING
NEW, LEARNED = QuestionState.NEW, QuestionState.LEARNED_FROM


def stored(key, state=NEW, client=None):
    return StoredQuestion(key, from_prompt(f"Q{key}?"), 1, False, state, None, client=client)


def vote(run, share, outcome=LABEL, key=1):
    return PastVote(key, stored(key).question.cluster, run, outcome, share)


@pytest.mark.parametrize(
    ("shares", "mean"),
    [
        pytest.param([], None, id="nothing known"),
        pytest.param([0.4], None, id="one vote has no spread"),
        pytest.param([0.4, 0.4], None, id="nor have equal ones"),
        pytest.param([0.0, 1.0], None, id="no distribution is so wide"),
        pytest.param([0.2, 0.4, 0.9], 0.5, id="a spread"),
        pytest.param([0.1, 0.1, 0.1, 0.9], 0.3, id="a skewed one"),
    ],
)
def test_the_prior_has_the_spread_of_the_votes(shares, mean):
    agree, differ = fitted(shares)
    if mean is None:
        assert (agree, differ) == (1, 1)
        return
    assert agree / (agree + differ) == pytest.approx(mean)
    variance = fmean((share - mean) ** 2 for share in shares)
    assert mean * (1 - mean) / (agree + differ + 1) == pytest.approx(variance)


@given(st.lists(st.floats(0, 1)))
def test_the_prior_can_be_drawn_from_and_few_votes_are_weak(shares):
    agree, differ = fitted(shares)
    assert 0 <= ShareEstimate(agree, differ, Basis.ALL).draw(Random(1)) <= 0.25
    assert agree + differ <= max(2, len(shares)) + 1e-9


@given(st.floats(0.3, 50), st.floats(0.3, 50))
def test_the_signal_is_that_of_what_is_drawn(agree, differ):
    estimate, rng = ShareEstimate(agree, differ, Basis.ALL), Random(1)
    drawn = fmean(estimate.draw(rng) for _ in range(2000))
    assert estimate.signal == pytest.approx(drawn, abs=0.015)
    assert 0 < estimate.signal < 0.25


@pytest.mark.parametrize(
    ("votes", "share", "basis"),
    [
        pytest.param([], 0.5, Basis.ALL, id="nothing known"),
        pytest.param([vote(1, 0.9, key=2), vote(1, 0.7, key=3)], 0.8, Basis.ALL, id="others"),
        pytest.param([vote(2, 0.25), vote(1, 0.9)], (1 + 4) / 18, Basis.OWN, id="its last"),
        pytest.param(
            [PastVote(2, stored(1).question.cluster, 1, LABEL, 0.9)],
            1.9 / 3, Basis.NEAR, id="a near-duplicate counts as one answer",
        ),
    ],
)  # fmt: skip
def test_whose_votes_an_estimate_goes_by(votes, share, basis):
    estimate = History(votes, samples=16).estimate(stored(1))
    assert (estimate.share, estimate.basis) == (pytest.approx(share), basis)


@pytest.mark.parametrize(
    ("votes", "later", "live", "due"),
    [
        pytest.param([vote(1, 0.6)], [], 0, True, id="divided"),
        pytest.param([vote(1, 1.0)], [2], 0, False, id="solved, one run since"),
        pytest.param([vote(1, 1.0)], [2, 3], 0, True, id="solved, two runs since"),
        pytest.param([vote(1, 0.95, ABOVE)], [2], 0, False, id="above the ceiling"),
        pytest.param([vote(1, 1.0), vote(1, 0.5)], [2], 0, False, id="solved in the end"),
        pytest.param([vote(3, 1.0), vote(1, 1.0)], [4, 5, 6], 0, False, id="again: longer"),
        pytest.param([vote(3, 1.0), vote(1, 1.0)], [4, 5, 6, 7], 0, True, id="again: four runs"),
        pytest.param(
            [vote(3, 1.0), vote(2, 0.7), vote(1, 1.0)], [4, 5], 0, True, id="lost between"
        ),
        pytest.param([vote(3, 0.3, TIE)], [4], 2, False, id="no label, and no newer version"),
        pytest.param([vote(3, 0.3, TIE)], [4], 3, True, id="no label, and a newer version"),
    ],
)
def test_what_comes_again(votes, later, live, due):
    others = [vote(run, 0.5, key=2) for run in reversed(later)]
    assert (1 in History([*others, *votes], samples=16).due(live)) is due


def test_what_comes_again_is_the_most_divided_first():
    votes = [vote(1, share, key=key) for key, share in enumerate((0.9, 0.5, 0.2, 0.6))]
    assert History(votes, samples=16).due(0) == [1, 3, 2, 0]


@pytest.mark.parametrize(
    ("questions", "signals", "order"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([(NEW, "a")] * 3, [0.1, 0.2, 0.15], [1, 2, 0], id="the strongest first"),
        pytest.param(
            [(NEW, "a"), (NEW, "a"), (NEW, "b")], [0.2, 0.25, 0.1], [1, 2, 0], id="clients by turns"
        ),
        pytest.param(
            [(LEARNED, "a")] * 3 + [(NEW, "a")] * 2, [0.25, 0.24, 0.23, 0.1, 0.2],
            [4, 0, 3, 1, 2], id="half is new while there is something new",
        ),
        pytest.param([(LEARNED, "a")] * 2, [0.1, 0.2], [1, 0], id="nothing new"),
    ],
)  # fmt: skip
def test_the_order(questions, signals, order):
    rows = [stored(key, *each) for key, each in enumerate(questions)]
    assert [row.id for row in by_signal(rows, dict(enumerate(signals)))] == order


@given(
    st.lists(
        st.tuples(
            st.sampled_from([NEW, LEARNED, QuestionState.NO_LABEL]),
            st.sampled_from([None, "a", "b"]),
            st.floats(0, 0.25),
        )
    )
)
def test_nothing_is_lost_and_what_is_new_is_always_tried(given_rows):
    rows = [stored(key, state, client) for key, (state, client, _) in enumerate(given_rows)]
    signals = {key: signal for key, (_, _, signal) in enumerate(given_rows)}
    ordered = by_signal(rows, signals)
    assert sorted(row.id for row in ordered) == list(signals)
    new = [row.state is NEW for row in ordered]
    for end in range(len(ordered)):
        assert not any(new[end:]) or 2 * sum(new[:end]) >= end
