"""When a cron expression comes next: APScheduler's triggers, on a clock without summer time, and
with cron's own days of the week."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBERS = re.compile(r"([0-7])(?:-([0-7]))?(?:/(\d+))?")


def triggers(cron: str) -> list[CronTrigger]:
    """Return what fires at the times of a cron expression, by clocks that show UTC. Raises
    ValueError where it cannot be read, or matches no date."""
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError('a cron expression has five fields, such as "0 3 * * *"')
    minute, hour, day, month, weekday = fields
    weekday = ",".join(map(_weekdays, weekday.split(",")))
    days = [(day, weekday)]
    if "*" not in (day[0], weekday[0]):  # cron fires on either
        days = [(day, "*"), ("*", weekday)]
    found = [
        CronTrigger(minute=minute, hour=hour, day=d, month=month, day_of_week=w, timezone=UTC)
        for d, w in days
    ]
    if not any(each.get_next_fire_time(None, datetime(2000, 1, 1, tzinfo=UTC)) for each in found):
        raise ValueError(f"the cron expression {cron!r} matches no date")
    return found


def _weekdays(part: str) -> str:
    """APScheduler counts the days of the week from Monday, and ends a range there."""
    numbers = _NUMBERS.fullmatch(part)
    if numbers is None:
        return part
    first, last, step = int(numbers[1]), int(numbers[2] or numbers[1]), int(numbers[3] or 1)
    return ",".join(_DAYS[number % 7] for number in range(first, last + 1, step))


def next_time(cron: str, after: datetime, timezone: ZoneInfo) -> datetime:
    """Return the first such moment after another one, in UTC. A time of day comes once a day, also
    where the clocks change: one that is skipped is when they go on, one that comes twice the
    first; APScheduler's own triggers skip a night there, and fire twice."""
    clock = after.astimezone(timezone).replace(tzinfo=UTC)
    firing = triggers(cron)
    while True:
        later = clock + timedelta(seconds=1)
        times = (trigger.get_next_fire_time(None, later) for trigger in firing)
        clock = min(time for time in times if time)
        found: datetime = clock.replace(tzinfo=timezone).astimezone(UTC)
        if found > after:  # in an hour that comes twice, the first time may be over
            return found
