"""Whether what is asked has moved: the population stability index over groups of questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

SURE = 0.95
SMALLEST = 0.5
"""What a group counts for in which there is nobody; the index of an empty one would be infinite."""


@dataclass(frozen=True)
class Shift:
    """The index, what it stays below in 95% of the cases where nothing has moved, and how many
    questions were compared."""

    psi: float
    by_chance: float
    before: int
    after: int

    @property
    def moved(self) -> bool:
        """Whether this is more than chance makes of questions like those before."""
        return self.psi > self.by_chance


def compare(before: Sequence[int], after: Sequence[int]) -> Shift:
    """The index of two samples of questions, each known by the number of its group; of at least one
    question each.

    With nothing moved, psi / (1/n + 1/m) is about chi-square distributed, with a degree of freedom
    less than there are groups (Yurdakul and Naranjo, "Statistical properties of the population
    stability index", Journal of Risk Model Validation 14, 2020).
    """
    ours, theirs = Counter(before), Counter(after)
    groups = ours.keys() | theirs.keys()
    psi = 0.0
    for group in groups:
        old = max(ours[group], SMALLEST) / len(before)
        new = max(theirs[group], SMALLEST) / len(after)
        psi += (new - old) * math.log(new / old)
    scale = 1 / len(before) + 1 / len(after)
    return Shift(psi, scale * _chi_square(max(len(groups) - 1, 1)), len(before), len(after))


def _chi_square(freedom: int) -> float:
    """The quantile of the chi-square distribution for SURE (Wilson and Hilferty, 1931)."""
    z, part = NormalDist().inv_cdf(SURE), 2 / (9 * freedom)
    return freedom * (1 - part + z * math.sqrt(part)) ** 3
