"""What a distilled judge is worth, and why it may not be used: on questions that it did not learn
from, against the judge that it was distilled from, against labels, and against pretenders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, correlation, fmean

from ttrl.evaluation.estimates import LEAST, Estimate, around
from ttrl.words import counted

LEAST_CORRELATION = 0.4
"""That the lower end of the interval of Spearman's correlation must reach."""
GOOD = 0.7
"""Score from which on the judge takes an answer to be right."""
NINETY_FIVE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Graded:
    """An answer to a held-out question: what the judge and the distilled one say of it."""

    cluster: str
    judge: float
    distilled: float


@dataclass(frozen=True)
class Grades:
    """`spearman` has a 95% interval by the number of questions, not of answers. `ordered` is the
    share of pairs of one question's answers, as the judge scores them, that are ordered alike.
    `auc` is the chance that a labelled right answer scores above a wrong one, by the distilled
    judge and by the judge (where it scored them). `tried` counts pretenders by kind, `won` those
    that scored as high as the answer that the judge takes to be best."""

    answers: int
    questions: int
    spearman: float
    low: float
    high: float
    ordered: Estimate | None
    tried: Mapping[str, int]
    won: Mapping[str, int]
    good: int
    """Questions with a good answer, which the pretenders were tried on."""
    labels: int = 0
    auc: float | None = None
    judge_auc: float | None = None
    seconds: float = 0.0
    """Of one answer."""
    silent: int = 0
    """Answers that were too long for it."""

    def because(self) -> tuple[str, ...]:
        """Say why it may not be used; nothing if it may."""
        found = []
        if self.questions < LEAST or self.good < LEAST:
            found.append(
                f"too few held-out questions: {self.questions}, {self.good} with a good answer; "
                f"{LEAST} needed"
            )
        elif not self.low >= LEAST_CORRELATION:  # nan is not
            found.append(
                f"Spearman's correlation with the judge is {self.spearman:.2f} ({self.low:.2f} to "
                f"{self.high:.2f}); its lower end must be at least {LEAST_CORRELATION:g}"
            )
        if self.ordered is None or self.ordered.low <= 0.5:
            words = (
                "none"
                if self.ordered is None
                else (
                    f"{self.ordered.value:.0%} ({self.ordered.low:.0%} to {self.ordered.high:.0%})"
                )
            )
            found.append(f"pairs of answers to one question that it orders like the judge: {words}")
        if won := {kind: count for kind, count in self.won.items() if count}:
            kinds = ", ".join(
                f"{count} of {self.tried[kind]} {kind}" for kind, count in won.items()
            )
            found.append(f"pretenders score as high as good answers: {kinds}")
        if self.auc is not None and self.auc <= 0.5:
            found.append(f"by {counted(self.labels, 'label')} it is no better than chance")
        return tuple(found)


def grade(
    graded: Sequence[Graded],
    trials: Sequence[tuple[float, Mapping[str, Sequence[float | None]]]],
    labelled: Sequence[tuple[bool, float | None, float | None]] = (),
    *,
    seconds: float = 0.0,
    silent: int = 0,
) -> Grades:
    """Grade a distilled judge. `trials` has, for each question with a good answer, that one's score
    and those of its pretenders, by kind; `labelled` whether an answer is right, and its scores by
    the distilled judge and by the judge."""
    questions = len({each.cluster for each in graded})
    spearman = correlated([each.judge for each in graded], [each.distilled for each in graded])
    low, high = interval(spearman, questions)
    by_question: dict[str, list[Graded]] = {}
    for each in graded:
        by_question.setdefault(each.cluster, []).append(each)
    shares = [share for each in by_question.values() if (share := _ordered(each)) is not None]
    tried: dict[str, int] = {}
    won: dict[str, int] = {}
    for best, scores in trials:
        for kind, found in scores.items():
            known = [score for score in found if score is not None]
            tried[kind] = tried.get(kind, 0) + len(known)
            won[kind] = won.get(kind, 0) + sum(score >= best for score in known)
    ours = [(right, score) for right, score, _ in labelled if score is not None]
    theirs = [(right, score) for right, _, score in labelled if score is not None]
    return Grades(
        answers=len(graded),
        questions=questions,
        spearman=spearman,
        low=low,
        high=high,
        ordered=around([(share, 0.0) for share in shares]) if shares else None,
        tried=tried,
        won=won,
        good=len(trials),
        labels=len(ours),
        auc=auc(ours),
        judge_auc=auc(theirs),
        seconds=seconds,
        silent=silent,
    )


def correlated(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's correlation; nan where one of them has one value only."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return math.nan
    return correlation(ranks(one), ranks(other))


def ranks(values: Sequence[float]) -> list[float]:
    """Return each value's rank from 1; equal ones share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values), start=1):
        places.setdefault(value, []).append(place)
    return [fmean(places[value]) for value in values]


def interval(spearman: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a correlation over so many draws, by Fisher's transformation."""
    if math.isnan(spearman) or count < 4:
        return math.nan, math.nan
    middle = math.atanh(max(min(spearman, 1 - 1e-9), -1 + 1e-9))
    reach = NINETY_FIVE / math.sqrt(count - 3)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def auc(scored: Sequence[tuple[bool, float]]) -> float | None:
    """Return the chance that a right answer scores above a wrong one, a tie being half; None unless
    there are both. By ranks (Mann and Whitney)."""
    positive = sum(right for right, _ in scored)
    negative = len(scored) - positive
    if not positive or not negative:
        return None
    ranked = ranks([score for _, score in scored])
    total = math.fsum(rank for rank, (right, _) in zip(ranked, scored, strict=True) if right)
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def _ordered(answers: Sequence[Graded]) -> float | None:
    """Return the share of pairs that both judges order alike, a tie of the distilled one being a
    half; None if the judge finds all of them equal."""
    shares = []
    for one, other in combinations(answers, 2):
        if one.judge != other.judge:
            by_judge, ours = one.judge - other.judge, one.distilled - other.distilled
            shares.append(0.5 if not ours else float((by_judge > 0) == (ours > 0)))
    return fmean(shares) if shares else None
