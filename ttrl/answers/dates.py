"""Days of the calendar, however they are written."""

from __future__ import annotations

import re
from datetime import date

_NAMES = (
    ("january", "januar", "jan"), ("february", "februar", "feb"), ("march", "märz", "mar"),
    ("april", "apr"), ("may", "mai"), ("june", "juni", "jun"), ("july", "juli", "jul"),
    ("august", "aug"), ("september", "sept", "sep"), ("october", "oktober", "oct", "okt"),
    ("november", "nov"), ("december", "dezember", "dec", "dez"),
)  # fmt: skip
_NUMBERS = {name: number for number, names in enumerate(_NAMES, 1) for name in names}
_MONTH = rf"(?P<name>{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>\d{1,2})"
_YEAR = r"(?P<year>\d{4})"
_WRITTEN = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:the )?{_DAY}(?:st|nd|rd|th|\.)? (?:of )?{_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH} (?:the )?{_DAY}(?:st|nd|rd|th)?(?:,? {_YEAR})?",
        rf"{_YEAR}([-/.])(?P<month>\d{{1,2}})\2{_DAY}",
        rf"{_DAY}\. ?(?P<month>\d{{1,2}})\. ?{_YEAR}",
        rf"(?:{_YEAR} ?年 ?)?(?P<month>\d{{1,2}}) ?月 ?{_DAY} ?[日号]",
        rf"--(?P<month>\d{{2}})-{_DAY}",
    )
)
_SOME_LEAP_YEAR = 2000


def day(text: str) -> str | None:
    """The day that a text names, as ISO 8601 writes it: "2024-03-04", without a year "--03-04".
    None where it names none, or leaves open which number is the month ("3/4/2024")."""
    for written in _WRITTEN:
        found = written.fullmatch(text.strip())
        if found:
            return _iso(found.groupdict())
    return None


def _iso(parts: dict[str, str | None]) -> str | None:
    name = parts.get("name")
    month = _NUMBERS[name.lower()] if name else int(parts["month"] or 0)
    year = parts.get("year")
    try:
        known = date(int(year or _SOME_LEAP_YEAR), month, int(parts["day"] or 0))
    except ValueError:
        return None
    return known.isoformat() if year else f"--{known:%m-%d}"
