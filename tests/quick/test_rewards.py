"""What a sample is worth."""

import pytest

from ttrl.rewards import REWARDS, find, total
from ttrl.samples import Finish, Sample
from ttrl.votes import take_vote


def samples(count):
    return [Sample(str(n), (n,), (-0.5,), Finish.STOP) for n in range(count)]


@pytest.mark.parametrize(
    ("answers", "worth"),
    [
        (["5", "6", "5", None], (1.0, 0.0, 1.0, 0.0)),
        (["5", "6"], (0.0, 0.0)),
        ([None, None], (0.0, 0.0)),
        (["none", None], (1.0, 0.0)),
        ([], ()),
    ],
)
def test_majority(answers, worth):
    assert REWARDS["majority"](take_vote(answers), samples(len(answers))) == worth


def test_without_a_label_below_the_floor_all_are_worth_nothing():
    vote = take_vote(["5", "5", "6", None], floor=0.75)
    assert find("majority")(vote, samples(4)) == (0.0,) * 4


def test_a_vote_belongs_to_its_samples():
    with pytest.raises(ValueError, match="argument"):
        find("majority")(take_vote(["5", "5"]), samples(3))


def test_total_weighs_each_reward():
    vote = take_vote(["5", "6", "5"])
    assert total(vote, samples(3), {"majority": 0.5}) == (0.5, 0.0, 0.5)
    assert total(vote, samples(3), {}) == (0.0, 0.0, 0.0)


def test_an_unknown_reward_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="'majorty'; did you mean 'majority'"):
        total(take_vote(["5"]), samples(1), {"majorty": 1.0})
