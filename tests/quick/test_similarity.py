"""What an answer is worth for being like others, and that pretending does not pay."""

from __future__ import annotations

import pytest

from tests.groups import PRETENDERS, QUESTION, RIGHT, WRONG, ballot
from ttrl.answers import AnswerKind, Reader
from ttrl.config.loading import load
from ttrl.engine.samples import Finish, Sample
from ttrl.meaning import Letters, copied, honesty
from ttrl.rewards import REWARDS, Ballot, total
from ttrl.votes import take_vote

SIMILARITY = ("centrality", "consensus", "reference")


@pytest.mark.parametrize("reward", SIMILARITY)
@pytest.mark.parametrize("pretender", PRETENDERS)
def test_pretending_never_wins(reward, pretender):
    worth = REWARDS[reward](
        ballot([*RIGHT, *WRONG, PRETENDERS[pretender]], Letters(), references=RIGHT[:1])
    )
    assert worth[-1] < max(worth[:4])
    assert all(0 <= each <= 1 for each in worth)


@pytest.mark.parametrize("recipe", ["free-text", "domain-qa"])
@pytest.mark.parametrize("pretender", PRETENDERS)
def test_pretending_never_wins_by_a_recipe(recipe, pretender):
    weights = load(
        environ={}, overrides={"model.name": "any", "recipe": recipe}
    ).config.vote.rewards
    group = ballot([*RIGHT, *WRONG, PRETENDERS[pretender]], Letters(), references=RIGHT[:1])
    worth = total(group, weights)
    assert worth[-1] < max(worth[:4])


def test_a_pretender_has_less_of_its_share():
    found = ballot(RIGHT, Letters())
    votes = dict(found.vote.counts)
    found.__dict__["honesty"] = (1, 0.5, 1, 0)
    shares = [votes[answer] / 4 for answer in found.vote.answers]
    assert REWARDS["soft_majority"](found) == [shares[0], shares[1] / 2, shares[2], 0]


PASSAGE = (
    "How do I clean the filter? The booklet: rinse it under cold water, never in the dishwasher, "
    "and let it dry for a day."
)
QUOTED = "Rinse it under cold water, never in the dishwasher, and let it dry for a day."


@pytest.mark.parametrize(
    ("text", "close"),
    [
        (QUOTED, True),
        ("Rinse it under cold water, never in the dishwasher; let it dry for a day.", True),
        (QUOTED.replace("a day", "two days"), False),
        (PASSAGE, False),
    ],
)
def test_what_is_right_may_stand_in_the_question(text, close):
    """A passage to be read: an answer may copy as much of it as the right one does."""
    reader = Reader(AnswerKind.FREE, Letters())
    assert reader.matches(text, [QUOTED], PASSAGE, AnswerKind.FREE) is close
    own = "Cold water is what it wants, no machine, and some 24 hours in the air."
    assert not reader.matches(QUOTED, [own], PASSAGE, AnswerKind.FREE), "that copies nothing"


@pytest.mark.parametrize("reward", SIMILARITY)
def test_what_contradicts_the_others_is_worth_less(reward):
    worth = REWARDS[reward](ballot([*RIGHT, *WRONG], Letters(), references=RIGHT[:1]))
    assert worth[4] < min(worth[0], worth[3])


def test_a_score_is_absolute():
    """In a group of answers that have nothing in common none is good."""
    strangers = ["Bananas ripen quickly.", "Trains leave at noon.", "Steel rusts in salt water."]
    found = ballot(strangers, Letters(), references=RIGHT[:1])
    assert REWARDS["centrality"](found) == [0, 0, 0]
    assert REWARDS["reference"](found) == [0, 0, 0]
    assert REWARDS["reference"](ballot(RIGHT, Letters())) == [0] * 4, "without a reference"


def test_who_agrees_with_both_sides_is_not_central():
    """Three agree with one another; the last agrees with two that contradict each other."""
    found = ballot(RIGHT, Letters())
    found.__dict__["agree"] = [[1, 0.9, 0, 0.9], [0.9, 1, 0, 0], [0, 0, 1, 0.9], [0.9, 0, 0.9, 1]]
    found.__dict__["honesty"] = (1, 1, 1, 1)
    assert REWARDS["centrality"](found) == pytest.approx([0, 0.3, 0.3, 0])


