"""When the live version is worse than the one before it, or only differs: paired differences in, an
alarm out.

An e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential
change detection", arXiv 2203.03532): on each pair of answers a gambler bets that the live version
is worse by more than is tolerated. While it is not, he is expected to take at least `threshold`
pairs until he first has that much, however the pairs depend on each other. He starts again with 1
whenever he has less (CUSUM), so that good times before a change do not hide it. Adding 1 each time
(Shiryaev-Roberts) would be a little quicker, but reaches any sum in time even if no two answers
ever differ. His stakes are spread over a grid.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations, product
from statistics import fmean

from ttrl.votes import take_vote
from ttrl.words import counted

STAKES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 9 / 10)
MINUTES_A_YEAR = 365.25 * 24 * 60
FACTOR = 16
"""Answers so many times as long, or more, differ by 1 in length."""


class Stream(StrEnum):
    """A difference between the live version and the other one on the same question, from -1 to 1;
    above 0 the live version is worse. A mean up to `tolerated` is no evidence. A stream that is no
    `harm` by itself never rolls back: better answers differ, in length as well, as much as worse
    ones. Labels can tell."""

    AGREEMENT = "agreement", 0.02, "it agrees with itself less"
    """The share of the most common answer: the other's less the live version's."""
    UNREADABLE = "unreadable", 0.05, "more of its answers are unreadable"
    """The share of unreadable or cut-off answers: the live version's less the other's."""
    LONGER = "longer", 0.75, "its answers are longer", False
    """The logarithm of the ratio of the mean lengths, to the base FACTOR."""
    SHORTER = "shorter", 0.50, "its answers are shorter", False
    """The same, the other way round."""
    REPETITION = "repetition", 0.05, "it gives different questions the same answer"
    """How often it gives two different questions one answer that the other version gives to
    neither, less how often the other does the same. Classes that come up again and again are in
    both versions' answers, and count for nothing."""
    CONSTANT = "constant", 0.80, "it gives nearly every question the same answer"
    """How often a readable answer is one that the live version gave to the question before, less a
    quarter of how often the other version's is: 3/4 at most where both are alike. Of two possible
    answers, one for everything shows only here."""
    DEPARTURE = "departure", 0.10, "its answers differ", False
    """How often two answers of the other version are the same, less how often one of each is."""
    ERRORS = "errors", 0.01, "the engine fails on it"
    """1 when the engine fails for the live version only, -1 when it does for the other only."""

    tolerated: float
    complaint: str
    harm: bool

    def __new__(cls, name: str, tolerated: float, complaint: str, harm: bool = True) -> Stream:
        stream = str.__new__(cls, name)
        stream._value_ = name
        stream.tolerated, stream.complaint, stream.harm = tolerated, complaint, harm
        return stream


@dataclass(frozen=True)
class Track:
    """One stream so far: the money on each stake, and the pairs, with the sum of their differences,
    since its mean was last 1 at most."""

    money: tuple[float, ...] = (1.0,) * len(STAKES)
    pairs: int = 0
    total: float = 0.0

    @property
    def evidence(self) -> float:
        return fmean(self.money)

    @property
    def mean(self) -> float:
        """The mean difference since the change, if there was one."""
        return self.total / self.pairs if self.pairs else 0.0

    def after(self, difference: float, tolerated: float) -> Track:
        won = odds_of(difference, tolerated)
        money = tuple(
            max(1.0, each) * (1 + stake * won)
            for stake, each in zip(STAKES, self.money, strict=True)
        )
        if fmean(money) <= 1:
            return Track(money)
        return Track(money, self.pairs + 1, self.total + difference)


@dataclass(frozen=True)
class Alarm:
    """The live version is worse in this, or differs: by `mean` in the last `pairs` of `of`."""

    stream: Stream
    mean: float
    pairs: int
    of: int

    def words(self, other: str) -> str:
        factors = self.stream in (Stream.LONGER, Stream.SHORTER)
        much = f"{FACTOR**self.mean:.1f} times" if factors else f"{self.mean:.0%}"
        return (
            f"{self.stream.complaint}: {much} on average in the last {self.pairs} of "
            f"{counted(self.of, 'pair')} with {other}"
        )


