"""Each selected question comes once a round."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ttrl.questions import from_prompt
from ttrl.selection import Rounds
from ttrl.store.questions import QuestionState, StoredQuestion


def stored(count):
    return [
        StoredQuestion(number, from_prompt(str(number)), 1, False, QuestionState.NEW, None)
        for number in range(count)
    ]


@given(
    count=st.integers(1, 30), takes=st.lists(st.integers(0, 12), max_size=20), seed=st.integers()
)
def test_rounds_are_fair_and_a_take_never_repeats(count, takes, seed):
    rounds, seen = Rounds(stored(count), seed=seed), Counter()
    for take in takes:
        taken = [question.id for question in rounds.take(take)]
        assert len(taken) == len(set(taken)) == min(take, count)
        seen.update(taken)
    counts = [seen[number] for number in range(count)]
    assert max(counts) - min(counts) <= 2


def test_the_same_seed_gives_the_same_order():
    orders = [[q.id for q in Rounds(stored(20), seed=3).take(20)] for _ in range(2)]
    assert orders[0] == orders[1] != list(range(20))


def test_dropped_questions_do_not_come_again():
    rounds = Rounds(stored(5), seed=0)
    gone = rounds.take(2)
    for question in gone:
        rounds.drop(question.id)
    assert len(rounds) == 3
    assert {q.id for q in rounds.take(10)}.isdisjoint(q.id for q in gone)
    for question in rounds.take(3):
        rounds.drop(question.id)
    assert rounds.take(4) == []
