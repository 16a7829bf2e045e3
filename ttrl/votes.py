"""What N samples of one question say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttrl.answers.reading import AnswerKind
from ttrl.stopping import Stop


class VoteOutcome(StrEnum):
    """Whether a vote has a label, or why not."""

    LABEL = "label"
    """One answer has more votes than any other, and enough."""
    TIE = "tie"
    """Two or more answers have the most votes."""
    UNREADABLE = "unreadable"
    """No sample has an answer that can be read."""
    BELOW_FLOOR = "below_floor"
    """The answer with the most votes has too small a share of all samples."""
    ABOVE_CEILING = "above_ceiling"
    """It has too large a one: there is nothing to teach."""


@dataclass(frozen=True)
class Vote:
    """The canonical answer of each sample (None: unreadable), and what they add up to.

    `counts` is in order of votes, then of text. `share` is the most common answer's part of all
    N samples, unreadable ones included. `entropy` is that of the readable answers, in nats: of free
    texts the discrete semantic entropy (Farquhar et al., Nature 630, 2024). `kind` is how the
    answers were read, `stop` why there were no more samples.
    """

    answers: tuple[str | None, ...]
    counts: tuple[tuple[str, int], ...]
    outcome: VoteOutcome
    label: str | None
    share: float
    entropy: float
    kind: AnswerKind = AnswerKind.TEXT
    stop: Stop = Stop.ALL


def take_vote(
    answers: Sequence[str | None],
    *,
    floor: float = 0.0,
    ceiling: float = 1.0,
    kind: AnswerKind = AnswerKind.TEXT,
    stop: Stop = Stop.ALL,
) -> Vote:
    """The majority over all samples. An unreadable answer is no candidate, a tie no label, and
    neither is an answer whose share is below `floor` or above `ceiling`."""
    counts = _count(answers)
    share = counts[0][1] / len(answers) if counts else 0.0
    outcome = _outcome(counts, share, floor, ceiling)
    label = counts[0][0] if outcome is VoteOutcome.LABEL else None
    entropy = _entropy([count for _, count in counts])
    return Vote(tuple(answers), counts, outcome, label, share, entropy, kind, stop)


def _count(answers: Iterable[str | None]) -> tuple[tuple[str, int], ...]:
    counts = Counter(answer for answer in answers if answer is not None)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _outcome(
    counts: Sequence[tuple[str, int]], share: float, floor: float, ceiling: float
) -> VoteOutcome:
    if not counts:
        return VoteOutcome.UNREADABLE
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return VoteOutcome.TIE
    if share < floor:
        return VoteOutcome.BELOW_FLOOR
    return VoteOutcome.ABOVE_CEILING if share > ceiling else VoteOutcome.LABEL


def _entropy(counts: Sequence[int]) -> float:
    """-sum p ln p, as a sum of p ln(1/p): never -0.0."""
    total = sum(counts)
    return math.fsum(count / total * math.log(total / count) for count in counts)
