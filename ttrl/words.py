"""Numbers as people read them."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """Return such as "1 step" or "2 steps"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def lasting(seconds: float) -> str:
    """Return a time such as "40 s", "12 min" or "3 h 20 min"."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join(filter(None, (f"{hours} h" * (hours > 0), f"{minutes} min" * (minutes > 0))))
