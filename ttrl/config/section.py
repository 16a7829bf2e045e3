"""What all sections of the configuration are made of, and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

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
