"""When a run starts by itself. The store is the truth: what is due is worked out from when the
schedule last fired, so that nothing is lost while the daemon was down or busy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ttrl.config import ScheduleConfig
from ttrl.config.section import next_time, parse_window
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.runs import RunBusy

log = logging.getLogger(__name__)

TICK_SECONDS = 5
FIRED = "schedule_fired"
PAUSED = "paused"
"""Facts in the store: when the schedule last fired, and whether the operator paused it."""


class Decision(StrEnum):
    """Whether a scheduled run starts now, or why not."""

    START = "start"
    NO_SCHEDULE = "no_schedule"
    PAUSED = "paused"
    NOT_DUE = "not_due"
    RUN_UNDER_WAY = "run_under_way"
    ENGINE_DOWN = "engine_down"
    OUTSIDE_WINDOW = "outside_window"
    TOO_FEW_QUESTIONS = "too_few_questions"


def decide(
    schedule: ScheduleConfig,
    *,
    now: datetime,
    fired: datetime,
    paused: bool,
    busy: bool,
    engine: bool,
    new_questions: int,
) -> Decision:
    """A run that is due waits for its window, for the engine, and for enough questions; it is never
    dropped. `fired`: when the schedule last started a run, or when it was first looked at."""
    due = next_due(schedule, fired)
    if due is None:
        return Decision.NO_SCHEDULE
    if paused:
        return Decision.PAUSED
    if now < due:
        return Decision.NOT_DUE
    if busy:
        return Decision.RUN_UNDER_WAY
    if not in_window(schedule, now):
        return Decision.OUTSIDE_WINDOW
    if not engine:
        return Decision.ENGINE_DOWN
    if new_questions < schedule.min_questions:
        return Decision.TOO_FEW_QUESTIONS
    return Decision.START


def next_due(schedule: ScheduleConfig, fired: datetime) -> datetime | None:
    """The first moment after `fired` at which a run is due, in UTC; None without a schedule."""
    if schedule.cron is not None:
        return next_time(schedule.cron, fired, schedule.timezone)
    return None if schedule.every is None else fired + schedule.every


def next_start(schedule: ScheduleConfig, fired: datetime, now: datetime) -> datetime | None:
    """The first moment, from `now` on, at which a run is due and in a window, in UTC."""
    due = next_due(schedule, fired)
    if due is None or in_window(schedule, at := max(due, now)):
        return None if due is None else at
    starts = [parse_window(window)[0] for window in schedule.windows]
    return min(
        next_time(f"{start.minute} {start.hour} * * *", at, schedule.timezone)
        + timedelta(seconds=start.second)
        for start in starts
    )


def in_window(schedule: ScheduleConfig, now: datetime) -> bool:
    """Whether runs may start at this time of day; a window may go over midnight."""
    clock = now.astimezone(schedule.timezone).time()
    windows = [parse_window(window) for window in schedule.windows]
    return not windows or any(
        start <= clock < end if start <= end else clock >= start or clock < end
        for start, end in windows
    )


@dataclass(eq=False)
class Clock:
    """Starts scheduled runs. Between ticks nothing is kept: what is due comes from the store."""

    schedule: ScheduleConfig
    store: Store
    start: Callable[[], Awaitable[object]]
    metrics: Metrics
    engine: Callable[[], bool] = lambda: True
    """Whether it is there."""
    uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    """Seconds that only grow, also while the host sleeps."""
    decision: Decision | None = None
    """The last tick's."""
    _ticked: float | None = None

    async def tick(self) -> None:
        if self._ticked is not None:
            ticks = round((self.uptime() - self._ticked) / TICK_SECONDS)
            self.metrics.scheduling.ticks_missed.inc(max(0, ticks - 1))
        try:
            decision, now = await asyncio.to_thread(self._look)
            if decision is Decision.START:
                # Here, and not in the thread: one that is no longer waited for goes on.
                await asyncio.to_thread(self.store.set_fact, FIRED, now.isoformat())
                try:
                    await self.start()
                except RunBusy as error:  # since the look, by hand
                    log.info("schedule: %s", error)
            if decision is not self.decision:
                log.info("schedule: %s", decision)
                self.decision = decision
        finally:
            self._ticked = self.uptime()  # the next one comes so long after this one's end

    def _look(self) -> tuple[Decision, datetime]:
        now = datetime.now(UTC)
        fired, paused = self._fired(now), self.store.fact(PAUSED) is not None
        decision = decide(
            self.schedule,
            now=now,
            fired=fired,
            paused=paused,
            busy=self.store.runs.active() is not None,
            engine=self.engine(),
            new_questions=self.store.questions.fresh(),
        )
        due = next_start(self.schedule, fired, now)
        self.metrics.scheduling.paused.set(paused)
        self.metrics.scheduling.next_run.set(due.timestamp() if due else None)
        return decision, now

    def next_run(self) -> str | None:
        """When the next run is due, in ISO 8601; None when nothing is scheduled."""
        now = datetime.now(UTC)
        due = next_start(self.schedule, self._fired(now), now)
        return due.isoformat(timespec="seconds") if due else None

    def _fired(self, now: datetime) -> datetime:
        """When the schedule last fired; a clock that was set back does not stall it."""
        written = self.store.fact(FIRED)
        if written is None or datetime.fromisoformat(written) > now:
            self.store.set_fact(FIRED, now.isoformat())
            return now
        return datetime.fromisoformat(written)
