"""How many requests of ours may be in flight: more while nobody waits, fewer when somebody does.

Additive increase and multiplicative decrease, which share what there is fairly and settle without
anybody knowing its size: D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms
for Congestion Avoidance in Computer Networks", Computer Networks and ISDN Systems 17 (1989) 1-14.

Our own answers wait in the engine too, and vLLM does not tell priorities apart. It need not: what
waits, whoever asked for it, says that the engine is full, and to ask for more is then pointless
for us and a delay for users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttrl.engine.load import Load

INCREASE = 1
DECREASE = 0.5
MODEST = 4
"""Where it begins, and the most where the engine does not say how busy it is."""


@dataclass(frozen=True)
class Pace:
    """`bound` is how many requests may be in flight; 0 is a pause. It is at most `maximum`, and 0
    when `pause_waiting` answers or more wait in the engine."""

    maximum: int
    pause_waiting: int
    bound: int

    @classmethod
    def first(cls, maximum: int, pause_waiting: int) -> Pace:
        """Before the first look. Both are at least 1."""
        return cls(maximum, pause_waiting, min(MODEST, maximum))

    @property
    def paused(self) -> bool:
        """Whether nothing may go out."""
        return self.bound == 0


def after(pace: Pace, load: Load | None) -> Pace:
    """The pace after one look at the engine, however many requests ended since the last one.

    None is a look that saw nothing: an engine too busy to answer looks like that as well, so the
    bound never grows by it."""
    return replace(pace, bound=_bound(pace, load))


def _bound(pace: Pace, load: Load | None) -> int:
    if load is not None and load.waiting >= pace.pause_waiting:
        return 0
    if pace.paused:
        return 1
    if load is None:
        return min(pace.bound, MODEST)
    if load.waiting:
        return max(1, int(pace.bound * DECREASE))
    return min(pace.maximum, pace.bound + INCREASE)
