"""When enough samples were drawn to know which answer wins (Adaptive-Consistency, Aggarwal et al.,
"Let's sample step by step", arXiv 2305.11860, with its Beta stopping rule)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from math import comb, ldexp


class Stop(StrEnum):
    """Why no further sample was drawn. A share reached by stopping early is larger than that of all
    samples would be."""

    ALL = "all"
    """There were as many as may be."""
    DECIDED = "decided"
    """The lead of the most common answer was sure enough."""


def rounds(samples: int, count: int) -> list[int]:
    """How many samples each of at most `count` rounds draws. Each but the first draws as many as
    there are: 64 in 4 rounds are 8, 8, 16, 32."""
    reached = sorted({samples >> halved for halved in range(count)} - {0})
    return [after - before for before, after in pairwise([0, *reached])]


def decided(counts: Sequence[int], sure: float) -> bool:
    """Whether the most common of these answers truly is more common than the next, with `sure`
    certainty: P(p > 1/2) with p ~ Beta(a + 1, b + 1), a and b being their votes. For whole numbers
    that is P(Binomial(a + b + 1, 1/2) <= a)."""
    first, second = sorted([*counts, 0, 0], reverse=True)[:2]
    tosses = first + second + 1
    return ldexp(sum(comb(tosses, heads) for heads in range(first + 1)), -tosses) >= sure


def enough(counts: Sequence[int], share: float, *, sure: float, ceiling: float) -> bool:
    """Whether a vote may do without further samples: it is decided, and not for a `share` above the
    ceiling, which would leave the question out for what is only true of the first samples. Of
    questions whose answers agree nine times in ten, 8 of 8 agree in four of ten."""
    return share <= ceiling and decided(counts, sure)
