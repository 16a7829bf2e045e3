"""Which held-out questions are asked: some always, the others in turns."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobs.probes import CORE, cohort
from ttrl.questions.question import from_prompt
from ttrl.store.questions import QuestionState, StoredQuestion

WEEK = 7 * 86400.0
KEY = b"k" * 32


def held(number, first_seen, text=None):
    question = from_prompt(text or f"Question number {number}?")
    return StoredQuestion(number, question, 1, True, QuestionState.NEW, None, first_seen)


def ids(rows, size, week, key=KEY):
    """What is asked in a week, by id."""
    found = cohort(rows, size, period=WEEK, now=week * WEEK + 1, key=key)
    return [row.id for row in found]


TIMES = st.lists(st.floats(0, 20 * WEEK), min_size=1, max_size=60)


@given(TIMES, st.integers(1, 40), st.floats(0, 20), st.randoms())
def test_a_cohort_is_full_its_own_and_begins_with_the_oldest(times, size, week, shuffle):
    rows = [held(number, at) for number, at in enumerate(times)]
    found = ids(rows, size, week)
    assert len(found) == len(set(found)) == min(size, len(rows))
    core = round(CORE * size)
    oldest = [row.id for row in sorted(rows, key=lambda row: (row.first_seen, row.id))]
    assert found[:core] == oldest[: min(core, len(found))]
    shuffle.shuffle(rows)
    assert ids(rows, size, week) == found


@given(TIMES, TIMES, st.integers(1, 40))
def test_what_comes_in_during_a_full_period_changes_nothing(times, later, size):
    rows = [held(number, at) for number, at in enumerate(times)]
    more = [held(1000 + number, 20 * WEEK + at) for number, at in enumerate(later)]
    before, after = ids(rows, size, 20), ids(rows + more, size, 20)
    assert after[: len(before)] == before


def test_what_a_gate_has_asked_takes_the_place_of_what_is_forgotten():
    """Training kept away from it ever since; of those that no gate was near, nobody knows."""
    rows = [held(number, number * 60.0) for number in range(1000)]
    first = set(ids(rows, 100, 10))
    later = [replace(row, exposures=row.id in first) for row in rows[20:]]
    asked = sorted(first - set(range(20)))
    assert ids(later, 100, 10)[:25] == asked[:25] != [row.id for row in later[:25]]


def test_each_period_has_others_and_the_core_stays():
    rows = [held(number, number * 60.0) for number in range(1000)]
    weeks = [ids(rows, 100, week) for week in range(10, 40)]
    again = []
    for one, other in pairwise(weeks):
        assert one[:25] == other[:25] == list(range(25))
        again.append(len(set(one[25:]) & set(other[25:])) / 75)
    assert 0.15 < sum(again) / len(again) < 0.35, "one in four"
    assert min(min(week[25:]) for week in weeks) >= 1000 - 4 * 75, "the newest"


def test_another_key_asks_others():
    rows = [held(number, number * 60.0) for number in range(1000)]
    one, other = (set(ids(rows, 100, 10, key)[25:]) for key in (KEY, b"x" * 32))
    assert len(one & other) < 40


def test_near_duplicates_have_one_place():
    same = [held(number, float(number), f"  What is 2 plus 2{'?' * number}") for number in range(9)]
    assert ids([*same, held(9, 5.0)], 8, 1) == [0, 9]


def test_a_question_that_is_forgotten_costs_the_core_one():
    rows = [held(number, random.Random(number).uniform(0, WEEK)) for number in range(200)]
    core = ids(rows, 40, 9)[:10]
    left = [row for row in rows if row.id != core[3]]
    assert ids(left, 40, 9)[:9] == core[:3] + core[4:]
