"""How many answers to the traffic are right, from a few labels and many votes.

Prediction-powered inference (Angelopoulos et al., Science 382, 2023; with the weight tuned: PPI++,
arXiv 2311.01453): the share of the majority, which is known of all questions, stands in for being
right, and the labelled ones say by how much it is off. Training pushes that share up, so what it is
worth is found anew for each version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, covariance, fmean, pvariance, variance

LEVEL = 0.95
LEAST = 20
"""Labels without which nothing is said."""
APART = NormalDist().inv_cdf(0.995)
"""Standard errors; one time in a hundred they are that far apart without cause."""
PSEUDO = 4
"""Labels that are added for the interval, half of them right: where all of few are right, their
spread is 0 and says nothing (Agresti and Coull, "Approximate is better than exact", 1998)."""


class Withheld(StrEnum):
    """Why nothing is said of the traffic."""

    FEW = "few"
    """Fewer than LEAST labels."""
    APART = "apart"
    """The shares of the labelled questions and of the others differ by more than chance makes of
    them, so that both cannot be random draws of the same."""


@dataclass(frozen=True)
class Estimate:
    """Share of right answers with the ends of its interval (95%), from so many labels and so many
    questions without one."""

    value: float
    low: float
    high: float
    labels: int
    unlabelled: int


def withheld(
    labelled: Sequence[tuple[float, float]], unlabelled: Sequence[float] = ()
) -> Withheld | None:
    """Why `estimate` says nothing, if so."""
    if len(labelled) < LEAST:
        return Withheld.FEW
    return Withheld.APART if _apart([share for _, share in labelled], unlabelled) else None


def estimate(
    labelled: Sequence[tuple[float, float]], unlabelled: Sequence[float] = ()
) -> Estimate | None:
    """The mean of "right" over the questions that both are random draws of, unless `withheld`.

    `labelled` are pairs of how many answers to a question are right and the share of its majority,
    `unlabelled` such shares alone; all from 0 to 1. Without any of them it is the labels' mean.
    """
    return None if withheld(labelled, unlabelled) else around(labelled, unlabelled)


def around(labelled: Sequence[tuple[float, float]], unlabelled: Sequence[float] = ()) -> Estimate:
    """The same by at least one label, whatever the labels are of: of questions like them, and the
    fewer they are the less does it say."""
    weight = _weight(labelled, unlabelled)
    value = _mean(labelled, unlabelled, weight)
    usual = fmean(share for _, share in labelled)
    steadied = [*labelled, *[(1.0, usual), (0.0, usual)] * (PSEUDO // 2)]
    centre = _mean(steadied, unlabelled, weight)
    spread = pvariance([right - weight * share for right, share in steadied]) / len(steadied)
    if unlabelled:
        spread += weight**2 * pvariance(unlabelled) / len(unlabelled)
    reach = _student(max(1, len(labelled) - 1)) * math.sqrt(spread)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    value = min(max(value, low), high)
    return Estimate(value, low, high, len(labelled), len(unlabelled))


def _apart(ones: Sequence[float], others: Sequence[float]) -> bool:
    """Whether two samples have other means, by Welch's test: the traffic has moved away from its
    labels, as far as that shows in how much the version agrees with itself."""
    if len(others) < LEAST:
        return False
    error = math.sqrt(variance(ones) / len(ones) + variance(others) / len(others))
    return abs(fmean(ones) - fmean(others)) > APART * error


def _mean(
    labelled: Sequence[tuple[float, float]], unlabelled: Sequence[float], weight: float
) -> float:
    rectified = fmean(right - weight * share for right, share in labelled)
    return rectified + (weight * fmean(unlabelled) if unlabelled else 0.0)


def _weight(labelled: Sequence[tuple[float, float]], unlabelled: Sequence[float]) -> float:
    """How far the shares are to be believed, so that the interval is the narrowest (PPI++, example
    6.1): 0, not at all, to 1."""
    if not unlabelled:
        return 0.0
    rights, shares = zip(*labelled, strict=True)
    spread = variance([*shares, *unlabelled])
    if spread == 0:
        return 0.0
    weight: float = covariance(rights, shares) / spread / (1 + len(labelled) / len(unlabelled))
    return min(max(weight, 0.0), 1.0)


def _student(freedom: int) -> float:
    """The quantile of Student's t for LEVEL, to a thousandth from 15 degrees of freedom on, to a
    fiftieth from 4 (Cornish and Fisher's expansion; Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return float(z + first / freedom + second / freedom**2)
