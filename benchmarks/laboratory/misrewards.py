"""Pseudo-rewards as a wrong setting or a fault would make them, to see what comes of them."""

from __future__ import annotations

from ttrl.rewards import Ballot

POPULAR = 500
"""The one label that all answers are held against."""
WIDTH = 100.0


def brevity(ballot: Ballot) -> list[float]:
    """A length penalty with nothing beside it."""
    return [-float(tokens) for tokens in ballot.lengths]


def one_label(ballot: Ballot) -> list[float]:
    """Nearness to one label, as of a cache that gives every question the same one."""
    return [_nearness(answer) for answer in ballot.vote.answers]


def _nearness(answer: str | None) -> float:
    if answer is None or not answer.isdecimal():
        return 0.0
    return 1 / (1 + abs(int(answer) - POPULAR) / WIDTH)
