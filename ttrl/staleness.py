"""Do the labelled probes still look like what users ask?

A classifier learns to tell the two apart on one half and is tried on the other (Lopez-Paz and
Oquab, "Revisiting classifier two-sample tests", arXiv 1610.06545). What it is sure of gives
importance weights, and those an effective number of probes: few of them speak for the traffic
when most of it is unlike them (Kish, 1965).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttrl.config import GateConfig

FEWEST = 30
"""Questions of each kind without which nothing is learned about them."""


@dataclass(frozen=True)
class Staleness:
    """How well the two can be told apart: the chance that a question of the traffic looks more like
    traffic than a probe does (0.5: not at all, 1: always), and the share of the probes that speaks
    for the traffic."""

    told_apart: float
    speaking: float

    def stale(self, settings: GateConfig) -> bool:
        """Whether the operator's bounds are passed."""
        return self.told_apart > settings.told_apart or self.speaking < settings.speaking

    def __str__(self) -> str:
        return (
            "the labelled probes do not look like the traffic (told apart in "
            f"{self.told_apart:.0%} of pairs; {self.speaking:.0%} of them speak for it)"
        )


def measure(probes: Sequence[str], traffic: Sequence[str]) -> Staleness | None:
    """Compare the wordings of probes and of recent traffic; None when there are too few of either.

    Chances are of folds that the classifier did not learn from.
    """
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
