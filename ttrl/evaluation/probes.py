"""Labelled probes: questions of which an operator said what is right. Nothing trains on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ttrl.answers import AnswerKind, Reader
from ttrl.answers.refusal import Stance, stance
from ttrl.questions.near_duplicates import COMMON, LEAST_COMMON, Guarded
from ttrl.questions.question import Question


class ProbeOrigin(StrEnum):
    """Why somebody labelled it."""

    OPERATOR = "operator"
    """The operator wrote it."""
    DISAGREEMENT = "disagreement"
    """From the traffic: two versions answered it differently, and the operator judged them."""
    RANDOM = "random"
    """From the traffic, drawn at random, and judged by the operator."""


@dataclass(frozen=True)
class Label:
    """What is right for a question: one of the `accepted` answers, and with `refuse` True to
    decline, with False not to. Where nobody said any of this, `rejected` answers are known to be
    wrong, and nothing is known of others."""

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
        """Whether an answer is right, by a label that `decides`. A free text that is like a right
        one and like a wrong one is what it is more like."""
        if self.refuse is not None and (stance(text) is Stance.DECLINES) != self.refuse:
            return False
        if not self.accepted:
            return stance(text) is not Stance.SILENT
        close = reader.close(text, self.accepted, self.question.text, kind)
        if kind is AnswerKind.FREE and close > 0:
            return close >= reader.close(text, self.rejected, self.question.text, kind)
        return close > 0

    def rejects(self, text: str, reader: Reader, kind: AnswerKind) -> bool:
        """Whether an answer is one of the rejected."""
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
    """Questions that training keeps away from, and from whatever is like them: the same in nearly
    the same words, or a conversation in which one was asked. `traffic` are others by which to know
    what all of them have in common, which makes none like another: a template, or worked examples
    that an application sends as turns."""

    def __init__(self, questions: Iterable[Question], traffic: Iterable[Question] = ()) -> None:
        traffic = list(traffic)
        self._clusters: set[str] = set()
        self._guarded = Guarded(map(self._note, questions), (each.asks for each in traffic))
        # Users seldom get the same answer to the same words; an application sends both each time.
        examples = Counter(example for question in traffic for example in set(question.exchanges))
        least = max(LEAST_COMMON, COMMON * len(traffic))
        self._examples = {turn for (turn, _), count in examples.items() if count >= least}

    def _note(self, question: Question) -> str:
        """Keep no more of it than that: of all held-out questions a part is in memory at a time."""
        self._clusters.add(question.cluster)
        return question.asks

    def like(self, question: Question) -> bool:
        """Whether training keeps away from this one."""
        asked, *before = question.said
        turns = (asked, *(turn for turn in before if turn not in self._examples))
        return question.cluster in self._clusters or any(map(self._guarded.like, turns))
