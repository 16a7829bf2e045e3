"""Days and times of day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from ttrl.answers.phrases import phrases
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
        rf"(?P<day>1[3-9]|2\d|3[01])/(?P<month>\d{{1,2}})/{_YEAR}",
        rf"(?P<month>\d{{1,2}})/(?P<day>1[3-9]|2\d|3[01])/{_YEAR}",
        rf"{_DAY}\. ?(?P<month>\d{{1,2}})\. ?{_YEAR}",
        rf"(?:{_YEAR} ?[年년] ?)?(?P<month>\d{{1,2}}) ?[月월] ?{_DAY} ?[日号일]",
        rf"--(?P<month>\d{{2}})-{_DAY}",
    )
)
_ON = re.compile(r"(?:on|am|den|le|el|il|op|den|på) (?:the )?(?=\S)", re.IGNORECASE)
_SOME_LEAP_YEAR = 2000


def day(text: str) -> str | None:
    """The day that a text names, as ISO 8601 writes it: "2024-03-04", without a year "--03-04".
    None where it names none, or leaves open which number is the month ("3/4/2024")."""
    text = _ON.sub("", text.strip(), count=1)
    if len(text) > 40 or not any(map(str.isdigit, text)):
        return None
    found = next(filter(None, (written.fullmatch(text) for written in _WRITTEN)), None)
    return _iso(found) if found else None


def days(text: str) -> Iterator[tuple[str, int, int]]:
    """Find the days that a text names in words or year first, and where."""
    for written in _WRITTEN:
        for found in written.finditer(text):
            around = text[: found.start()][-1:] + text[found.end() :][:1]
            if not re.search("[A-Za-z0-9]", around) and (known := _iso(found)):
                yield known, *found.span()


def _iso(found: re.Match[str]) -> str | None:
    parts = found.groupdict()
    name, year = parts.get("name"), parts.get("year")
    month = months().get(name.casefold()) if name else int(parts["month"])
    try:
        known = date(int(year or _SOME_LEAP_YEAR), month or 0, int(parts["day"]))
    except ValueError:
        return None
    return known.isoformat() if year else f"--{known:%m-%d}"


_SPOKEN = tuple(
    (
        re.compile(
            pattern.replace("HH", r"(?P<hour>\d{1,2})")
            .replace("MM", r"(?P<minute>\d\d)")
            .replace("MIN", r"(?P<minute>\d{1,2})"),
            re.IGNORECASE,
        ),
        later,
    )
    for later, patterns in (
        (1, (
            r"HH(?:[:.]MM)?(?::(?P<second>\d\d))?\s?(?P<half>[ap])\.?\s?m\b\.?",
            r"HH:MM(?::(?P<second>\d\d))?(?![\d:])(?:\s*(?:hours|hrs|uhr|heures|h)\b)?",
            r"HH\.MM\s?(?:uhr|h)\b",
            r"HHhMM(?!\d|\s?m)",
            r"HH\s?(?:uhr|heures?|horas?|h)\s?MIN(?![\d\s]*[mh])",
            r"HH[点點時时시]\s?MIN[分분]?",
            r"MIN (?:minutes past|minutes after|past|minuten nach) HH\b",
        )),
        (-1, (r"MIN (?:minutes to|minutes before|minuten vor) HH\b",)),
        (30, (
            r"half past HH\b", r"half HH(?= in the)", r"las? HH y media\b",
            r"HH heures et demie\b", r"alle HH e mezz[ao]\b", r"às HH e meia\b",
            r"HH[点點時时시][半반]",
        )),
        (-30, (r"halb HH\b",)),
        (15, (
            r"(?:a )?quarter past HH\b", r"viertel nach HH\b", r"las? HH y cuarto\b",
            r"HH heures et quart\b",
        )),
        (-15, (
            r"(?:a )?quarter (?:to|before) HH\b", r"(?:viertel vor|dreiviertel) HH\b",
            r"las? HH menos cuarto\b", r"HH heures moins le quart\b",
        )),
        (0, (
            r"HH o['’]clock\b", r"HH uhr\b", r"HH[点點時时시](?![间間])",
            r"(?:12(?::00)? )?(?P<word>noon|midnight)\b",
        )),
    )
    for pattern in patterns
)  # fmt: skip
"""Ways to say a time, its hour and its minutes in digits, and how many minutes later it is: those
named, or those named earlier (1, -1), or so many."""


class Time(NamedTuple):
    """A time of day, "3:30 PM", and where a text says it; `open` where it may mean the other half
    of the day."""

    text: str
    start: int
    end: int
    open: bool


def times(text: str) -> Iterator[Time]:
    """Find the times of day in a text whose number words are in digits."""
    place = 0
    while found := _earliest(text, place):
        yield found
        place = found.end


def _earliest(text: str, place: int) -> Time | None:
    if not any(map(str.isdigit, text[place:])) and "no" not in text and "mid" not in text:
        return None
    matches = [(match, later) for spoken, later in _SPOKEN if (match := spoken.search(text, place))]
    matches.sort(key=lambda pair: (pair[0].start(), -pair[0].end()))
    for match, later in matches:
        if re.match("[A-Za-z0-9]", text[match.start() - 1 : match.start()]):
            continue
        if time := _time(text, match, later):
            return time
    return None


def _time(text: str, match: re.Match[str], later: int) -> Time | None:
    parts = match.groupdict()
    if _ZONE.match(text, match.end()):
        return None
    if parts.get("word"):
        noon = parts["word"].lower() == "noon"
        return Time("12:00 PM" if noon else "12:00 AM", *match.span(), open=False)
    start, end = match.span()
    named = [
        (half, near)
        for half, name in (("a", "morning"), ("p", "afternoon"))
        for near in phrases().patterns[name].finditer(text)
        if not text[near.end() : start].strip(" ,的の") or not text[end : near.start()].strip(" ,")
    ]
    half = (parts.get("half") or (named[0][0] if named else "")).lower()
    start = min([start, *(near.start() for _, near in named)])
    end = max([end, *(near.end() for _, near in named)])
    hour, second = int(parts["hour"]), int(parts.get("second") or 0)
    minute = int(parts.get("minute") or 0) * later if abs(later) == 1 else later
    if hour > 23 or abs(minute) > 59 or second > 59 or (parts.get("half") and not 1 <= hour <= 12):
        return None
    open_half = not half and 1 <= hour <= 12 and not parts["hour"].startswith("0")
    if half and hour <= 12:
        hour = hour % 12 + 12 * (half == "p")
    since = (hour * 60 + minute) % (24 * 60)
    hour, minute = divmod(since, 60)
    seconds = f":{second:02}" if second else ""
    said = f"{(hour - 1) % 12 + 1}:{minute:02}{seconds} {'PM' if hour > 11 else 'AM'}"
    return Time(said, start, end, open_half)


_ZONE = re.compile(r"\s?(?:[A-Z]{1,3}T|UTC|GMT|Z|[A-Z][a-z]+ (?:Standard |Daylight )?Time)\b")
"""Nothing here knows what time it is elsewhere."""
_LEADS = re.compile(
    r"(?:um|at|a las?|à|alle?|kl\.?|it is|it's|es ist|son las|il est)\s+", re.IGNORECASE
)


def time_of_day(text: str) -> Time | None:
    """The time of day that a whole text says; None where it says none. Without a part of the day,
    what has an hour up to 12 is taken as before noon."""
    text = text.strip()
    if len(text) > 60:
        return None
    lead = _LEADS.match(text)
    text = text[lead.end() :] if lead else text
    found = next(times(text), None)
    return found if found and (found.start, found.end) == (0, len(text)) else None
