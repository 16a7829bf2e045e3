"""What two versions' answers to one question say of the one that is live.

Where both versions answer alike, each difference is 0 on average, whatever users ask: versions are
compared on the same question only, so that other questions than yesterday's are no alarm. Entropy
is left out: of a handful of answers it says what their agreement says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import fmean

from ttrl.detector import FACTOR, Stream
from ttrl.votes import take_vote

Answers = Sequence[str | None]
"""Canonical answers; None is one that cannot be read, which is like no other."""


@dataclass(frozen=True)
class Side:
    """One version's answers to a question, at least two, and their mean length in tokens."""

    answers: Answers
    tokens: float


def differences(live: Side, other: Side, before: Answers = ()) -> dict[Stream, float]:
    """What this pair says to each stream. `before` are the live version's answers to the last
    question that was another one: the same for both sides, so that the past favours neither."""
    longer = math.log((1 + live.tokens) / (1 + other.tokens), FACTOR)
    found = failures(live=False, other=False) | {
        Stream.AGREEMENT: take_vote(other.answers).share - take_vote(live.answers).share,
        Stream.UNREADABLE: _unreadable(live.answers) - _unreadable(other.answers),
        Stream.LONGER: max(-1.0, min(1.0, longer)),
        Stream.SHORTER: max(-1.0, min(1.0, -longer)),
        Stream.DEPARTURE: _alike(combinations(other.answers, 2))
        - _alike(product(live.answers, other.answers)),
    }
    if before:
        own, others = (_alike(product(side.answers, before)) for side in (live, other))
        found[Stream.REPETITION] = own - others
    return found


def failures(*, live: bool, other: bool) -> dict[Stream, float]:
    """What it says that the engine failed for a version: nothing about its answers."""
    return {Stream.ERRORS: float(live) - float(other)}


def _unreadable(answers: Answers) -> float:
    return fmean(answer is None for answer in answers)


def _alike(pairs: Iterable[tuple[str | None, str | None]]) -> float:
    """The share of pairs of the same readable answer."""
    return fmean(one is not None and one == other for one, other in pairs)
