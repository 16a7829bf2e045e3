"""Which held-out questions the gate asks: a core that stays, and a part that is replaced."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

from ttrl.store.questions import StoredQuestion

CORE = 0.25
"""Share of a cohort that stays, so that one night can be compared with any other."""
POOL = 4
"""The other part is drawn among the newest, so many times its size."""


def cohort(
    held_out: Iterable[StoredQuestion], size: int, *, period: float, now: float, key: bytes
) -> list[StoredQuestion]:
    """The `size` questions that a gate asks at `now` (Unix seconds), one a cluster, the core first.

    The core is the longest-standing ones. The others are drawn anew, by `key`, whenever a period
    (seconds) begins, among what was asked before it; so of few questions many are drawn again, of
    POOL times as many one in POOL. A question that comes in later has its turn in the next period,
    unless there are too few.
    """
    each = _one_a_cluster(held_out)
    core, rest = each[: round(CORE * size)], each[round(CORE * size) :]
    turn = int(now // period)
    before = [row for row in rest if row.first_seen < turn * period]
    pool = before[-POOL * (size - len(core)) :]
    drawn = sorted(pool, key=lambda row: _place(row, turn, key))
    return [*core, *drawn, *rest[len(before) :]][:size]


def _one_a_cluster(held_out: Iterable[StoredQuestion]) -> Sequence[StoredQuestion]:
    """The longest-standing first."""
    first: dict[str, StoredQuestion] = {}
    for row in sorted(held_out, key=lambda row: (row.first_seen, row.id)):
        first.setdefault(row.question.cluster, row)
    return list(first.values())


def _place(row: StoredQuestion, turn: int, key: bytes) -> bytes:
    return hmac.digest(key, f"{turn} {row.question.hash}".encode(), "sha256")
