"""Labelled probes, on which nothing trains, and the pairs of answers that an operator judges to
label them.

Random questions stand for the traffic: they are drawn before anybody sees the answers to them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ttrl.answers import AnswerKind, Reader
from ttrl.answers.thoughts import Stance, stance
from ttrl.evaluation.evidence import Answered
from ttrl.questions.near_duplicates import COMMON, LEAST_COMMON, Known
from ttrl.questions.question import Question


class ProbeOrigin(StrEnum):
    OPERATOR = "operator"
    """The operator wrote it."""
    DISAGREEMENT = "disagreement"
    """From the traffic: two versions answered it differently, and the operator judged them."""
    RANDOM = "random"
    """From the traffic, drawn at random, and judged by the operator."""
    FEEDBACK = "feedback"
    """From the traffic: its users corrected the answer, and agree."""


@dataclass(frozen=True)
class Label:
    """What is known of a question: one of the `accepted` answers is right, and with `refuse` True
    to decline is, with False not to; `rejected` ones are wrong."""

    question: Question
    accepted: tuple[str, ...]
    refuse: bool | None
    tags: tuple[str, ...]
    rejected: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def decides(self) -> bool:
        """Whether it says of every answer whether it is right."""
        return bool(self.accepted) or self.refuse is not None

    def right(self, text: str, reader: Reader, kind: AnswerKind) -> bool:
        """Whether an answer is right, by a label that `decides`. A free text that resembles a
        right answer and a wrong one is what it resembles more."""
        if self.refuse is not None and (stance(text) is Stance.DECLINES) != self.refuse:
            return False
        if not self.accepted:
            return stance(text) is not Stance.SILENT
        close = reader.close(text, self.accepted, self.question.text, kind)
        if kind is AnswerKind.FREE and close > 0:
            return close >= reader.close(text, self.rejected, self.question.text, kind)
        return close > 0

    def rejects(self, text: str, reader: Reader, kind: AnswerKind) -> bool:
        return bool(self.rejected) and reader.matches(text, self.rejected, self.question.text, kind)


@dataclass(frozen=True)
class LabelledProbe(Label):
    """A label with its row's facts; `exposures` is how many gates have seen it, `added` in Unix
    seconds."""

    id: int
    cluster: str
    origin: ProbeOrigin
    added: float
    exposures: int


class Apart:
    """Questions that training keeps away from, with their near-duplicates and the conversations in
    which one was asked. What all of the `traffic` has in common, such as a template or worked
    examples that an application sends as turns, makes no question like another. Of further
    questions only the `clusters` are known."""

    def __init__(
        self,
        questions: Iterable[Question],
        traffic: Iterable[Question] = (),
        clusters: Iterable[str] = (),
    ) -> None:
        traffic = list(traffic)
        self._clusters = set(clusters)
        self._known = Known(map(self._note, questions), (each.asks for each in traffic))
        # Users seldom get the same answer to the same words; an application sends both each time.
        examples = Counter(example for question in traffic for example in set(question.exchanges))
        least = max(LEAST_COMMON, COMMON * len(traffic))
        self._examples = {turn for (turn, _), count in examples.items() if count >= least}

    def _note(self, question: Question) -> str:
        """Keep no more of it, so that of all held-out questions few are in memory at a time."""
        self._clusters.add(question.cluster)
        return question.asks

    def like(self, question: Question) -> bool:
        asked, *before = question.said
        turns = (asked, *(turn for turn in before if turn not in self._examples))
        return question.cluster in self._clusters or any(map(self._known.like, turns))


class Judged(StrEnum):
    """Which side answers rightly."""

    LIVE = "live"
    CANDIDATE = "candidate"
    BOTH = "both"
    NEITHER = "neither"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class Side:
    """A version's majority answer, or one of its answers if there is none, and a whole text that
    comes to it; both are empty if nothing could be read."""

    text: str
    label: str


@dataclass(frozen=True)
class Pair:
    """Two versions' answers to one question, and why they are to be judged. `round` is how often
    the question was asked about before: from 1 on both sides are the same answer."""

    question_id: int
    origin: ProbeOrigin
    live: Side
    candidate: Side
    round: int = 0

    def worth(self, judged: Judged) -> float | None:
        """How much better the candidate's answer is, from -1 to 1; None if that is not known."""
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
        """Return what a judgement says of the question. `typed` is a right answer that neither side
        gave; `right` and `wrong` are from earlier judgements, which this one may overrule. None if
        nothing is known; of a random question that is a label as well, or those that are hard to
        judge would be missing from the estimate."""
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


def draw(question_ids: Collection[int], count: int, *, seed: int) -> frozenset[int]:
    return frozenset(
        random.Random(seed).sample(sorted(question_ids), max(0, min(count, len(question_ids))))
    )


def to_judge(
    answered: Iterable[tuple[int, Answered, Answered]], at_random: Collection[int], *, seed: int
) -> list[Pair]:
    """Return pairs of the held-out questions, given by their ids with the answers of live version
    and candidate, that were drawn `at_random` or got different majority answers.

    A question without two majorities gets one answer of each version: a majority, which is right
    more often than one answer, would favour the version that has it.
    """
    pairs = []
    for question_id, *both in answered:
        drawn = question_id in at_random
        sides = []
        rng = random.Random(f"{seed} {question_id}")
        majorities = all(each.vote.label is not None for each in both)
        for each in both:
            said = zip(each.texts, each.answers, strict=True)
            readable = [Side(text, answer) for text, answer in said if answer]
            if majorities:
                sides.append(next(side for side in readable if side.label == each.vote.label))
            else:
                sides.append(rng.choice(readable) if readable else Side("", ""))
        live, candidate = sides
        if not majorities and not drawn:
            continue
        if drawn:
            pairs.append(Pair(question_id, ProbeOrigin.RANDOM, live, candidate))
        elif live.label != candidate.label:
            pairs.append(Pair(question_id, ProbeOrigin.DISAGREEMENT, live, candidate))
    return pairs


def to_judge_again(undecided: Sequence[Pair], count: int, *, seed: int) -> list[Pair]:
    """Return at most `count` of the pairs, one of a question: each is about one answer of which
    nobody knows whether it is right, and the share that is stands for all of them."""
    drawn: dict[int, Pair] = {}
    for pair in random.Random(seed).sample(undecided, len(undecided)):
        drawn.setdefault(pair.question_id, pair)
    return list(drawn.values())[: max(0, count)]
