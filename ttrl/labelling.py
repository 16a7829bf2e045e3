"""What an operator is asked to judge: what two versions say to one question, side by side."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttrl.probes import ProbeOrigin
from ttrl.votes import take_vote


class Judged(StrEnum):
    """Which side answers rightly."""

    LIVE = "live"
    CANDIDATE = "candidate"
    BOTH = "both"
    NEITHER = "neither"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class Told:
    """What both versions said to a held-out question: whole texts, and the canonical answer of
    each, all of them compared with one another."""

    question_id: int
    live: Sequence[str]
    live_answers: Sequence[str | None]
    candidate: Sequence[str]
    candidate_answers: Sequence[str | None]


@dataclass(frozen=True)
class Side:
    """A version's majority answer, and a whole text that comes to it."""

    text: str
    label: str


@dataclass(frozen=True)
class Pair:
    """What two versions say to one question, and why it is to be judged."""

    question_id: int
    origin: ProbeOrigin
    live: Side
    candidate: Side

    def worth(self, judged: Judged) -> float | None:
        """How much better the candidate's majority answer is, from -1 to 1; None: nobody knows."""
        if judged is Judged.CANNOT_TELL:
            return None
        if self.live.label == self.candidate.label:
            return 0.0
        return {Judged.CANDIDATE: 1.0, Judged.LIVE: -1.0}.get(judged, 0.0)

    def accepted(self, judged: Judged, typed: str = "") -> tuple[str, ...]:
        """The right answers, going by a judgement; `typed` is one that neither side gave."""
        of_both = (self.live.label, self.candidate.label)
        right = {
            Judged.LIVE: of_both[:1],
            Judged.CANDIDATE: of_both[1:],
            Judged.BOTH: tuple(dict.fromkeys(of_both)),
            Judged.NEITHER: (typed,) if typed else (),
        }
        return right.get(judged, ())


def to_judge(told: Sequence[Told], *, drawn: int, seed: int) -> list[Pair]:
    """`drawn` questions at random, whether the versions disagree on them or not, and all others on
    which they do. One on which either has no majority has no short answer to judge."""
    sides = {
        each.question_id: (live, candidate)
        for each in told
        if (live := _side(each.live, each.live_answers))
        and (candidate := _side(each.candidate, each.candidate_answers))
    }
    at_random = random.Random(seed).sample(sorted(sides), min(drawn, len(sides)))
    return [
        Pair(key, ProbeOrigin.RANDOM if key in at_random else ProbeOrigin.DISAGREEMENT, *both)
        for key, both in sides.items()
        if key in at_random or both[0].label != both[1].label
    ]


def _side(texts: Sequence[str], answers: Sequence[str | None]) -> Side | None:
    label = take_vote(answers).label
    return None if label is None else Side(texts[answers.index(label)], label)
