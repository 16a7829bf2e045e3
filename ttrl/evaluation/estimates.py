"""How good a version's answers are, as far as probes and its agreement with itself can say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist, covariance, fmean, pvariance, variance
from typing import TypeVar

from ttrl.config import AnswerKind
from ttrl.evaluation.evidence import Answered

LEVEL = 0.95
LEAST = 20
"""Labels without which nothing is said."""
APART = NormalDist().inv_cdf(0.995)
"""Standard errors; chance alone exceeds them one time in a hundred."""
PSEUDO = 4
"""Labels that are added for the interval, half of them right: the spread of few that are all right
is 0 (Agresti and Coull, "Approximate is better than exact", 1998)."""

K = TypeVar("K")
Pairs = Sequence[tuple[float, float]]
"""Share of the answers to a question that are known to be right, and share of its majority."""


class Withheld(StrEnum):
    """Why nothing is said of the traffic."""

    FEW = "few"
    """Fewer than LEAST labels."""
    APART = "apart"
    """The majorities' shares of labelled questions and of others differ by more than chance, so
    that both are no random draws of the same traffic."""


@dataclass(frozen=True)
class Estimate:
    """Share of right answers with its 95% interval, and the numbers of questions with and without
    a label that it rests on."""

    value: float
    low: float
    high: float
    labels: int
    unlabelled: int


@dataclass(frozen=True)
class Reliability:
    """How often signals are right about labelled probes: each check, one finding a probe; and the
    majority of the version's answers, by the kind of the answers and by the probes' tags."""

    checks: Mapping[str, Estimate] = field(default_factory=dict)
    kinds: Mapping[AnswerKind, Estimate] = field(default_factory=dict)
    tags: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def reliable(self) -> set[str]:
        """Those that are right more often than wrong."""
        return {name for name, each in self.checks.items() if each.low > 0.5}

    @property
    def misleading(self) -> set[str]:
        """The checks that are wrong more often than right."""
        return {name for name, each in self.checks.items() if each.high < 0.5}

    @property
    def fooled(self) -> frozenset[AnswerKind]:
        """The kinds of answers of which the majority is wrong more often than right."""
        return frozenset(kind for kind, each in self.kinds.items() if each.high < 0.5)


def each_estimated(agreeing: Mapping[K, Sequence[float]]) -> dict[K, Estimate]:
    """Estimate how often each signal is right from the shares of what it says, of one probe after
    the other, that agree with the label; one that says nothing is left out."""
    return {
        name: around([(share, 0.0) for share in shares])
        for name, shares in agreeing.items()
        if shares
    }


def withheld(labelled: Pairs, unlabelled: Sequence[float] = ()) -> Withheld | None:
    """Why `estimate` returns None, if so; APART is by Welch's test."""
    if len(labelled) < LEAST:
        return Withheld.FEW
    if len(unlabelled) < LEAST:
        return None
    shares = [share for _, share in labelled]
    error = math.sqrt(variance(shares) / len(shares) + variance(unlabelled) / len(unlabelled))
    return Withheld.APART if abs(fmean(shares) - fmean(unlabelled)) > APART * error else None


def estimate(
    labelled: Pairs,
    unlabelled: Sequence[float] = (),
    unknown: Sequence[float] = (),
    skipped: Pairs = (),
    judged: tuple[int, int] = (0, 0),
) -> Estimate | None:
    """Estimate the mean of "right" over the questions that both are random draws of, unless
    `withheld`.

    `unlabelled` are shares of majorities, `unknown` the shares of the labelled questions' answers
    that nobody knows to be right or wrong; `skipped` questions, which could not be judged, have the
    same with their majorities' shares. Of the unknown answers that were `judged` since, so many are
    right, of so many.

    The interval has worst-case bounds (Manski, "Partial Identification of Probability
    Distributions", 2003): from the low end if all that is open is wrong to the high end if all of
    it is right. The value takes unknown answers to be right as often as the judged ones (with
    Jeffreys' prior), and skipped questions to be like the others.
    """
    if withheld(labelled, unlabelled):
        return None
    if not any(unknown) and not skipped:
        return around(labelled, unlabelled)
    more = unknown or [0.0] * len(labelled)
    most = [(right + open_, share) for (right, share), open_ in zip(labelled, more, strict=True)]
    low, high = around(labelled, unlabelled).value, around(most, unlabelled).value
    value = low + (judged[0] + 0.5) / (judged[1] + 1) * (high - low)
    worst = around([*labelled, *((0.0, share) for _, share in skipped)], unlabelled)
    best = around([*most, *skipped], unlabelled)
    low, high = min(worst.low, best.low), max(worst.high, best.high)
    return Estimate(min(max(value, low), high), low, high, len(labelled), len(unlabelled))


