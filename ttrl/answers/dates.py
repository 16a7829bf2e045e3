"""Days and times of day."""

from __future__ import annotations

import re
from datetime import date

from ttrl.answers.units import months

_MONTH = r"(?P<name>[^\W\d_]{3,12})\.?"
_DAY = r"(?P<day>\d{1,2})"
_YEAR = r"(?P<year>\d{4})"
_WRITTEN = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:the |le |el |il |den )?{_DAY}(?:st|nd|rd|th|er|º|\.)? (?:of |de |di )?{_MONTH}"
        rf"(?:,? (?:de |del )?{_YEAR})?",
        rf"{_MONTH} (?:the )?{_DAY}(?:st|nd|rd|th)?(?:,? {_YEAR})?",
        rf"{_YEAR}([-/.])(?P<month>\d{{1,2}})\2{_DAY}",
        rf"{_DAY}\. ?(?P<month>\d{{1,2}})\. ?{_YEAR}",
        rf"(?:{_YEAR} ?[年년] ?)?(?P<month>\d{{1,2}}) ?[月월] ?{_DAY} ?[日号일]",
        rf"--(?P<month>\d{{2}})-{_DAY}",
    )
)
_SOME_LEAP_YEAR = 2000


def day(text: str) -> str | None:
    """The day that a text names, as ISO 8601 writes it: "2024-03-04", without a year "--03-04".
    None where it names none, or leaves open which number is the month ("3/4/2024")."""
    text = text.strip()
    if len(text) > 40 or not any(map(str.isdigit, text)):
        return None
    found = next(filter(None, (written.fullmatch(text) for written in _WRITTEN)), None)
    if found is None:
        return None
    parts = found.groupdict()
    name, year = parts.get("name"), parts.get("year")
    month = months().get(name.casefold()) if name else int(parts["month"])
    try:
        known = date(int(year or _SOME_LEAP_YEAR), month or 0, int(parts["day"]))
    except ValueError:
        return None
    return known.isoformat() if year else f"--{known:%m-%d}"


TIME = re.compile(
    r"(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?(?::(?P<second>\d{2}))?\s*(?P<half>[ap])\.?\s?m\.?"
    r"|(?P<hour24>\d{1,2})(?::(?P<minute24>\d{2})(?::(?P<second24>\d{2}))?"
    r"|h(?P<minuteh>\d{2})(?!\d|\s?m))(?:\s*(?:h|hours|hrs|uhr|heures))?"
    r"|(?:12(?::00)? )?(?P<word>noon|midnight)",
    re.IGNORECASE,
)


def time_of_day(text: str) -> str | None:
    """A time of day, "3:30 PM"; None where a text names none. Without "am" or "pm", what has one
    digit for its hour is taken as by night."""
    found = TIME.fullmatch(text.strip()) if len(text) < 30 else None
    if found is None:
        return None
    if found["word"]:
        return "12:00 PM" if found["word"].lower() == "noon" else "12:00 AM"
    hour = int(found["hour"] or found["hour24"])
    minute = int(found["minute"] or found["minute24"] or found["minuteh"] or 0)
    second = int(found["second"] or found["second24"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"].lower() == "p")
    if hour > 23 or minute > 59 or second > 59:
        return None
    seconds = f":{second:02}" if second else ""
    return f"{(hour - 1) % 12 + 1}:{minute:02}{seconds} {'PM' if hour > 11 else 'AM'}"
