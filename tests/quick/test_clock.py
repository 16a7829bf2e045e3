"""The clock in the daemon, when the host's is set or stands still."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from serve.daemon.schedule import FIRED, Clock
from tests.stores import ask
from ttrl.config import ScheduleConfig
from ttrl.metrics import Metrics

DAY = timedelta(days=1)


@pytest.fixture
def clock(store):
    """One that is to start a run every hour, and the starts so far."""
    started = []

    async def start():
        started.append(datetime.now(UTC))

    ask(store, "What is 1 plus 1?")
    clock = Clock(ScheduleConfig(every="1h", min_questions=1), store, start, Metrics())
    clock.started = started
    return clock


def ticks(clock, times):
    async def tick():
        for _ in range(times):
            await clock.tick()

    asyncio.run(tick())
    return len(clock.started)


@pytest.mark.fault(
    "the host's clock jumps a day ahead, or it slept through a day",
    sees="nothing",
    keeps="one run catches up",
)
def test_a_clock_that_jumps_ahead(clock, store):
    store.set_fact(FIRED, (datetime.now(UTC) - DAY).isoformat())
    assert ticks(clock, 5) == 1


@pytest.mark.fault(
    "the host's clock is set back by a day",
    sees="nothing",
    keeps="the schedule: the next run starts within its usual time",
)
def test_a_clock_that_is_set_back(clock, store):
    store.set_fact(FIRED, (datetime.now(UTC) + DAY).isoformat())
    assert ticks(clock, 2) == 0
    due = datetime.fromisoformat(clock.next_run())
    assert due - datetime.now(UTC) < timedelta(hours=1, seconds=1)


def test_a_host_that_slept_is_counted_as_late(store):
    """Nothing says so but the time of the next look."""
    metrics, times = Metrics(), iter([100.0, *(2 * [107.4]), *(2 * [3707.4]), *(2 * [3712.4])])
    clock = Clock(ScheduleConfig(), store, lambda: None, metrics, uptime=lambda: next(times))
    clock.started = []
    ticks(clock, 4)
    total = metrics.registry.get_sample_value("ttrl_schedule_ticks_missed_total")
    assert total == 719
