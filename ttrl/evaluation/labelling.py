"""What an operator is asked to judge: what two versions say to one question, side by side.

Questions drawn at random stand for the traffic, so they are drawn before anybody looks at what the
versions say to them. What is known of one afterwards is its `Label`: right answers, or, from an
operator who types none, wrong ones alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttrl.evaluation.probes import Label, ProbeOrigin
from ttrl.questions.question import Question
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
    """A version's majority answer, or where there is none one of its answers, and a whole text that
    comes to it; both are empty where nothing could be read."""

    text: str
    label: str


@dataclass(frozen=True)
class Pair:
    """What two versions say to one question, and why it is to be judged. `round` is how often the
    question was asked about before: from 1 on it is about one answer, the same on both sides."""

    question_id: int
    origin: ProbeOrigin
    live: Side
    candidate: Side
    round: int = 0

    def worth(self, judged: Judged) -> float | None:
        """How much better the candidate's answer is, from -1 to 1; None: nobody knows, or only the
        live version's answer was judged."""
        if judged is Judged.CANNOT_TELL or self.round:
            return None
        if self.live.label == self.candidate.label:
            return 0.0
        return {Judged.CANDIDATE: 1.0, Judged.LIVE: -1.0}.get(judged, 0.0)

    def label(
        self,
        question: Question,
        judged: Judged,
        typed: str = "",
        *,
        right: Sequence[str] = (),
        wrong: Sequence[str] = (),
    ) -> Label | None:
        """What is known of the question by a judgement. `typed` is a right answer that neither side
        gave, `right` and `wrong` are what other judgements said, as far as this one says nothing
        else. None: nothing worth keeping.

        Of a question drawn at random, not knowing is kept too: were it left out, those that are
        hard to judge would be missing from the estimate.
        """
        says: tuple[str, ...] = {
            Judged.LIVE: (self.live.label,),
            Judged.CANDIDATE: (self.candidate.label,),
            Judged.BOTH: (self.live.label, self.candidate.label),
            Judged.NEITHER: (typed,),
        }.get(judged, ())
        shown = () if judged is Judged.CANNOT_TELL else (self.live.label, self.candidate.label)
        others = (answer for answer in right if answer not in shown)
        accepted = tuple(dict.fromkeys(answer for answer in (*says, *others) if answer))
        rejected = tuple(
            answer
            for answer in dict.fromkeys((*wrong, *shown))
            if answer and answer not in accepted
        )
        if not accepted and not rejected and self.origin is not ProbeOrigin.RANDOM:
            return None
        return Label(question, accepted, None, (), rejected=rejected)


@dataclass(frozen=True)
class Undecided:
    """An answer to a question of which only wrong answers are known, and it is none of them."""

    question_id: int
    round: int
    side: Side


def draw(question_ids: Collection[int], count: int, *, seed: int) -> frozenset[int]:
    """`count` of these questions at random, or all if there are fewer."""
    return frozenset(
        random.Random(seed).sample(sorted(question_ids), max(0, min(count, len(question_ids))))
    )


def to_judge(told: Sequence[Told], at_random: Collection[int], *, seed: int) -> list[Pair]:
    """The questions that were drawn `at_random`, whatever is said to them, and all others to which
    both versions have a majority answer and it is not the same.

    Where either has no majority, an answer of each is drawn: to hold a majority, which is right
    more often than one answer, against one answer would favour whichever version is surer.
    """
    pairs = []
    for each in told:
        drawn = each.question_id in at_random
        live = _majority(each.live, each.live_answers)
        candidate = _majority(each.candidate, each.candidate_answers)
        if live is None or candidate is None:
            if not drawn:
                continue
            rng = random.Random(f"{seed} {each.question_id}")
            live = _one(rng, each.live, each.live_answers)
            candidate = _one(rng, each.candidate, each.candidate_answers)
        if drawn:
            pairs.append(Pair(each.question_id, ProbeOrigin.RANDOM, live, candidate))
        elif live.label != candidate.label:
            pairs.append(Pair(each.question_id, ProbeOrigin.DISAGREEMENT, live, candidate))
    return pairs


def to_judge_again(undecided: Sequence[Undecided], count: int, *, seed: int) -> list[Pair]:
    """At most `count` pairs, each about one answer that is drawn from all of the undecided ones, of
    as many questions: what part of them is right says what part of the others is."""
    pairs: dict[int, Pair] = {}
    for each in random.Random(seed).sample(undecided, len(undecided)):
        if len(pairs) >= count:
            break
        pair = Pair(each.question_id, ProbeOrigin.RANDOM, each.side, each.side, each.round)
        pairs.setdefault(each.question_id, pair)
    return list(pairs.values())


def _majority(texts: Sequence[str], answers: Sequence[str | None]) -> Side | None:
    label = take_vote(answers).label
    return None if label is None else Side(texts[answers.index(label)], label)


def _one(rng: random.Random, texts: Sequence[str], answers: Sequence[str | None]) -> Side:
    """Any of those that can be read."""
    read = [Side(text, answer) for text, answer in zip(texts, answers, strict=True) if answer]
    return rng.choice(read) if read else Side("", "")
