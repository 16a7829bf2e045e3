"""Several versions' answers to the same probes, compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ttrl.evidence import interval
from ttrl.votes import Vote, take_vote


@dataclass(frozen=True)
class Answered:
    """One version's answers to one probe: canonical, None where unreadable; for a labelled probe
    whether each is right; their mean length in tokens; how long they took together; and the share
    of them that declines."""

    answers: tuple[str | None, ...]
    right: tuple[bool, ...] | None = None
    tokens: float = 0.0
    seconds: float = 0.0
    refused: float = 0.0

    @cached_property
    def vote(self) -> Vote:
        """What they say together."""
        return take_vote(self.answers)

    @property
    def readable(self) -> float:
        """The share of answers that can be read."""
        return fmean(answer is not None for answer in self.answers)

    @property
    def accuracy(self) -> float:
        """The share of right answers; only for labelled probes."""
        return fmean(self.right or ())

    @property
    def reached(self) -> float:
        """Whether any answer is right (pass@k for k answers), as 0 or 1."""
        return float(any(self.right or ()))

    @property
    def majority_right(self) -> bool:
        """Whether the answer that most agree on is right."""
        label = self.vote.label
        given = zip(self.answers, self.right or (), strict=False)
        return label is not None and any(right for answer, right in given if answer == label)


@dataclass(frozen=True)
class Probe:
    """The same question to the base model, the live version twice, and the candidate. What the live
    version says the second time (`again`) shows what asking twice changes. `cluster` is shared by
    near-duplicates."""

    key: str
    cluster: str
    base: Answered
    live: Answered
    again: Answered
    candidate: Answered
    tags: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the right answer is known."""
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
        """How far `after` is above `before`."""
        return self.after - self.before

    def __str__(self) -> str:
        return (
            f"{self.before:.1%} to {self.after:.1%} on {self.probes} probes "
            f"(difference between {self.low:+.1%} and {self.high:+.1%})"
        )


def pairs(probes: Iterable[Probe], value: Value) -> list[list[Pair]]:
    """What the probes say, near-duplicates together: they are one draw from the traffic."""
    clusters: dict[str, list[Pair]] = {}
    for probe in probes:
        pair = value(probe)
        if pair is not None:
            clusters.setdefault(probe.cluster, []).append(pair)
    return list(clusters.values())


def means(clusters: Sequence[Sequence[Pair]]) -> list[Pair]:
    """Each cluster's mean pair."""
    return [(fmean(p[0] for p in each), fmean(p[1] for p in each)) for each in clusters]


def differences(clusters: Sequence[Sequence[Pair]]) -> list[float]:
    """Each cluster's mean difference."""
    return [after - before for before, after in means(clusters)]


def compare(probes: Iterable[Probe], value: Value) -> Comparison | None:
    """The comparison of all probes that say something about it; None if none does."""
    clusters = pairs(probes, value)
    if not clusters:
        return None
    low, high = interval(differences(clusters))
    before, after = (fmean(side) for side in zip(*means(clusters), strict=True))
    return Comparison(sum(map(len, clusters)), len(clusters), before, after, low, high)
