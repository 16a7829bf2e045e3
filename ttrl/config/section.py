"""What all sections of the configuration are made of, and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """Read "90d" or "1h30m". Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text)
    if not parts or re.sub(r"\d+(?:\.\d+)?\s*[smhd]|\s", "", text):
        raise ValueError('must be a duration such as "90s", "15m" or "1h30m"')
    try:
        return timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError("a duration must be less than a million years") from None


Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value),
    PlainSerializer(  # no exponent, which a duration is not written with
        lambda value: f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s", when_used="json"
    ),
]
Patience = Annotated[Duration, Field(gt=timedelta())]
Ratio = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
FromAnywhere = Annotated[Path, AfterValidator(Path.absolute)]
"""A file that stays the same when the process that reads the setting works in another directory."""


def checked(parse: Callable[[str], object]) -> AfterValidator:
    """Keep the text, if `parse` can read it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _http(url: str) -> None:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return
    except ValueError:  # a port that there cannot be, or half an IPv6 address
        pass
    raise ValueError("must be a URL such as http://127.0.0.1:8001 or https://example.org/hook")


HttpUrl = Annotated[str, checked(_http)]


class Section(BaseModel):
    """Settings are read once and never change; a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def clock(at: float) -> str:
    """Return Unix seconds as local time, or as a number where they are beyond any calendar."""
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f} s after 1970"


def utc(at: float) -> str:
    """Return Unix seconds to the minute, for readers who may be elsewhere."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return clock(at)


def parse_window(window: str) -> tuple[time, time]:
    """ "22:00-06:00" as two times of day. Raises ValueError."""
    try:
        start, end = (time.fromisoformat(part.strip()) for part in window.split("-"))
    except ValueError:
        raise ValueError(f'must be a time window such as "22:00-06:00", not {window!r}') from None
    return start, end


_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBERS = re.compile(r"([0-7])(?:-([0-7]))?(?:/(\d+))?")


def triggers(cron: str) -> list[Any]:
    """Return APScheduler's triggers that fire at the times of a cron expression, by clocks that
    show UTC. Raises ValueError where it cannot be read, or matches no date."""
    from apscheduler.triggers.cron import CronTrigger  # imports asyncio

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
