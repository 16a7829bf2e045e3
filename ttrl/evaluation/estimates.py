"""How good a version's answers are, as far as probes and its agreement with itself can say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist, covariance, fmean, pvariance, variance

from ttrl.evaluation.evidence import Answered

LEVEL = 0.95
LEAST = 20
"""Labels without which nothing is said."""
APART = NormalDist().inv_cdf(0.995)
"""Standard errors; one time in a hundred they are that far apart without cause."""
PSEUDO = 4
"""Labels that are added for the interval, half of them right: where all of few are right, their
spread is 0 and says nothing (Agresti and Coull, "Approximate is better than exact", 1998)."""

Pairs = Sequence[tuple[float, float]]
"""How many answers to a question are known to be right, with the share of its majority; both from 0
to 1."""


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


def withheld(labelled: Pairs, unlabelled: Sequence[float] = ()) -> Withheld | None:
    """Why `estimate` says nothing, if so. APART is by Welch's test: the traffic has moved away from
    its labels, as far as that shows in how much the version agrees with itself."""
    if len(labelled) < LEAST:
        return Withheld.FEW
    if len(unlabelled) < LEAST:
        return None
    shares = [share for _, share in labelled]
    error = math.sqrt(variance(shares) / len(shares) + variance(unlabelled) / len(unlabelled))
    return Withheld.APART if abs(fmean(shares) - fmean(unlabelled)) > APART * error else None


@dataclass(frozen=True)
class Open:
    """What judgements leave open: for each labelled question the share of answers of which nobody
    knows whether they are right, and of questions that were drawn and could not be judged the same
    share with the share of the majority. Of answers that were drawn from the first and judged, how
    many were right, and of how many."""

    unknown: Sequence[float] = ()
    skipped: Pairs = ()
    right: int = 0
    judged: int = 0


def estimate(
    labelled: Pairs, unlabelled: Sequence[float] = (), open_: Open = Open()
) -> Estimate | None:
    """The mean of "right" over the questions that both are random draws of, unless `withheld`.

    `unlabelled` are shares of majorities alone. Without any of them it is the labels' mean.

    The interval is from the low end of the one if all that is open is wrong to the high end of the
    one if all of it is right (worst-case bounds: Manski, "Partial Identification of Probability
    Distributions", 2003), so it holds whatever made the operator leave it open. The value takes
    the unknown answers to be right as often as those that were drawn from them and judged (with
    Jeffreys' prior: half of them while none was), and skipped questions to be like the others.
    """
    if withheld(labelled, unlabelled):
        return None
    if not any(open_.unknown) and not open_.skipped:
        return around(labelled, unlabelled)
    unknown = open_.unknown or [0.0] * len(labelled)
    least = list(labelled)
    most = [(right + more, share) for (right, share), more in zip(least, unknown, strict=True)]
    low, high = around(least, unlabelled).value, around(most, unlabelled).value
    value = low + (open_.right + 0.5) / (open_.judged + 1) * (high - low)
    worst = around([*least, *((0.0, share) for _, share in open_.skipped)], unlabelled)
    best = around([*most, *open_.skipped], unlabelled)
    low, high = min(worst.low, best.low), max(worst.high, best.high)
    return Estimate(min(max(value, low), high), low, high, len(labelled), len(unlabelled))


def around(labelled: Pairs, unlabelled: Sequence[float] = ()) -> Estimate:
    """The same by at least one label, whatever the labels are of: of questions like them, and the
    fewer they are the less does it say."""
    weight = _weight(labelled, unlabelled)

    def mean(of: Pairs) -> float:
        rectified = fmean(right - weight * share for right, share in of)
        return rectified + (weight * fmean(unlabelled) if unlabelled else 0.0)

    value = mean(labelled)
    usual = fmean(share for _, share in labelled)
    steadied = [*labelled, *[(1.0, usual), (0.0, usual)] * (PSEUDO // 2)]
    centre = mean(steadied)
    spread = pvariance([right - weight * share for right, share in steadied]) / len(steadied)
    if unlabelled:
        spread += weight**2 * pvariance(unlabelled) / len(unlabelled)
    reach = _student(max(1, len(labelled) - 1)) * math.sqrt(spread)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    value = min(max(value, low), high)
    return Estimate(value, low, high, len(labelled), len(unlabelled))


def _weight(labelled: Pairs, unlabelled: Sequence[float]) -> float:
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


@dataclass(frozen=True)
class Asked:
    """One version's answers to one question. `drawn` says that what is known of it may stand for
    the traffic: it was drawn from it, or the operator's labels look like it. `traffic` says that it
    is a part of the traffic whatever is known of it, as one without a label always is. `skipped`
    says that the operator could not judge it."""

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
        """Whether anything is known of which answers are right."""
        return self.labelled or self.answered.rejected is not None

    @property
    def speaks(self) -> bool:
        """Whether it says something of how many answers to the traffic are right."""
        return self.drawn and self.known


@dataclass(frozen=True)
class Quality:
    """Means over questions, near-duplicates together as one; shares are from 0 to 1, None is what
    cannot be said."""

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
    """Of the answers to their questions, and to those that could not be judged, those of which
    nobody knows whether they are right."""
    withheld: Withheld | None
    """Why there is no estimate."""
    tags: dict[str, Estimate] = field(default_factory=dict)
    """Right answers to the labelled probes of each tag that has enough."""
    remarks: str = ""
    """How many probes were left out, and why."""


def measure(asked: Sequence[Asked], undecided: tuple[int, int] = (0, 0)) -> Quality | None:
    """What a version's answers say together; None without any. `undecided`: how many of the
    undecided answers that were drawn and judged are right, and of how many."""
    if not asked:
        return None
    labelled = [each for each in asked if each.labelled]
    judged: list[Asked] = []
    skipped: list[Asked] = []
    for each in asked:
        if each.speaks:
            nothing = each.skipped and _undecided(each.answered) > 0
            (skipped if nothing else judged).append(each)
    unknown, known = _means(judged, _undecided), _pairs(judged, _right)
    unsaid = _pairs(skipped, _undecided)
    others = (each for each in asked if not each.speaks and (each.traffic or not each.known))
    shares = _means(others, _share)
    tags = {}
    for tag in sorted({tag for each in labelled for tag in each.tags}):
        # Nobody tags the traffic, so that these are of the labels alone.
        of_tag = estimate(_pairs((each for each in labelled if tag in each.tags), _right))
        if of_tag is not None:
            tags[tag] = of_tag

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
        estimate=estimate(known, shares, Open(unknown, unsaid, *undecided)),
        speaking=len(known),
        undecided=fmean([*unknown, *(part for part, _ in unsaid)]) if judged or skipped else 0.0,
        withheld=withheld(known, shares),
        tags=tags,
    )


Value = Callable[[Answered], float]


def _share(answered: Answered) -> float:
    return answered.vote.share


def _right(answered: Answered) -> float:
    """Answers that are known to be right."""
    return answered.accuracy if answered.right is not None else 0.0


def _undecided(answered: Answered) -> float:
    """Answers of which nobody knows whether they are right."""
    return 1 - fmean(answered.rejected) if answered.rejected is not None else 0.0


def _consistency(answered: Answered) -> float:
    """The chance that two of the answers are the same; an unreadable one is like no other."""
    n = len(answered.answers)
    same = sum(count * (count - 1) for _, count in answered.vote.counts)
    return same / (n * (n - 1)) if n > 1 else 1.0


def _means(asked: Iterable[Asked], value: Value) -> list[float]:
    """Each cluster's mean: near-duplicates are one draw from the traffic."""
    clusters: dict[str, list[float]] = {}
    for each in asked:
        clusters.setdefault(each.cluster, []).append(value(each.answered))
    return list(map(fmean, clusters.values()))


def _pairs(asked: Iterable[Asked], value: Value) -> Pairs:
    """The same with the mean share of the majority."""
    each = list(asked)
    return list(zip(_means(each, value), _means(each, _share), strict=True))
