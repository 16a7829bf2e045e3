"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing needs to be done."""
    WARNING = "warning"
    """It works, and will not for long, or not as it should."""
    BROKEN = "broken"
    """Something does not work."""


@dataclass(frozen=True)
class Finding:
    """What a check says of one thing, and how to mend it."""

    check: str
    outcome: Outcome
    what: str
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, Outcome.OK, what)


def note(check: str, what: str, mend: str = "") -> Finding:
    """Worth knowing."""
    return Finding(check, Outcome.NOTE, what, mend)


def warning(check: str, what: str, mend: str) -> Finding:
    """To be seen to."""
    return Finding(check, Outcome.WARNING, what, mend)


def broken(check: str, what: str, mend: str) -> Finding:
    """To be mended."""
    return Finding(check, Outcome.BROKEN, what, mend)
