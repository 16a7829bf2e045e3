"""How sure labels make us that a candidate is better, and how much error a year may hold.

An e-value is the money of a gambler who started with 1 and bet, at odds that are fair or worse for
him while the candidate is no better, on each probe that it is. What he expects to have is then at
most 1, whenever he stops, so he has a thousand at most once in a thousand: looking early, often, or
until it looks good costs nothing (Ramdas et al., "Game-theoretic statistics and safe anytime-valid
inference", arXiv 2210.01948). His stakes are spread over a grid, which is itself a fair bet
(Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv
2010.09686), so that the order of the probes does not matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

STAKES = tuple(twentieths / 20 for twentieths in range(1, 20))
ERROR = 0.05
"""Of a year's verdicts of `better`, the share that may be false, in expectation."""
GATES = 500
"""That a year's budget is for. Afterwards nothing is `better` until the next year."""
CONVINCING = 1 / ERROR
"""The e-value that one look by itself asks for: of hypotheses that are true, at most ERROR ever
show as much (Ville's inequality)."""
YEAR_SECONDS = 365 * 86400.0


def e_value(differences: Sequence[float], above: float = 0.0) -> float:
    """The evidence, from 0 to infinity, against "the mean difference is at most `above`".

    A difference is one probe's (or one cluster's mean): the candidate's share of right answers less
    the live version's, from -1 to 1; probes are independent draws.
    """
    odds = Counter((difference - above) / (1 + above) for difference in differences)
    logs = [math.fsum(n * math.log1p(stake * o) for o, n in odds.items()) for stake in STAKES]
    largest = max(logs)
    if largest > 700:  # e**710 is no float any more
        return math.inf
    return math.fsum(math.exp(each) for each in logs) / len(STAKES)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Bounds of the mean difference, each right with 1 - ERROR at whatever time one looks: the
    means that the evidence does not speak against (Waudby-Smith and Ramdas)."""
    return _lower(differences), -_lower([-each for each in differences])


def _lower(differences: Sequence[float]) -> float:
    """The largest mean that the evidence is against, by halving; -1 when it is against none."""
    low, high = -1.0, 1.0
    for _ in range(20):  # to a millionth
        middle = (low + high) / 2
        against = e_value(differences, above=middle) >= CONVINCING
        low, high = (middle, high) if against else (low, middle)
    return low


@dataclass(frozen=True)
class Budget:
    """What has been spent of this year's errors: gates that looked at labels, and those of them
    that said `better`.

    Each of GATES gates may be wrong with a share of ERROR, and for each that said `better` as often
    once more: e-LOND (Xu and Ramdas, "Online multiple testing with e-values", arXiv 2311.06412),
    which holds the expected share of false verdicts below ERROR however the nights depend on each
    other.
    """

    gates: int = 0
    better: int = 0

    @property
    def threshold(self) -> float:
        """The e-value that the next gate must see to say `better`."""
        if self.gates >= GATES:
            return math.inf
        return GATES / (ERROR * (self.better + 1))

    @property
    def left(self) -> float:
        """The share of the year's gates that are still to be had."""
        return max(0.0, 1 - self.gates / GATES)


def spent(past: Sequence[tuple[float, bool]], now: float) -> Budget:
    """The budget after the gates so far: when each looked at labels (Unix seconds), and whether it
    said `better`. Years are counted from the first."""
    if not past:
        return Budget()
    first = min(at for at, _ in past)
    year = (now - first) // YEAR_SECONDS
    of_this = [better for at, better in past if (at - first) // YEAR_SECONDS == year]
    return Budget(len(of_this), sum(of_this))


def probes_needed(count: int, e: float, threshold: float) -> int | None:
    """About how many probes like these `count` would decide it; None when no number would."""
    if e <= 1 or math.isinf(threshold):
        return None
    return math.ceil(count * max(1.0, math.log(threshold) / math.log(e)))