def around(labelled: Pairs, unlabelled: Sequence[float] = ()) -> Estimate:
    """Estimate from at least one label, of questions like the labelled ones."""
    rights, shares = zip(*labelled, strict=True)
    weight = 0.0  # how much the shares count, for the narrowest interval (PPI++, example 6.1)
    if unlabelled and (spread := variance([*shares, *unlabelled])):
        gain = covariance(rights, shares) / spread / (1 + len(labelled) / len(unlabelled))
        weight = min(max(gain, 0.0), 1.0)

    def mean(of: Pairs) -> float:
        rectified = fmean(right - weight * share for right, share in of)
        return rectified + (weight * fmean(unlabelled) if unlabelled else 0.0)

    usual = fmean(shares)
    steadied = [*labelled, *[(1.0, usual), (0.0, usual)] * (PSEUDO // 2)]
    centre = mean(steadied)
    spread = pvariance([right - weight * share for right, share in steadied]) / len(steadied)
    if unlabelled:
        spread += weight**2 * pvariance(unlabelled) / len(unlabelled)
    reach = _student(max(1, len(labelled) - 1)) * math.sqrt(spread)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    value = min(max(mean(labelled), low), high)
    return Estimate(value, low, high, len(labelled), len(unlabelled))


def _student(freedom: int) -> float:
    """Student's t quantile for LEVEL, to a thousandth from 15 degrees of freedom on, to a fiftieth
    from 4 (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return float(z + first / freedom + second / freedom**2)


@dataclass(frozen=True)
class Asked:
    """One version's answers to one question. `drawn`: its label may stand for the traffic, which it
    was drawn from or looks like. `traffic`: it is a part of the traffic whatever is known of it, as
    one without a label always is. `skipped`: the operator could not judge it."""

    cluster: str
    answered: Answered
    drawn: bool = True
    traffic: bool = False
    skipped: bool = False
    tags: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        return self.answered.right is not None

    @property
    def known(self) -> bool:
        """Whether it is known of any answer whether it is right."""
        return self.labelled or self.answered.rejected is not None

    @property
    def speaks(self) -> bool:
        return self.drawn and self.known


@dataclass(frozen=True)
class Quality:
    """Means over questions, near-duplicates together as one; shares are from 0 to 1."""

    questions: int
    labelled: int
    agreement: float
    """Answers that are the majority answer."""
    consistency: float
    """Pairs of answers to one question that are the same."""
    readable: float
    refused: float
    tokens: float
    """Of an answer."""
    seconds: float
    """From asking for all answers to a question to having them."""
    pass_at_1: float | None
    right: Estimate | None
    """pass@1 with its interval."""
    pass_at_k: float | None
    majority_right: float | None
    estimate: Estimate | None
    """Right answers to the traffic."""
    speaking: int
    """Labels that may stand for the traffic."""
    undecided: float
    """Answers to those and to skipped questions that nobody knows to be right or wrong."""
    withheld: Withheld | None
    """Why there is no estimate."""
    tags: dict[str, Estimate] = field(default_factory=dict)
    """Right answers to the labelled probes of each tag that has enough."""
    remarks: str = ""
    """How many probes were left out, and why."""


def measure(asked: Sequence[Asked], undecided: tuple[int, int] = (0, 0)) -> Quality | None:
    """Measure a version by its answers; None without any. `undecided` is `judged` of `estimate`."""
    if not asked:
        return None
    labelled = [each for each in asked if each.labelled]
    speaking = [each for each in asked if each.speaks]
    skipped = [each for each in speaking if each.skipped and _undecided(each.answered) > 0]
    judged = [each for each in speaking if each not in skipped]
    unknown, known = _means(judged, _undecided), _pairs(judged, _right)
    unsaid = _pairs(skipped, _undecided)
    others = (each for each in asked if not each.speaks and (each.traffic or not each.known))
    shares = _means(others, _share)
    tags = {}
    for tag in sorted({tag for each in labelled for tag in each.tags}):
        # of the labels alone: nobody tags the traffic
        if found := estimate(_pairs((each for each in labelled if tag in each.tags), _right)):
            tags[tag] = found

    def mean(value: Value, of: Sequence[Asked] = asked) -> float:
        return fmean(_means(of, value))

    return Quality(
        questions=len(asked),
        labelled=len(labelled),
        agreement=mean(_share),
        consistency=mean(_consistency),
        readable=mean(lambda answered: answered.readable),
        refused=mean(lambda answered: answered.refused),
        tokens=mean(lambda answered: answered.tokens),
        seconds=mean(lambda answered: answered.seconds),
        pass_at_1=mean(_right, labelled) if labelled else None,
        right=around(_pairs(labelled, _right)) if labelled else None,
        pass_at_k=mean(lambda each: each.reached, labelled) if labelled else None,
        majority_right=mean(lambda each: each.majority_right, labelled) if labelled else None,
        estimate=estimate(known, shares, unknown, unsaid, undecided),
        speaking=len(known),
        undecided=fmean([*unknown, *(part for part, _ in unsaid)]) if speaking else 0.0,
        withheld=withheld(known, shares),
        tags=tags,
    )


Value = Callable[[Answered], float]


def _share(answered: Answered) -> float:
    return answered.vote.share


def _right(answered: Answered) -> float:
    return answered.accuracy if answered.right is not None else 0.0


def _undecided(answered: Answered) -> float:
    return 1 - fmean(answered.rejected) if answered.rejected is not None else 0.0


def _consistency(answered: Answered) -> float:
    """The chance that two of the answers are the same and readable."""
    n = len(answered.answers)
    same = sum(count * (count - 1) for _, count in answered.vote.counts)
    return same / (n * (n - 1)) if n > 1 else 1.0


def _means(asked: Iterable[Asked], value: Value) -> list[float]:
    """Return each cluster's mean: near-duplicates are one draw from the traffic."""
    clusters: dict[str, list[float]] = {}
    for each in asked:
        clusters.setdefault(each.cluster, []).append(value(each.answered))
    return list(map(fmean, clusters.values()))


def _pairs(asked: Iterable[Asked], value: Value) -> Pairs:
    asked = list(asked)
    return list(zip(_means(asked, value), _means(asked, _share), strict=True))
