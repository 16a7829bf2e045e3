"""How sure labels make us that a candidate is better, and how many errors a year may hold.

An e-value is what a gambler has who started with 1 and bet on each probe that the candidate is
better, at odds that are fair if it is not. While it is not, the expected value is at most 1 at any
time, so a value of 1000 is reached at most once in a thousand cases however often one looks (Ramdas
et al., "Game-theoretic statistics and safe anytime-valid inference", arXiv 2210.01948). The stakes
are spread over a grid, which is a fair bet again and makes the order of the probes irrelevant
(Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv
2010.09686).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ttrl.config import GateConfig
from ttrl.votes import Vote, take_vote

STAKES = tuple(twentieths / 20 for twentieths in range(1, 20))
"""Each has a share of the money that is proportional to it: large stakes pay where few labels show
a large gain, and with many labels the shares hardly matter."""
LEVEL = 0.05
"""Of single looks (an interval's bound, a proof that something was not lost), so many may err."""
CONVINCING = 1 / LEVEL
"""The e-value that a single look asks for (Ville's inequality)."""
CONDEMNING = 100.0
"""The e-value of a loss for which a candidate is `worse` and what it learned from is
quarantined."""
POWER = 0.9
"""The share of gates that prove a gain with the number of labels that `labels_for` gives."""
YEAR_SECONDS = 365 * 86400.0


def e_value(differences: Iterable[float], above: float = 0.0) -> float:
    """Return the evidence, from 0 to infinity, against "the mean difference is at most `above`".

    A difference is one probe's (or one cluster's mean): the candidate's share of correct answers
    less the live version's, from -1 to 1; probes are independent draws.
    """
    return _e_value(Counter(differences), above)


def _e_value(differences: Counter[float], above: float) -> float:
    odds = [((each - above) / (1 + above), n) for each, n in differences.items()]
    logs = [math.log(stake) + sum(n * math.log1p(stake * o) for o, n in odds) for stake in STAKES]
    largest = max(logs)
    if largest > 700:  # e**710 is no float any more
        return math.inf
    return math.fsum(math.exp(each) for each in logs) / math.fsum(STAKES)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return bounds of the mean difference, each correct with 1 - LEVEL at whatever time one looks:
    the means that the evidence does not speak against (Waudby-Smith and Ramdas)."""
    return _lower(Counter(differences)), -_lower(Counter(-each for each in differences))


def _lower(differences: Counter[float]) -> float:
    """The largest mean that the evidence is against, by bisection; -1 when it is against none."""
    low, high = -1.0, 1.0
    for _ in range(20):  # to a millionth
        middle = (low + high) / 2
        against = _e_value(differences, middle) >= CONVINCING
        low, high = (middle, high) if against else (low, middle)
    return low


def threshold_at(now: float, past: Iterable[float], settings: GateConfig) -> float:
    """Return the e-value with which a gate at `now` says `better`, after gates that looked at
    labels at the times `past` (Unix seconds).

    There is a budget of false verdicts of `better` that are allowed, in expectation. A gate with
    labels spends half of what is left: it says `better` when the e-value reaches the inverse of
    that. The budget begins with enough for two of `gates_a_year` gates that share a year's errors,
    and fills up evenly to that again, so that in any year at most `false_better_a_year` is spent:
    the sum of the gates' error levels bounds the expected number of false verdicts, whatever the
    gates have to do with each other. By default the first gate asks for an e-value of 52, one a
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
    """Return about how many labels like these `count` would reach the threshold; None when no
    number would."""
    if e <= 1:
        return None
    return math.ceil(count * max(1.0, math.log(threshold) / math.log(e)))


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
    """One version's answers to one probe: canonical, None where unreadable; for a labelled probe
    whether each is right; their mean length in tokens; how many seconds they took together; the
    share of them that declines; and whether the answer at temperature 0 is right (None: not asked,
    or no label). `rejected` is for a probe of which only wrong answers are known: whether each is
    one of them, or cannot be read; of the others nobody knows. `texts` are the whole texts."""

    answers: tuple[str | None, ...]
    right: tuple[bool, ...] | None = None
    tokens: float = 0.0
    seconds: float = 0.0
    refused: float = 0.0
    greedy_right: bool | None = None
    rejected: tuple[bool, ...] | None = None
    texts: tuple[str, ...] = ()

    @cached_property
    def vote(self) -> Vote:
        return take_vote(self.answers)

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
    """The same question to the base model, the live version and the candidate. `cluster` is shared
    by near-duplicates."""

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
    """Means over clusters of probes, with bounds of their difference (`after` less `before`), each
    of which holds with 95% whenever one looks."""

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
            f"{self.before:.1%} to {self.after:.1%} on {self.probes} probes "
            f"(difference between {self.low:+.1%} and {self.high:+.1%})"
        )


def differences(probes: Iterable[Probe], value: Value) -> list[float]:
    """Each cluster's mean difference: near-duplicates are one draw from the traffic."""
    return [after - before for before, after in map(_mean, _clusters(probes, value))]


def compare(probes: Iterable[Probe], value: Value) -> Comparison | None:
    """The comparison of all probes that say something about it; None if none does."""
    clusters = _clusters(probes, value)
    if not clusters:
        return None
    means = list(map(_mean, clusters))
    low, high = interval([after - before for before, after in means])
    before, after = (fmean(side) for side in zip(*means, strict=True))
    return Comparison(sum(map(len, clusters)), len(clusters), before, after, low, high)


def _clusters(probes: Iterable[Probe], value: Value) -> list[list[Pair]]:
    clusters: dict[str, list[Pair]] = {}
    for probe in probes:
        pair = value(probe)
        if pair is not None:
            clusters.setdefault(probe.cluster, []).append(pair)
    return list(clusters.values())


def _mean(cluster: Sequence[Pair]) -> Pair:
    return fmean(before for before, _ in cluster), fmean(after for _, after in cluster)
