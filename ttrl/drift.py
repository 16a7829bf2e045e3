"""How far a version has moved from others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ttrl.proof import Pinned

MOST_LOG_RATIO = 3.0
"""Above which a token that is likelier under the other version counts no more towards the
divergence: one drawn against the odds would outweigh a thousand others."""


@dataclass(frozen=True)
class Drift:
    """KL divergence from the base model, from the live version and from what was live a week ago,
    in nats per token of the version's own answers; None where nothing was pinned, or where the base
    is what is live."""

    from_base: float | None = None
    from_live: float | None = None
    from_week: float | None = None


def measure(pinned: Sequence[Pinned]) -> Drift:
    """From the log-probabilities of answers that the version itself drew."""
    return Drift(
        from_base=divergence((each.own, each.base) for each in pinned),
        from_live=divergence((each.own, each.parent) for each in pinned if each.parent),
    )


def divergence(pairs: Iterable[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    """KL(own || other) from samples of `own`: the mean of exp(r) - 1 - r with r = other - own,
    which is never negative and varies less than -r (Schulman, "Approximating KL divergence")."""
    every = (b - a for own, other in pairs for a, b in zip(own, other, strict=True))
    ratios = [min(ratio, MOST_LOG_RATIO) for ratio in every]
    return fmean(math.expm1(r) - r for r in ratios) if ratios else None
