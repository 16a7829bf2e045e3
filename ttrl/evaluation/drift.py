"""How far a version has moved from others, and whether the questions have moved away from earlier
ones (population stability index) or from the labelled probes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from ttrl.config import GateConfig
from ttrl.engine.proof import Pinned

MOST_LOG_RATIO = 3.0
"""Cap of a token's log ratio: one token drawn against the odds would outweigh a thousand others."""
SURE = 0.95
SMALLEST = 0.5
"""Count of an empty group, whose index would be infinite."""
FEWEST = 30
"""Questions of each kind without which nothing is said."""


@dataclass(frozen=True)
class Drift:
    """KL divergence from the base model, the live version and what was live a week ago, in nats per
    token of the version's own answers; None if nothing was pinned or the base is live, nan if the
    engine did not answer."""

    from_base: float | None = None
    from_live: float | None = None
    from_week: float | None = None


def divergences(pinned: Sequence[Pinned]) -> Drift:
    return Drift(
        from_base=divergence((each.own, each.base) for each in pinned),
        from_live=divergence((each.own, each.parent) for each in pinned if each.parent),
    )


def divergence(pairs: Iterable[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    """Estimate KL(own || other) from samples of `own`: the mean of exp(r) - 1 - r with r = other -
    own (k3 of Schulman, "Approximating KL divergence")."""
    every = (b - a for own, other in pairs for a, b in zip(own, other, strict=True))
    ratios = [min(ratio, MOST_LOG_RATIO) for ratio in every]
    return fmean(math.expm1(r) - r for r in ratios) if ratios else None


@dataclass(frozen=True)
class Shift:
    """The index, its 95% quantile if nothing has moved, and the numbers of questions compared."""

    psi: float
    by_chance: float
    before: int
    after: int

    @property
    def moved(self) -> bool:
        return self.psi > self.by_chance


def compare(before: Sequence[int], after: Sequence[int]) -> Shift:
    """Return the index of two samples of at least one question each, given by their groups.

    If nothing has moved, psi / (1/n + 1/m) is about chi-square distributed with one degree of
    freedom less than there are groups (Yurdakul and Naranjo, "Statistical properties of the
    population stability index", Journal of Risk Model Validation 14, 2020).
    """
    ours, theirs = Counter(before), Counter(after)
    groups = ours.keys() | theirs.keys()
    psi = 0.0
    for group in groups:
        old = max(ours[group], SMALLEST) / len(before)
        new = max(theirs[group], SMALLEST) / len(after)
        psi += (new - old) * math.log(new / old)
    freedom = max(len(groups) - 1, 1)
    # The chi-square distribution's quantile for SURE (Wilson and Hilferty, 1931).
    z, part = NormalDist().inv_cdf(SURE), 2 / (9 * freedom)
    quantile = freedom * (1 - part + z * math.sqrt(part)) ** 3
    return Shift(psi, (1 / len(before) + 1 / len(after)) * quantile, len(before), len(after))


@dataclass(frozen=True)
class Staleness:
    """The AUC of a classifier that tells traffic from probes (0.5: not at all, 1: always), and the
    share of the probes that speaks for the traffic."""

    told_apart: float
    speaking: float

    def stale(self, settings: GateConfig) -> bool:
        return self.told_apart > settings.told_apart or self.speaking < settings.speaking

    def __str__(self) -> str:
        return (
            "the labelled probes do not resemble the traffic (a classifier tells them apart, AUC "
            f"{self.told_apart:.2f}; {self.speaking:.0%} of the probes are representative)"
        )


def staleness_of_labels(probes: Sequence[str], traffic: Sequence[str]) -> Staleness | None:
    """Compare the wordings of probes and of recent traffic, by cross-validation; None when there
    are too few of either."""
    if min(len(probes), len(traffic)) < FEWEST:
        return None
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts = [*probes, *traffic]
    of_traffic = [0] * len(probes) + [1] * len(traffic)
    classifier = make_pipeline(
        HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=2**14),
        LogisticRegression(class_weight="balanced", solver="liblinear"),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    chances = cross_val_predict(classifier, texts, of_traffic, cv=folds, method="predict_proba")
    found = chances[:, 1]
    weights = [chance / (1 - chance) for chance in found[: len(probes)]]
    speaking = sum(weights) ** 2 / (len(weights) * sum(weight**2 for weight in weights))
    return Staleness(float(roc_auc_score(of_traffic, found)), float(speaking))
