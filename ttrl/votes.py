"""The vote over the samples of a question, and when enough were sampled (Adaptive-Consistency with
its Beta stopping rule, Aggarwal et al., "Let's sample step by step", arXiv 2305.11860)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, zip_longest
from math import comb, ldexp
from statistics import NormalDist, harmonic_mean
from typing import NamedTuple

from ttrl.answers.layers import Layer
from ttrl.config import AnswerKind
from ttrl.config.learning import READABLE

FLIPS = 0.3
"""Share of the votes that may come out differently when taken again (TTRL-Guard, arXiv 2605.19444,
tau_fr)."""
LEAD = NormalDist().cdf(math.sqrt(2) * NormalDist().inv_cdf(1 - FLIPS))
"""How certain the lead of the most common answer must be where no floor is set: 0.77, so that at
most `FLIPS` of such votes would come out differently; the difference of two votes' leads has a
standard deviation sqrt(2) times as large as one's. A share cannot say this: 11 of 64 against 5 are
a majority, 2 of 32 against 1 are chance."""


class Stop(StrEnum):
    """Why no further sample was drawn; stopping early overstates the share."""

    ALL = "all"
    DECIDED = "decided"


def rounds(samples: int, count: int) -> list[int]:
    """Return how many samples each of at most `count` rounds draws; 64 in 4 are 8, 8, 16, 32."""
    reached = sorted({samples >> halved for halved in range(count)} - {0})
    return [after - before for before, after in pairwise([0, *reached])]


def decided(counts: Sequence[int], sure: float) -> bool:
    """Whether the most common answer leads the next with certainty `sure`: P(p > 1/2) with p ~
    Beta(a + 1, b + 1), a and b being their votes, which is P(Binomial(a + b + 1, 1/2) <= a)."""
    first, second = sorted([*counts, 0, 0], reverse=True)[:2]
    tosses = first + second + 1
    return ldexp(sum(comb(tosses, heads) for heads in range(first + 1)), -tosses) >= sure


class VoteOutcome(StrEnum):
    """Whether a vote has a label, or why not."""

    LABEL = "label"
    TIE = "tie"
    UNREADABLE = "unreadable"
    TOO_FEW_READABLE = "too_few_readable"
    BELOW_FLOOR = "below_floor"
    """The majority's share is too small, or its lead may be chance."""
    ABOVE_CEILING = "above_ceiling"
    """Its share is too large: there is nothing to learn."""
    UNRELIABLE = "unreliable"
    """Labels show that majorities of its kind are wrong more often than right."""
    REFUTED = "refuted"
    """A check says of all that can be read that they are wrong."""


@dataclass(frozen=True)
class Vote:
    """The canonical answer of each sample (None: unreadable), and what they add up to.

    `counts` has how many samples give each answer, in order of votes (what checks find wrong has
    none), then of text. `share` is the first one's part of the samples that were not cut off,
    unreadable ones included. `entropy` is that of the readable answers, in nats (of free texts the
    discrete semantic entropy, Farquhar et al., Nature 630, 2024). `kind` is how the answers were
    read, `layers` by what each was or why not, `stop` why there were no more samples.
    """

    answers: tuple[str | None, ...]
    counts: tuple[tuple[str, int], ...]
    outcome: VoteOutcome
    label: str | None
    share: float
    entropy: float
    kind: AnswerKind = AnswerKind.TEXT
    stop: Stop = Stop.ALL
    layers: tuple[Layer, ...] = ()


def entropy(counts: Collection[int]) -> float:
    """Return the entropy of counts, in nats, as a sum of p ln(1/p): never -0.0."""
    total = sum(counts)
    return math.fsum(count / total * math.log(total / count) for count in counts)


class View(NamedTuple):
    """The answers to one wording of a question, by what they were read, and how many votes each
    has (empty: one)."""

    answers: Sequence[str | None]
    layers: Sequence[Layer] = ()
    weights: Sequence[float] = ()

    @property
    def ended(self) -> int:
        """Number of samples that were not cut off."""
        return len(self.answers) - self.layers.count(Layer.CUT_OFF)

    def votes(self, *, right: bool, verified: int) -> dict[str, float]:
        """Return how many votes each answer that votes has, where one that a check found right has
        `verified` times as many; `right`: only those do."""
        votes: dict[str, float] = {}
        each = self.weights or (1,) * len(self.answers)
        read = zip_longest(self.answers, self.layers, fillvalue=None)
        for (answer, layer), weight in zip(read, each, strict=True):
            may = layer is Layer.VERIFIED if right else layer is not Layer.REFUTED
            if answer is not None and may:
                times = verified if layer is Layer.VERIFIED else 1
                votes[answer] = votes.get(answer, 0) + times * weight
        return votes


def take_vote(
    answers: Sequence[str | None],
    *,
    layers: Sequence[Layer] = (),
    weights: Sequence[float] = (),
    views: Sequence[View] = (),
    readable: float = READABLE,
    floor: float | None = 0.0,
    ceiling: float = 1.0,
    verified_weight: int | None = None,
    kind: AnswerKind = AnswerKind.TEXT,
    stop: Stop = Stop.ALL,
) -> Vote:
    """Return the majority over all samples. It is no label if less than `readable` of them can be
    read, in a tie, below `floor` (None: if its lead is less certain than `LEAD`) or above
    `ceiling`. What checks found wrong, by the `layers`, does not vote. Where they found answers
    right, these alone vote, however few they are; or, with a `verified_weight`, as if each were so
    many (T3RL, arXiv 2603.02203). A sample counts for as much as its weight, on average 1. Where
    other `views` vote as well, an answer has as many votes as the harmonic mean of its shares in
    all of them makes of the samples: none, if one of them does not bring it about (Self-Harmony,
    arXiv 2511.01191)."""
    own = View(answers, layers, weights)
    right = Layer.VERIFIED in layers and verified_weight is None
    counts = Counter(answer for answer in answers if answer is not None)
    votes = own.votes(right=right, verified=verified_weight or 1)
    voted = bool(votes)
    if views and not right:
        every = [own, *views]
        given = [view.votes(right=False, verified=verified_weight or 1) for view in every]
        votes = {
            answer: own.ended
            * harmonic_mean(
                [each[answer] / view.ended for each, view in zip(given, every, strict=True)]
            )
            for answer in votes
            if all(answer in each for each in given)
        }
    ranked = sorted(counts, key=lambda answer: (-votes.get(answer, 0), -counts[answer], answer))
    strongest = sorted(filter(None, votes.values()), reverse=True)
    share = counts[ranked[0]] / own.ended if ranked else 0.0
    agreed = strongest[0] / own.ended if views and strongest else share
    # `decided` counts whole votes.
    enough = decided([*map(round, strongest)], LEAD) if floor is None else agreed >= floor
    label = None
    if not voted:
        outcome = VoteOutcome.REFUTED if counts else VoteOutcome.UNREADABLE
    elif counts.total() < len(answers) * readable and not right:
        outcome = VoteOutcome.TOO_FEW_READABLE
    elif strongest[1:] and strongest[0] == strongest[1]:
        outcome = VoteOutcome.TIE
    elif not strongest or (not right and not enough):
        outcome = VoteOutcome.BELOW_FLOOR
    elif share > ceiling:
        outcome = VoteOutcome.ABOVE_CEILING
    else:
        outcome, label = VoteOutcome.LABEL, ranked[0]
    ordered = tuple((answer, counts[answer]) for answer in ranked)
    spread = entropy(counts.values())
    return Vote(tuple(answers), ordered, outcome, label, share, spread, kind, stop, tuple(layers))
