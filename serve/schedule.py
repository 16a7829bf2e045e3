"""The clock in the daemon: looks every few seconds whether a run is due."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from jobs.schedule import Decision, Facts, decide, next_start
from ttrl.config import ScheduleConfig
from ttrl.metrics import Metrics
from ttrl.store import Store

log = logging.getLogger(__name__)

TICK_SECONDS = 5
FIRED = "schedule_fired"
PAUSED = "paused"


def uptime() -> float:
    """Seconds that only grow; Linux's usual clock for this stands still while the host sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """Starts scheduled runs. APScheduler only ticks; what is due comes from the store."""

    def __init__(
        self,
        schedule: ScheduleConfig,
        store: Store,
        start: Callable[[], Awaitable[object]],
        metrics: Metrics,
        uptime: Callable[[], float] = uptime,
    ) -> None:
        self._schedule = schedule
        self._store = store
        self._start = start
        self._metrics = metrics
        self._uptime = uptime
        self.said: Decision | None = None
        """Why no run was started at the last look, or that one was."""
        self._ticker = AsyncIOScheduler(timezone=UTC)
        self._ticked: float | None = None

    def run(self) -> None:
        """Begin to tick."""
        self._ticker.add_job(
            self.tick,
            "interval",
            seconds=TICK_SECONDS,
            next_run_time=datetime.now(UTC),
            misfire_grace_time=None,  # by default a tick one second late is dropped
            coalesce=True,
            max_instances=1,
        )
        self._ticker.start()

    def stop(self) -> None:
        """Tick no more; a run that was started goes on."""
        self._ticker.shutdown(wait=False)

    async def tick(self) -> None:
        """Look once, and start a run if it is time."""
        self._count_missed(self._uptime())
        facts = await asyncio.to_thread(self._facts)
        decision = decide(self._schedule, facts)
        self._metrics.scheduling.paused.set(facts.paused)
        due = next_start(self._schedule, facts.fired, facts.now)
        self._metrics.scheduling.next_run.set(due.timestamp() if due else None)
        if decision is Decision.START:
            await asyncio.to_thread(self._store.set_fact, FIRED, facts.now.isoformat())
            await self._start()
        if decision is not self.said:
            log.info("schedule: %s", decision)
            self.said = decision

    def next_run(self) -> str | None:
        """When the next run is due, in ISO 8601; None when nothing is scheduled."""
        now = datetime.now(UTC)
        due = next_start(self._schedule, self._fired(now), now)
        return due.isoformat(timespec="seconds") if due else None

    def _facts(self) -> Facts:
        now = datetime.now(UTC)
        return Facts(
            now=now,
            fired=self._fired(now),
            paused=self._store.fact(PAUSED) is not None,
            busy=self._store.runs.active() is not None,
            new_questions=self._store.questions.fresh(),
        )

    def _fired(self, now: datetime) -> datetime:
        """When the schedule last fired; a clock that was set back does not stall it."""
        written = self._store.fact(FIRED)
        if written is None or datetime.fromisoformat(written) > now:
            self._store.set_fact(FIRED, now.isoformat())
            return now
        return datetime.fromisoformat(written)

    def _count_missed(self, now: float) -> None:
        if self._ticked is not None:
            self._metrics.scheduling.ticks_missed.inc(missed(now - self._ticked))
        self._ticked = now


def missed(seconds: float) -> int:
    """Looks that should have been made between two that were so far apart; one that is half a tick
    late stands for one that was missed."""
    return max(0, round(seconds / TICK_SECONDS) - 1)
