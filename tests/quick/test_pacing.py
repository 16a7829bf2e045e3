"""How many requests may be in flight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.engine.client import Load
from ttrl.engine.pacing import MODEST, Pacer, next_limit

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
    assert next_limit(bound, load, maximum=MAXIMUM, pause_waiting=MANY) == then


@pytest.mark.parametrize(("maximum", "bound"), [(1, 1), (3, 3), (4, 4), (100, 4)])
def test_it_begins_modestly(maximum, bound):
    assert Pacer(lambda: None, maximum=maximum, pause_waiting=MANY).limit == bound


LOADS = st.one_of(st.none(), st.builds(Load, *[st.integers(0, 300)] * 3))


@given(st.integers(1, 100), st.integers(1, 200), st.lists(LOADS, max_size=60))
def test_whatever_is_seen_it_keeps_its_bounds(maximum, many, loads):
    limit = min(MODEST, maximum)
    for load in loads:
        before = limit
        limit = next_limit(limit, load, maximum=maximum, pause_waiting=many)
        assert 0 <= limit <= maximum
        assert (limit == 0) is (load is not None and load.waiting >= many)
        if load is not None and load.waiting:
            assert limit < before or limit <= 1
        assert limit <= before + 1, "it never leaps"


@given(
    st.integers(1, 64),
    st.integers(1, 32),
    st.integers(0, 2000),
    st.integers(0, 1000),
    st.lists(LOADS, max_size=20),
)
def test_it_settles_where_the_engine_is_full(maximum, answers, room, users, before):
    """Users take what they need of an engine's room; each request of ours takes `answers`."""
    limit = min(MODEST, maximum)
    for load in before:
        limit = next_limit(limit, load, maximum=maximum, pause_waiting=10_000)
    fits = min(maximum, max(0, room - users) // answers)
    bounds = []
    for _ in range(3 * maximum + 10):
        wanted = users + limit * answers
        load = Load(min(room, wanted), max(0, wanted - room), 0)
        limit = next_limit(limit, load, maximum=maximum, pause_waiting=10_000)
        bounds.append(limit)
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
    limit = next_limit(MODEST, waiting(many), maximum=maximum, pause_waiting=many)
    assert limit == 0
    seen = []
    for _ in range(maximum):
        limit = next_limit(limit, waiting(0), maximum=maximum, pause_waiting=many)
        seen.append(limit)
    assert seen == list(range(1, maximum + 1))