@pytest.mark.integration
def test_short_answers_are_alike_when_they_are_the_same():
    samples = tuple(Sample(text, (1,), (0.0,), Finish.STOP) for text in ("5", "5", "6", "?"))
    vote = take_vote(["5", "5", "6", None], kind=AnswerKind.MATH)
    found = Ballot("What is 2 plus 3?", samples, vote, 10, references=("5",))
    assert REWARDS["centrality"](found) == pytest.approx([1 / 3, 1 / 3, 0, 0])
    assert REWARDS["consensus"](found) == [1, 1, 0, 0]
    assert REWARDS["reference"](found) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "lengths", "factor"),
    [
        (RIGHT[0], (10, 10), 1.0),
        (RIGHT[0], (12, 10), 1.0),
        (RIGHT[0], (15, 10), 0.8),
        (RIGHT[0], (40, 10), 0.3),
        ("Maybe she can.", (10, 10), 0.0),
        ("She can. Perhaps.", (10, 10), 0.5),
        (QUESTION, (10, 10), 0.0),
        (QUESTION + " Yes." * 36, (30, 10), 0.0),
        ("Perhaps." + " Really." * 5, (40, 10), 0.15),
    ],
)
def test_honesty(text, lengths, factor):
    """The second of three is as long as the median."""
    found = honesty([text, RIGHT[1], RIGHT[2]], QUESTION, (*lengths, 10))
    assert found == pytest.approx([factor, 1, 1])


def test_where_most_hedge_it_depends_indeed():
    hedges = ["It depends on the weather.", "It depends on the rain.", "Yes."]
    assert honesty(hedges, "Will we sail?", (5, 5, 5)) == [1, 1, 1]


def test_who_hedges_in_half_of_a_group_loses():
    hedge = "It depends on many factors; perhaps so, perhaps not."
    assert honesty([hedge, RIGHT[0]], QUESTION, (9, 9)) == [0, 1]


@pytest.mark.parametrize(
    ("text", "question", "share"),
    [
        ("Is it transferable?", "Is it transferable?", 1.0),
        ("Is it transferable? Is it transferable?", "Is it transferable?", 1.0),
        ("Is it transferable, please?", "Is it transferable?", 0.75),
        ("Yes, it is transferable.", "Is it transferable?", 0.0),
        ("Yes, the warranty is transferable.", "The warranty is transferable?", 0.0),
        ("保修多久", "保修多久?", 1.0),
        ("可以退货。", "可以退货?", 0.0),
        ("Anything.", "", 0.0),
    ],
)
def test_short_questions_are_copied_as_a_whole(text, question, share):
    assert copied(text, question) == share


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0.0), (QUESTION, 1.0), ("Of course.", 0.0), ("Our returns policy covers unopened", 1.0)],
)
def test_copied(text, share):
    assert copied(text, QUESTION) == share


def test_novelty_is_among_those_that_agree():
    texts = ["add the tens first", "add the tens first", "count up from five", "no idea at all"]
    samples = tuple(Sample(text, (1,), (0.0,), Finish.STOP) for text in texts)
    found = REWARDS["novelty"](Ballot("?", samples, take_vote(["5", "5", "5", "6"]), 10))
    assert found == pytest.approx([0, 0, 1, 0])
    same = Ballot("?", samples[:2], take_vote(["5", "5"]), 10)
    assert REWARDS["novelty"](same) == [0.5, 0.5]
    assert REWARDS["novelty"](Ballot("?", samples[:2], take_vote(["5", "6"]), 10)) == [0, 0]


def test_echo():
    said = "The valve is closed. The pump runs. The valve is closed! It stays so."
    samples = (Sample(said, (1,), (0.0,), Finish.STOP), Sample("Yes.", (1,), (0.0,), Finish.STOP))
    found = Ballot("?", samples, take_vote(["a", "b"]), 10)
    assert REWARDS["echo"](found) == pytest.approx([-1 / 3, 0])


def test_free_texts_are_read_as_what_their_cluster_says():
    reading = Reader().read(QUESTION, [*RIGHT, *WRONG, QUESTION, "", PRETENDERS["off topic"]])
    assert reading.kind is AnswerKind.FREE
    label = take_vote(reading.answers).label
    assert label in RIGHT
    assert reading.answers.count(label) >= 3
    assert reading.answers[4:] == (WRONG[0], None, None, PRETENDERS["off topic"])


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["Paris", "Paris.", "The answer is Lyon"], AnswerKind.TEXT),
        (RIGHT, AnswerKind.FREE),
        (["请先把设备关掉,然后等五分钟再打开。"] * 3, AnswerKind.FREE),
        (["北京"] * 3, AnswerKind.TEXT),
        ([r"So I think that it must be \boxed{5}."] * 3, AnswerKind.MATH),
    ],
)
def test_the_kind_is_found_by_the_answers(texts, kind):
    assert Reader().read("What do you say?", texts).kind is kind
    assert Reader(AnswerKind.TEXT).read("What do you say?", texts).kind is AnswerKind.TEXT