@dataclass(frozen=True)
class Detector:
    """All streams of one pair of versions so far."""

    threshold: float
    pairs: int = 0
    tracks: Mapping[Stream, Track] = field(default_factory=lambda: dict.fromkeys(Stream, Track()))

    def after(self, differences: Mapping[Stream, float]) -> Detector:
        moved = {
            stream: self.tracks[stream].after(difference, stream.tolerated)
            for stream, difference in differences.items()
        }
        return Detector(self.threshold, self.pairs + 1, {**self.tracks, **moved})

    def nearness(self, stream: Stream) -> float:
        """How near to an alarm, from 0 to 1, on a logarithmic scale."""
        evidence = max(1.0, self.tracks[stream].evidence)
        return math.log(evidence) / math.log(self.threshold)

    @property
    def nearest(self) -> Stream:
        return max((each for each in Stream if each.harm), key=self.nearness)

    @property
    def alarm(self) -> Alarm | None:
        """What to roll back for, if anything."""
        return self._alarm(self.nearest)

    @property
    def alerts(self) -> list[Alarm]:
        """Differences, no harm by themselves, for which labels should be asked for."""
        found = (self._alarm(stream) for stream in Stream if not stream.harm)
        return [alarm for alarm in found if alarm is not None]

    def _alarm(self, stream: Stream) -> Alarm | None:
        track = self.tracks[stream]
        if track.evidence < self.threshold:
            return None
        return Alarm(stream, track.mean, track.pairs, self.pairs)


def threshold(pairs_a_minute: float, alarms_a_year: float) -> float:
    """Return what a stream must reach so that all streams are expected to raise at most so many
    false alarms a year, even if every minute has all its pairs."""
    return max(math.e, pairs_a_minute * MINUTES_A_YEAR * len(Stream) / alarms_a_year)


def odds_of(difference: float, tolerated: float) -> float:
    """Return what is won per stake: -1 at least, 0 on average at the tolerated difference."""
    return (difference - tolerated) / (1 + tolerated)


Answers = Sequence[str | None]
"""Canonical answers; None is unreadable and like no other."""


@dataclass(frozen=True)
class Side:
    """One version's answers to a question, at least two, and their mean length in tokens."""

    answers: Answers
    tokens: float


def differences(
    live: Side, other: Side, before: tuple[Side, Side] | None = None
) -> dict[Stream, float]:
    """Return what this pair says to each stream; `before` are both sides of the last question that
    was another one."""
    longer = max(-1.0, min(1.0, math.log((1 + live.tokens) / (1 + other.tokens), FACTOR)))
    found = {
        **failures(live=False, other=False),
        Stream.AGREEMENT: take_vote(other.answers).share - take_vote(live.answers).share,
        Stream.UNREADABLE: _unreadable(live.answers) - _unreadable(other.answers),
        Stream.LONGER: longer,
        Stream.SHORTER: -longer,
        Stream.DEPARTURE: _alike(combinations(other.answers, 2))
        - _alike(product(live.answers, other.answers)),
    }
    if before is not None:
        said, known = (side.answers for side in before)
        found[Stream.REPETITION] = _alike(
            product(live.answers, said), {*other.answers, *known}
        ) - _alike(product(other.answers, known), {*live.answers, *said})
        readable, by_live, by_other = (
            [answer for answer in answers if answer is not None]
            for answers in (said, live.answers, other.answers)
        )
        if readable and by_live and by_other:
            same, usual = (_alike(product(each, readable)) for each in (by_live, by_other))
            found[Stream.CONSTANT] = same - usual / 4
    return found


def failures(*, live: bool, other: bool) -> dict[Stream, float]:
    """Return what a pair says whose answers the engine failed to give."""
    return {Stream.ERRORS: float(live) - float(other)}


def _unreadable(answers: Answers) -> float:
    return fmean(answer is None for answer in answers)


def _alike(
    pairs: Iterable[tuple[str | None, str | None]], known: Collection[str | None] = ()
) -> float:
    """Return the share of pairs of the same readable answer that is none of the `known`."""
    return fmean(one is not None and one == other and one not in known for one, other in pairs)
