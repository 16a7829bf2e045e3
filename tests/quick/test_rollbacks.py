"""Which versions were taken back, by whom and why."""

from __future__ import annotations

import pytest

from ttrl.questions.question import from_prompt
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.forgetting import Doomed
from ttrl.store.questions import Recorded


def publish(store, name, parent=None, learned=()):
    row = AdapterRow(
        name, "l", 1, "d", parent, "base", None, 16, AdapterState.APPROVED, "better", 1.0
    )
    store.adapters.publish(row, learned, author="run")


def told(store):
    return [(each.version, each.author, each.reason) for each in store.adapters.roll_backs()]


def test_the_newest_first_and_each_once(store):
    assert store.adapters.roll_backs() == []
    publish(store, "one")
    publish(store, "two", "one")
    assert told(store) == [], "a promotion takes nothing back"
    store.adapters.roll_back(author="live_monitor", reason="it flips")
    store.adapters.roll_back(author="operator", reason="by hand")
    assert told(store) == [("one", "operator", "by hand"), ("two", "live_monitor", "it flips")]
    assert store.adapters.roll_backs()[0].at == pytest.approx(store.adapters.wanted().at)


def test_what_serves_again_was_not_taken_back(store):
    publish(store, "one")
    store.adapters.roll_back(author="live_monitor", reason="it flips")
    store.adapters.want("one", author="operator", reason="after all")
    assert told(store) == []
    store.adapters.roll_back(author="operator", reason="so it does")
    assert told(store) == [("one", "operator", "so it does")]


def test_a_purge_takes_back_what_serves_and_not_what_served_before(store):
    store.questions.record([Recorded(from_prompt("mine"), 1.0)], holdout=0)
    (asked,) = store.questions.new(1)
    publish(store, "one", learned=[asked.id])
    publish(store, "two", "one")
    store.forgetting.purge(Doomed([asked.id]))
    assert [(version, author) for version, author, _ in told(store)] == [("two", "operator")]
