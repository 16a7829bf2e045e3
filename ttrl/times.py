"""Times as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value)
        if not parts or re.sub(r"\d+(?:\.\d+)?\s*[smhd]|\s", "", value):
            raise ValueError('a duration is written like "90s", "15m" or "1h30m"')
        return timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in parts))
    return value


def _seconds(value: timedelta) -> str:
    """No exponent, which a duration is not written with."""
    return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_seconds, when_used="json"),
]


def parse_duration(text: str) -> timedelta:
    """ "90d" or "1h30m". Raises ValueError."""
    try:
        found: timedelta = _duration(text)
    except OverflowError:
        raise ValueError("a duration is a million years at most") from None
    return found


def clock(at: float) -> str:
    """Unix seconds as people read them, if it is a time that they have."""
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f} s after 1970"


def utc(at: float) -> str:
    """The same to the minute, for readers who may be elsewhere."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return clock(at)


def parse_window(window: str) -> tuple[time, time]:
    """ "22:00-06:00" as two times of day. Raises ValueError."""
    try:
        start, end = (time.fromisoformat(part.strip()) for part in window.split("-"))
    except ValueError:
        raise ValueError(f'a window is written like "22:00-06:00", not {window!r}') from None
    return start, end
