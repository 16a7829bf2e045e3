"""A judge of meanings: what it is asked, how often, and what becomes of its answers."""

from __future__ import annotations

import logging
import math

import pytest

from ttrl.answers import AnswerKind, Reader
from ttrl.engine.client import EngineUnreachable, ModelCard
from ttrl.engine.pacing import Pacer
from ttrl.engine.samples import Finish, Sample
from ttrl.meaning import Judge, Letters, agreement, cluster
from ttrl.rewards import REWARDS, Ballot
from ttrl.sampling.judge import EngineJudge, says_yes
from ttrl.votes import take_vote

Q = "What did the firm do?"
FIRED = ("The firm sacked him.", "He was dismissed.", "They let him go.")
HIRED = ("He got the job.", "They took him on.")
PLACES = {"pacific": "p", "pacific ocean": "p", "atlantic": "a"}


class Standin(Judge):
    """Knows what the texts say: one follows from another where it says no more (parts of a
    meaning are letters); nothing can be told of one that it does not know."""

    words = "a stand-in"

    def __init__(self, meanings, most=100):
        super().__init__(most)
        self.meanings, self.heard = meanings, []

    def follows(self, question, pairs):
        self.heard += pairs
        known = [tuple(map(self.meanings.get, pair)) for pair in pairs]
        return [None if None in pair else set(pair[1]) <= set(pair[0]) for pair in known]


def judge(most=100):
    return Standin(dict.fromkeys(FIRED, "f") | dict.fromkeys(HIRED, "h"), most)


def clusters(texts, judge):
    return cluster(agreement(texts, Q, Letters(), judge))


def test_wordings_with_no_letters_in_common_are_one_where_each_follows_from_the_other():
    texts = [FIRED[0], HIRED[0], FIRED[1], HIRED[1], FIRED[2]]
    assert clusters(texts, judge()) == [0, 1, 0, 1, 0]
    says_more = Standin({"He left in a rage.": "lr", "He left.": "l"})
    assert clusters(list(says_more.meanings), says_more) == [0, 1]
    assert len(says_more.heard) == 2, "the second follows from the first, so both ways are asked"


def test_each_pair_is_asked_about_once_and_only_with_one_of_a_cluster():
    asked = judge()
    texts = [*FIRED, *HIRED]
    clusters(texts, asked)
    # 4 pairs with the first, of which 2 agree and are asked the other way round; 1 with HIRED[0].
    assert (asked.pairs, asked.asked, len(asked.heard)) == (5, 8, 8)
    assert clusters(texts, asked) == [0, 0, 0, 1, 1]
    assert len(asked.heard) == 8, "it is remembered"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It takes 3 days.", "It takes 4 days."),
        ("Anna pays.", "So says Ben, not Anna: he pays."),
        ("Yes, they do.", "No, never."),
    ],
)
def test_nobody_is_asked_about_what_numbers_names_and_verdicts_tell(one, other):
    same = Standin({one: "s", other: "s"})
    assert clusters([one, other], same) == [0, 1]
    assert not same.heard


def test_no_member_of_a_cluster_contradicts_another():
    texts = ["Wait.", "Wait 3 days.", "Wait 4 days."]
    same = Standin(dict.fromkeys(texts, "w"))
    asked = "Do I wait 3 days or 4 days?"
    assert cluster(agreement(texts, asked, Letters(), same)) == [0, 0, 1]


def test_what_is_beyond_the_bound_or_unclear_is_compared_by_letters(caplog):
    caplog.set_level(logging.INFO)
    bounded = judge(most=1)
    texts = [FIRED[0], FIRED[1], HIRED[0], "The firm sacked him!"]
    assert clusters(texts, bounded) == [0, 0, 1, 0]
    assert (bounded.pairs, bounded.undecided, len(bounded.heard)) == (3, 2, 2)
    assert bounded.remark() == "2 of 3 pairs of answers were compared by letters alone"
    assert "2 of 3 pairs of answers were compared by letters" in caplog.text
    nobody = Standin({})
    assert clusters(texts, nobody) == [0, 1, 2, 0]


