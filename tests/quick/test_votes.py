"""What N answers say together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.votes import VoteOutcome, take_vote

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), max_size=40)
FLOORS = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@pytest.mark.parametrize(
    ("answers", "floor", "outcome", "label", "share"),
    [
        (["5", "5", "6"], 0.0, VoteOutcome.LABEL, "5", 2 / 3),
        (["5"], 1.0, VoteOutcome.LABEL, "5", 1.0),
        (["6", "5"], 0.0, VoteOutcome.TIE, None, 0.5),
        (["5", "5", "6", "6", "7"], 0.0, VoteOutcome.TIE, None, 0.4),
        ([None, None, None, "5"], 0.0, VoteOutcome.LABEL, "5", 0.25),
        ([None, None, "5", "5"], 0.5, VoteOutcome.LABEL, "5", 0.5),
        ([None, None, None, "5"], 0.3, VoteOutcome.BELOW_FLOOR, None, 0.25),
        ([None, None], 0.0, VoteOutcome.UNREADABLE, None, 0.0),
        ([], 0.0, VoteOutcome.UNREADABLE, None, 0.0),
        (["none", None, None], 0.0, VoteOutcome.LABEL, "none", 1 / 3),
    ],
)
def test_take_vote(answers, floor, outcome, label, share):
    vote = take_vote(answers, floor=floor)
    assert (vote.outcome, vote.label) == (outcome, label)
    assert vote.share == pytest.approx(share)
    assert vote.answers == tuple(answers)


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
def test_an_unreadable_answer_lowers_the_share_and_changes_no_label(answers):
    before, after = take_vote(answers), take_vote([*answers, None])
    assert (before.label, before.outcome) == (after.label, after.outcome)
    assert before.entropy == after.entropy
    assert after.share < before.share or not before.counts


@given(ANSWERS)
def test_one_more_vote_for_the_label_keeps_it(answers):
    label = take_vote(answers).label
    assert label is None or take_vote([*answers, label]).label == label
