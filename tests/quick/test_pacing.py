"""How many requests may be in flight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.engine.client import Load
from ttrl.engine.pacing import MODEST, Pace

MAXIMUM, MANY = 16, 64


def waiting(count):
    return Load(running=100, waiting=count, tokens=1)


@pytest.mark.parametrize(
    ("bound", "load", "then"),
    [
        pytest.param(4, waiting(0), 5, id="one more while nobody waits"),
        pytest.param(16, waiting(0), 16, id="but not above the maximum"),
        pytest.param(16, waiting(1), 8, id="half when somebody waits"),
        pytest.param(5, waiting(63), 2, id="half, however many"),
        pytest.param(1, waiting(63), 1, id="one is the least"),
        pytest.param(16, waiting(64), 0, id="a pause when many wait"),
        pytest.param(0, waiting(64), 0, id="which lasts"),
        pytest.param(0, waiting(63), 1, id="and ends with one"),
        pytest.param(0, waiting(0), 1, id="even when nobody waits"),
        pytest.param(16, None, MODEST, id="modest when nothing is known"),
        pytest.param(2, None, 2, id="and no more than before"),
        pytest.param(0, None, 1, id="a pause needs a reason that is known"),
    ],
)
def test_a_look(bound, load, then):
    assert Pace(MAXIMUM, MANY, bound).after(load) == Pace(MAXIMUM, MANY, then)


@pytest.mark.parametrize(("maximum", "bound"), [(1, 1), (3, 3), (4, 4), (100, 4)])
def test_it_begins_modestly(maximum, bound):
    assert Pace.first(maximum, MANY).limit == bound


LOADS = st.one_of(st.none(), st.builds(Load, *[st.integers(0, 300)] * 3))


@given(st.integers(1, 100), st.integers(1, 200), st.lists(LOADS, max_size=60))
def test_whatever_is_seen_it_keeps_its_bounds(maximum, many, loads):
    pace = Pace.first(maximum, many)
    for load in loads:
        before, pace = pace, pace.after(load)
        assert 0 <= pace.limit <= maximum
        assert pace.paused is (load is not None and load.waiting >= many)
        if load is not None and load.waiting:
            assert pace.limit < before.limit or pace.limit <= 1
        assert pace.limit <= before.limit + 1, "it never leaps"


@given(
    st.integers(1, 64),
    st.integers(1, 32),
    st.integers(0, 2000),
    st.integers(0, 1000),
    st.lists(LOADS, max_size=20),
)
def test_it_settles_where_the_engine_is_full(maximum, answers, room, users, before):
    """Users take what they need of an engine's room; each request of ours takes `answers`."""
    pace = Pace.first(maximum, 10_000)
    for load in before:
        pace = pace.after(load)
    fits = min(maximum, max(0, room - users) // answers)
    bounds = []
    for _ in range(3 * maximum + 10):
        wanted = users + pace.limit * answers
        pace = pace.after(Load(min(room, wanted), max(0, wanted - room), 0))
        bounds.append(pace.limit)
    settled = bounds[-2 * maximum :]
    if users > room:
        assert set(settled) == {1}
    elif fits == maximum:
        assert set(settled) == {maximum}
    else:
        assert min(settled) >= max(1, (fits + 1) // 2)
        assert max(settled) <= fits + 1


@given(st.integers(1, 64), st.integers(1, 100))
def test_after_a_pause_it_comes_back_to_all(maximum, many):
    pace = Pace.first(maximum, many).after(waiting(many))
    assert pace.paused
    seen = []
    for _ in range(maximum):
        pace = pace.after(waiting(0))
        seen.append(pace.limit)
    assert seen == list(range(1, maximum + 1))
