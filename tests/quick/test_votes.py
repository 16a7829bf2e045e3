"""What N answers say together."""

import math
import random
from collections import Counter
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.answers.layers import Layer
from ttrl.votes import LEAD, VoteOutcome, decided, take_vote

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), max_size=40)
FLOORS = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@pytest.mark.parametrize(
    ("answers", "floor", "outcome", "label", "share"),
    [
        (["5", "5", "6"], 0.0, VoteOutcome.LABEL, "5", 2 / 3),
        (["5"], 1.0, VoteOutcome.LABEL, "5", 1.0),
        (["6", "5"], 0.0, VoteOutcome.TIE, None, 0.5),
        (["5", "5", "6", "6", "7"], 0.0, VoteOutcome.TIE, None, 0.4),
        ([None, None, None, "5"], 0.0, VoteOutcome.TOO_FEW_READABLE, None, 0.25),
        ([None, None, None, "5", "6"], 0.0, VoteOutcome.TOO_FEW_READABLE, None, 0.2),
        ([None, None, "5", "5"], 0.5, VoteOutcome.LABEL, "5", 0.5),
        ([None, None, "5", "5", "5"], 0.7, VoteOutcome.BELOW_FLOOR, None, 0.6),
        ([None, None], 0.0, VoteOutcome.UNREADABLE, None, 0.0),
        ([], 0.0, VoteOutcome.UNREADABLE, None, 0.0),
        (["none", "none", None], 0.0, VoteOutcome.LABEL, "none", 2 / 3),
    ],
)
def test_take_vote(answers, floor, outcome, label, share):
    vote = take_vote(answers, floor=floor)
    assert (vote.outcome, vote.label) == (outcome, label)
    assert vote.share == pytest.approx(share)
    assert vote.answers == tuple(answers)


@pytest.mark.parametrize(
    ("votes", "unreadable", "cut", "outcome", "share"),
    [
        ("7798", 0, 28, VoteOutcome.TOO_FEW_READABLE, 0.5),
        ("7" * 15 + "8", 0, 16, VoteOutcome.LABEL, 15 / 16),
        ("7" * 14 + "8", 0, 17, VoteOutcome.TOO_FEW_READABLE, 14 / 15),
        ("7" * 10 + "8" * 6, 16, 0, VoteOutcome.LABEL, 10 / 32),  # said nothing: in the share
        ("7" * 10 + "8" * 6, 8, 8, VoteOutcome.LABEL, 10 / 24),
        ("", 0, 32, VoteOutcome.UNREADABLE, 0.0),
        ("", 32, 0, VoteOutcome.UNREADABLE, 0.0),
    ],
)
def test_what_was_cut_off_is_no_vote_against_the_majority(votes, unreadable, cut, outcome, share):
    """But nor is a minority that alone can be read one."""
    vote = take_vote(
        [*votes, *[None] * (unreadable + cut)], layers=[Layer.CUT_OFF] * cut, floor=None
    )
    assert vote.outcome is outcome
    assert vote.share == pytest.approx(share)


def test_how_many_must_be_readable_is_a_setting():
    answers = [*"7778", *[None] * 12]
    outcomes = {r: take_vote(answers, readable=r).outcome for r in (0.25, 0.26)}
    assert outcomes == {0.25: VoteOutcome.LABEL, 0.26: VoteOutcome.TOO_FEW_READABLE}


@pytest.mark.parametrize(
    ("counts", "others", "is_label"),
    [
        ((11, 5), 48, True),  # AIME: 17% of 64
        ((10, 6), 48, True),
        ((9, 8), 47, False),
        ((2, 1), 29, False),  # 2 of 32 that all differ
        ((2,), 30, False),
        ((4, 2), 26, True),
        ((20, 12), 0, True),  # yes or no
        ((17, 15), 0, False),
        ((32,), 0, True),
    ],
)
def test_without_a_floor_the_lead_must_not_be_chance(counts, others, is_label):
    answers = [f"a{n}" for n, count in enumerate(counts) for _ in range(count)]
    answers += [f"other{n}" for n in range(others)]
    vote = take_vote(answers, floor=None)
    assert vote.outcome is (VoteOutcome.LABEL if is_label else VoteOutcome.BELOW_FLOOR)


def test_a_lead_that_just_suffices_holds_in_seven_of_ten_votes():
    """Between two answers whose true shares are as uncertain as the votes leave them."""
    rng, again = random.Random(5), []
    for first in range(17, 32):
        if decided([first, 32 - first], LEAD):
            break
    for _ in range(4000):
        share = rng.betavariate(first + 1, 33 - first)
        again.append(sum(rng.random() < share for _ in range(32)) > 16)
    assert fmean(again) == pytest.approx(0.7, abs=0.07)


def test_chance_alone_seldom_makes_a_label():
    """Of answers that are all as likely, one has the most votes all the same."""
    rng = random.Random(9)
    for kinds in (4, 30, 1000):
        drawn = ([str(rng.randrange(kinds)) for _ in range(32)] for _ in range(500))
        outcomes = Counter(take_vote(answers, floor=None).outcome for answers in drawn)
        assert outcomes[VoteOutcome.LABEL] < 0.35 * 500
        assert outcomes[VoteOutcome.LABEL] + outcomes[VoteOutcome.BELOW_FLOOR] <= 500


def test_counts_are_in_order_of_votes_then_text():
    assert take_vote(["b", "c", "a", "c", "b", None]).counts == (("b", 2), ("c", 2), ("a", 1))


def test_entropy_is_in_nats_over_the_readable_answers():
    assert take_vote(["1", "2", None, None]).entropy == pytest.approx(math.log(2))
    assert take_vote(["1", "1", "1", "2"]).entropy == pytest.approx(0.5623351446)
    assert math.copysign(1, take_vote(["1", "1"]).entropy) == 1


@given(ANSWERS, FLOORS, st.randoms())
def test_order_does_not_matter(answers, floor, random):
    shuffled = random.sample(answers, len(answers))
    one, other = take_vote(answers, floor=floor), take_vote(shuffled, floor=floor)
    assert (one.counts, one.outcome, one.label) == (other.counts, other.outcome, other.label)
    assert (one.share, one.entropy) == (other.share, other.entropy)


@given(ANSWERS, FLOORS)
def test_a_label_has_more_votes_than_any_other_answer_and_enough(answers, floor):
    vote = take_vote(answers, floor=floor)
    assert (vote.label is None) is (vote.outcome is not VoteOutcome.LABEL)
    if vote.label is not None:
        votes = answers.count(vote.label)
        others = {answer for answer in answers if answer not in (None, vote.label)}
        assert all(answers.count(answer) < votes for answer in others)
        assert votes / len(answers) == vote.share >= floor


@given(ANSWERS)
def test_an_unreadable_answer_lowers_the_share_and_one_cut_off_does_not(answers):
    before = take_vote(answers, readable=0.01)
    after = take_vote([*answers, None], readable=0.01)
    cut = take_vote([*answers, None], layers=[Layer.CUT_OFF], readable=0.01)
    assert (before.label, before.outcome) == (after.label, after.outcome)
    assert before.entropy == after.entropy
    assert after.share < before.share or not before.counts
    assert cut.share == before.share


@given(ANSWERS)
def test_one_more_vote_for_the_label_keeps_it(answers):
    label = take_vote(answers).label
    assert label is None or take_vote([*answers, label]).label == label
