"""Numbers as people read them, and how to install what is missing."""

from __future__ import annotations

import shlex
from importlib import metadata


def counted(count: int, what: str) -> str:
    """Return such as "1 step" or "2 steps"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def lasting(seconds: float) -> str:
    """Return a time such as "40 s", "12 min" or "3 h 20 min"."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join(filter(None, (f"{hours} h" * (hours > 0), f"{minutes} min" * (minutes > 0))))


def install(extra: str) -> str:
    """Return the command that installs what an extra consists of: ttrl itself may have been
    installed from anywhere, and its name in an index may be somebody else's."""
    from packaging.requirements import Requirement  # seldom needed

    required = map(Requirement, metadata.requires("ttrl") or ())
    named = []
    for each in required:
        if each.marker and each.marker.evaluate({"extra": extra}):
            each.marker = None
            named.append(str(each))
    return f"pip install {shlex.join(named)}"
