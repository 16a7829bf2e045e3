"""What may go into an update, and that each selected question comes once a round."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.config import SelectionConfig
from ttrl.questions.question import from_prompt
from ttrl.sampling.selection import LeftOut, Rounds, choose
from ttrl.store.questions import QuestionState, StoredQuestion


def stored(count):
    return [
        StoredQuestion(number, from_prompt(str(number)), 1, False, QuestionState.NEW, None)
        for number in range(count)
    ]


def asked(*pairs):
    """Candidates: who asked, and what."""
    return [
        StoredQuestion(number, from_prompt(text), 1, False, QuestionState.NEW, None, client)
        for number, (client, text) in enumerate(pairs)
    ]


def limits(room, per_client=0.5, per_cluster=1):
    return SelectionConfig(max_questions=room, per_client=per_client, per_cluster=per_cluster)


SUM = "Could you please tell me what is {} plus 286?"
FLOOD = [("a", f"Could you please tell me what is 417 plus 286 {word}?") for word in ("", "now")]


@pytest.mark.parametrize(
    ("pairs", "bounds", "sole", "chosen", "left_out"),
    [
        pytest.param([], limits(4), True, [], [], id="nothing"),
        pytest.param(
            [("a", SUM.format(n)) for n in range(5)], limits(4), False,
            [0, 1], [LeftOut.CLIENT] * 3, id="a client's share",
        ),
        pytest.param(
            [(None, SUM.format(n)) for n in range(5)], limits(4), True,
            [0, 1, 2, 3], [], id="a sole client has all",
        ),
        pytest.param(
            [(None, SUM.format(n)) for n in range(3)], limits(4, 0.25), False,
            [0], [LeftOut.CLIENT] * 2, id="those without a key are one client",
        ),
        pytest.param(
            [("a", SUM.format(n)) for n in range(3)], limits(3, 0.01), False,
            [0], [LeftOut.CLIENT] * 2, id="a share is one at least",
        ),
        pytest.param(
            [*FLOOD, ("b", SUM.format(1))], limits(4), False,
            [0, 2], [LeftOut.CLUSTER], id="near-duplicates",
        ),
        pytest.param(
            [*FLOOD, ("b", SUM.format(417))], limits(4, 1, 2), False,
            [0, 1], [LeftOut.CLUSTER], id="near-duplicates of several clients",
        ),
    ],
)  # fmt: skip
def test_what_is_chosen(pairs, bounds, sole, chosen, left_out):
    found = choose(asked(*pairs), bounds, sole_client=sole)
    assert [question.id for question in found.chosen] == chosen
    assert [why for _, why in found.left_out] == left_out
    assert found.counts == dict(Counter(left_out))


@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(0, 12).map(SUM.format)),
        max_size=40,
    ),
    room=st.integers(1, 12),
    per_client=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    per_cluster=st.integers(1, 3),
)
def test_caps_hold_and_nothing_else_is_left_out(pairs, room, per_client, per_cluster):
    bounds, candidates = limits(room, per_client, per_cluster), asked(*pairs)
    found = choose(candidates, bounds, sole_client=False)
    assert found == choose(candidates, bounds, sole_client=False)
    clients = Counter(question.client for question in found.chosen)
    clusters = Counter(question.question.cluster for question in found.chosen)
    each = max(1, int(per_client * room))
    assert len(found.chosen) <= room
    assert max(clients.values(), default=0) <= each
    assert max(clusters.values(), default=0) <= per_cluster
    if len(found.chosen) < room:
        assert len(found.chosen) + len(found.left_out) == len(candidates)
    for question, why in found.left_out:
        full = {
            LeftOut.CLIENT: clients[question.client] == each,
            LeftOut.CLUSTER: clusters[question.question.cluster] == per_cluster,
        }
        assert full[why]


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


@given(
    count=st.integers(1, 12), takes=st.lists(st.integers(1, 6)), passes=st.integers(1, 4),
    dropped=st.integers(0, 12),
)  # fmt: skip
def test_no_question_is_asked_more_often_than_in_so_many_passes(count, takes, passes, dropped):
    rounds, seen = Rounds(stored(count), seed=1, passes=passes), Counter()
    rounds.drop(dropped)
    for take in [*takes, *[count] * 2 * passes]:
        seen.update(question.id for question in rounds.take(take))
    assert seen == dict.fromkeys({*range(count)} - {dropped}, passes)
    assert not len(rounds)


@pytest.mark.parametrize(
    ("passes", "vain", "came"),
    [(1, 0, 1), (1, 1, 1), (1, 2, 1), (1, 3, 0), (3, 2, 3), (3, 3, 2), (3, 99, 0)],
)
def test_what_could_not_be_had_loses_no_pass_but_does_not_come_for_ever(passes, vain, came):
    rounds, seen, failures = Rounds(stored(5), seed=2, passes=passes), Counter(), 0
    while taken := rounds.take(2):
        for question in taken:
            if question.id == 3 and failures < vain:
                failures += 1
                rounds.give_back(question)
            else:
                seen[question.id] += 1
    assert seen == Counter(dict.fromkeys(range(5), passes) | {3: came})
    assert rounds.used_up


@pytest.mark.parametrize(
    ("passes", "takes", "dropped", "used_up"),
    [
        (None, 9, [], False),
        (2, 1, [], False),
        (2, 2, [], True),
        (2, 1, [0, 1, 2, 3], False),
        (2, 2, [3], True),
    ],
)
def test_whether_the_passes_are_used_up(passes, takes, dropped, used_up):
    """It is not so where nothing is left because every question was dropped before."""
    rounds = Rounds(stored(4), seed=2, passes=passes)
    for take in range(takes):
        rounds.take(4)
        for key in dropped if take == 0 else ():
            rounds.drop(key)
    assert rounds.used_up is used_up


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


def test_rounds_in_order_begin_again_with_the_first():
    rounds = Rounds(stored(5)[::-1], seed=0, passes=2, shuffled=False)
    assert [q.id for q in rounds.take(3)] == [4, 3, 2]
    rounds.drop(4)
    assert [[q.id for q in rounds.take(2)] for _ in range(4)] == [[1, 0], [3, 2], [1, 0], []]