def test_short_texts_are_merged_under_the_most_frequent_and_values_never():
    reader = Reader(AnswerKind.TEXT, judge=Standin(PLACES))
    texts = ["The Pacific", "Pacific Ocean", "Atlantic", "Pacific Ocean"]
    assert reader.read("Which is the largest?", texts).answers == (
        "pacific ocean", "pacific ocean", "atlantic", "pacific ocean",
    )  # fmt: skip
    for kind, said in ((AnswerKind.MATH, ["5", "6"]), (AnswerKind.CHOICE, ["A", "B"])):
        everything = Standin({"5": "s", "6": "s", "A": "s", "B": "s"})
        question = "Which?\nA. one\nB. two"
        reading = Reader(kind, judge=everything).read(question, said)
        assert len(set(reading.answers)) == 2
        assert not everything.heard


def test_rewards_go_by_what_the_vote_found_and_ask_nobody_again():
    asked = judge()
    reader = Reader(AnswerKind.FREE, judge=asked)
    texts = [*FIRED, *HIRED]
    vote = take_vote(reader.read(Q, texts).answers, kind=AnswerKind.FREE)
    before = len(asked.heard)
    samples = tuple(Sample(each, tuple(range(5)), (0.0,) * 5, Finish.STOP) for each in texts)
    ballot = Ballot(Q, samples, vote, 100, reader)
    assert vote.label in FIRED
    assert REWARDS["consensus"](ballot) == [1, 1, 1, 0, 0]
    assert len(asked.heard) == before


def test_references_are_compared_by_the_judge():
    reader = Reader(AnswerKind.FREE, judge=judge())
    assert reader.matches(FIRED[0], FIRED[1:2], Q, AnswerKind.FREE)
    assert not reader.matches(HIRED[0], FIRED[1:2], Q, AnswerKind.FREE)


@pytest.mark.parametrize(
    ("shares", "yes"),
    [
        ({"Yes": 0.9, "No": 0.1}, True),
        ({"No": 0.3, "NO": 0.3, "Yes": 0.35}, False),
        ({"▁yes": 0.4, "**": 0.2, "no": 0.3}, True),
        ({"y": 0.2, "n": 0.7}, False),
        ({"<think>": 0.99, "Yes": 0.01}, None),
        ({"The": 0.5, "Yes": 0.3, "No": 0.1}, None),
        ({"\n": 0.6, "Yes": 0.3, "No": 0.05}, True),
        ({"\n": 0.6, "Yes": 0.1, "The": 0.3}, None),
        ({}, None),
    ],
)
def test_yes_or_no_is_what_the_first_token_says_by_more_than_half(shares, yes):
    assert says_yes({token: math.log(share) for token, share in shares.items()}) is yes


class Engine:
    """Says yes to two answers with the same last word, and is gone where one has "gone"."""

    def __init__(self):
        self.asked = []

    def load(self):
        return None

    def base_model(self):
        return ModelCard("base", None, None, None)

    def first_token(self, text, *, model, priority):
        self.asked.append((model, priority))
        one, other = (part.split("\n")[1].split()[-1] for part in text.split("Answer ")[1:])
        if "gone" in (one, other):
            raise EngineUnreachable("gone")
        return {"yes" if one == other else "no": 0.0}


def test_the_engine_is_asked_of_its_base_model_at_a_low_priority():
    engine = Engine()
    with Pacer(engine.load, maximum=4, pause_waiting=4) as pacer:
        asked = EngineJudge(engine, pacer, 100)
        pairs = [("a cat", "the cat"), ("a cat", "a dog"), ("a cat", "gone")]
        assert asked.same(Q, pairs) == [True, False, None]
    assert set(engine.asked) == {("base", 100)}
    assert len(engine.asked) == 4
