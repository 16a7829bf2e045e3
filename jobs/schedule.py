"""When a run starts by itself. The store, not the scheduler, is the truth: what is due is worked
out from when the schedule last fired, so that nothing is lost while the daemon was down or busy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from ttrl.config import ScheduleConfig
from ttrl.times import parse_window


class Decision(StrEnum):
    """Whether a scheduled run starts now, or why not."""

    START = "start"
    NO_SCHEDULE = "no_schedule"
    PAUSED = "paused"
    NOT_DUE = "not_due"
    RUN_UNDER_WAY = "run_under_way"
    OUTSIDE_WINDOW = "outside_window"
    TOO_FEW_QUESTIONS = "too_few_questions"


@dataclass(frozen=True)
class Facts:
    """What the decision rests on. `fired`: when the schedule last started a run, or when it was
    first looked at."""

    now: datetime
    fired: datetime
    paused: bool
    busy: bool
    new_questions: int


def decide(schedule: ScheduleConfig, facts: Facts) -> Decision:
    """A run that is due waits for its window and for enough questions; it is never dropped."""
    due = next_due(schedule, facts.fired)
    if due is None:
        return Decision.NO_SCHEDULE
    if facts.paused:
        return Decision.PAUSED
    if facts.now < due:
        return Decision.NOT_DUE
    if facts.busy:
        return Decision.RUN_UNDER_WAY
    if not in_window(schedule, facts.now):
        return Decision.OUTSIDE_WINDOW
    if facts.new_questions < schedule.min_questions:
        return Decision.TOO_FEW_QUESTIONS
    return Decision.START


def next_due(schedule: ScheduleConfig, fired: datetime) -> datetime | None:
    """The first moment after `fired` at which a run is due, in UTC; None without a schedule."""
    if schedule.cron is not None:
        trigger = CronTrigger.from_crontab(schedule.cron, timezone=ZoneInfo(schedule.timezone))
        found: datetime | None = trigger.get_next_fire_time(None, fired + timedelta(seconds=1))
        return found.astimezone(UTC) if found else None
    return None if schedule.every is None else fired + schedule.every


def next_start(schedule: ScheduleConfig, fired: datetime, now: datetime) -> datetime | None:
    """The first moment, from `now` on, at which a run is due and in a window, in UTC."""
    due = next_due(schedule, fired)
    if due is None or in_window(schedule, at := max(due, now)):
        return None if due is None else at
    local = at.astimezone(ZoneInfo(schedule.timezone))
    openings = [_next_opening(local, parse_window(window)[0]) for window in schedule.windows]
    return min(openings).astimezone(UTC)


def _next_opening(local: datetime, start: time) -> datetime:
    opening = datetime.combine(local.date(), start, local.tzinfo)
    return opening if opening > local else opening + timedelta(days=1)


def in_window(schedule: ScheduleConfig, now: datetime) -> bool:
    """Whether runs may start at this time of day; a window may go over midnight."""
    clock = now.astimezone(ZoneInfo(schedule.timezone)).time()
    windows = [parse_window(window) for window in schedule.windows]
    return not windows or any(
        start <= clock < end if start <= end else clock >= start or clock < end
        for start, end in windows
    )
