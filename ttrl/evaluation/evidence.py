"""How sure labels make us that a candidate is better, and how many errors a year may hold.

An e-value is the wealth of a gambler who started with 1 and bet on each probe that the candidate is
better, at odds that are fair if it is not: then it ever reaches 1000 at most once in a thousand
cases, however often one looks (Ramdas et al., "Game-theoretic statistics and safe anytime-valid
inference", arXiv 2210.01948). Stakes are spread over a grid, so that the order of the probes does
not matter (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
arXiv 2010.09686).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ttrl.config import AnswerKind, GateConfig
from ttrl.votes import Vote, take_vote
from ttrl.words import counted

STAKES = tuple(twentieths / 20 for twentieths in range(1, 20))
"""Weighted by their size: large stakes pay where few labels show a large gain."""
LEVEL = 0.05
"""Share of single looks (a bound of an interval, a proof that nothing was lost) that may err."""
CONVINCING = 1 / LEVEL
"""The e-value that a single look asks for (Ville's inequality)."""
CONDEMNING = 100.0
"""The e-value of a loss for which a candidate is `worse` and its questions are quarantined."""
POWER = 0.9
"""Share of gates that prove a gain with as many labels as `labels_for` returns."""
YEAR_SECONDS = 365 * 86400.0


def e_value(differences: Iterable[float], above: float = 0.0) -> float:
    """Return the evidence, from 0 to infinity, against "the mean difference is at most `above`".

    A difference is one probe's (or one cluster's mean): the candidate's share of correct answers
    less the live version's, from -1 to 1; probes are independent draws.
    """
    odds = [((each - above) / (1 + above), n) for each, n in Counter(differences).items()]
    logs = [math.log(stake) + sum(n * math.log1p(stake * o) for o, n in odds) for stake in STAKES]
    if max(logs) > 700:  # e**710 is no float any more
        return math.inf
    return math.fsum(map(math.exp, logs)) / math.fsum(STAKES)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return bounds of the mean difference, each correct with 1 - LEVEL at whatever time one looks:
    the means that the evidence does not speak against (Waudby-Smith and Ramdas)."""

    def lower(counts: Counter[float]) -> float:
        """The largest mean that the evidence is against, by bisection; -1 if it is against none."""
        low, high = -1.0, 1.0
        for _ in range(20):  # to a millionth
            middle = (low + high) / 2
            against = e_value(counts, middle) >= CONVINCING
            low, high = (middle, high) if against else (low, middle)
        return low

    return lower(Counter(differences)), -lower(Counter(-each for each in differences))


def threshold_at(now: float, past: Iterable[float], settings: GateConfig) -> float:
    """Return the e-value with which a gate at `now` says `better`, after gates that looked at
    labels at the times `past` (Unix seconds).

    The gates' error levels, the inverses of their thresholds, add up to the expected number of
    false verdicts of `better` at most. Each gate spends half of a budget, which begins with enough
    for two of `gates_a_year` gates that share `false_better_a_year`, and fills up evenly to that
    again, so that no year spends more. By default the first gate asks for an e-value of 52, one a
    week for 54, one a night in the long run for about 380.
    """
    errors = settings.false_better_a_year
    full = 2 * errors / settings.gates_a_year
    a_second = (errors - full) / YEAR_SECONDS
    left, last = full, None
    for at in [*sorted(past), now]:
        if last is not None:
            left = min(full, left / 2 + a_second * max(0.0, at - last))
        last = at
    return 2 / left


def labels_needed(count: int, e: float, threshold: float) -> int | None:
    """Return about how many labels like these `count` would reach the threshold; None: none."""
    return None if e <= 1 else math.ceil(count * max(1.0, math.log(threshold) / math.log(e)))


def labels_for(gain: float, threshold: float) -> int:
    """Return how many labels prove, in POWER of all gates, that a candidate answers a share `gain`
    of the questions correctly that the live version did not, and loses none."""
    wins = next(k for k in range(1, 10_000) if e_value([1.0] * k) >= threshold)

    def too_few(n: int) -> float:
        """The chance of fewer wins than that among n labels (binomial)."""
        return math.fsum(math.comb(n, k) * gain**k * (1 - gain) ** (n - k) for k in range(wins))

    labels = wins
    while 1 - too_few(labels) < POWER:
        labels += max(1, labels // 50)
    return labels


@dataclass(frozen=True)
class Answered:
    """One version's answers to one probe: canonical, None where unreadable. `right` is for a probe
    whose label decides, `rejected` for one of which only wrong answers are known: whether each is
    one of them or unreadable. `tokens` is their mean length, `seconds` what they took together,
    `refused` the share that declines; `greedy_right` is of the answer at temperature 0 (None: not
    asked, or no label)."""

    answers: tuple[str | None, ...]
    right: tuple[bool, ...] | None = None
    tokens: float = 0.0
    seconds: float = 0.0
    refused: float = 0.0
    greedy_right: bool | None = None
    rejected: tuple[bool, ...] | None = None
    texts: tuple[str, ...] = ()
    kind: AnswerKind = AnswerKind.TEXT
    score: float | None = None
    """The judge's mean score of some of them, from 0 to 1; None: it said nothing."""

    @cached_property
    def vote(self) -> Vote:
        return take_vote(self.answers, kind=self.kind)

    @property
    def readable(self) -> float:
        return fmean(answer is not None for answer in self.answers)

    @property
    def accuracy(self) -> float:
        return fmean(self.right or ())

    @property
    def reached(self) -> float:
        """pass@k for k answers: 0 or 1."""
        return float(any(self.right or ()))

    @property
    def majority_right(self) -> bool:
        label = self.vote.label
        given = zip(self.answers, self.right or (), strict=False)
        return label is not None and any(right for answer, right in given if answer == label)


@dataclass(frozen=True)
class Probe:
    """A question and three versions' answers; near-duplicates share a `cluster`."""

    key: str
    cluster: str
    base: Answered
    live: Answered
    candidate: Answered
    tags: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        return self.candidate.right is not None


Pair = tuple[float, float]
Value = Callable[[Probe], Pair | None]
"""Two numbers from 0 to 1 to compare, or None where a probe says nothing about them."""


@dataclass(frozen=True)
class Comparison:
    """Means over clusters of probes, with the `interval` of `after` less `before`."""

    probes: int
    clusters: int
    before: float
    after: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.after - self.before

    def __str__(self) -> str:
        return (
            f"{self.before:.1%} to {self.after:.1%} on {counted(self.probes, 'probe')} "
            f"(difference between {self.low:+.1%} and {self.high:+.1%})"
        )


def differences(probes: Iterable[Probe], value: Value) -> list[float]:
    """Return each cluster's mean difference: near-duplicates are one draw from the traffic."""
    return [after - before for before, after, _ in _clusters(probes, value)]


def compare(probes: Iterable[Probe], value: Value) -> Comparison | None:
    """Compare the probes that say something about a value; None if none does."""
    clusters = _clusters(probes, value)
    if not clusters:
        return None
    before, after, sizes = zip(*clusters, strict=True)
    low, high = interval([new - old for old, new, _ in clusters])
    return Comparison(sum(sizes), len(clusters), fmean(before), fmean(after), low, high)


def _clusters(probes: Iterable[Probe], value: Value) -> list[tuple[float, float, int]]:
    """Return the two means of each cluster, and its number of probes."""
    clusters: dict[str, list[Pair]] = {}
    for probe in probes:
        if (pair := value(probe)) is not None:
            clusters.setdefault(probe.cluster, []).append(pair)
    return [
        (fmean(old for old, _ in pairs), fmean(new for _, new in pairs), len(pairs))
        for pairs in clusters.values()
    ]
