"""Labelled probes: questions of which an operator said what is right. Nothing trains on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ttrl.answers.reader import Reader
from ttrl.answers.reading import AnswerKind
from ttrl.answers.refusal import Stance, stance
from ttrl.likeness import Guarded
from ttrl.questions import Question


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
    decline, with False not to. One of both is said."""

    question: Question
    accepted: tuple[str, ...]
    refuse: bool | None
    tags: tuple[str, ...]

    def right(self, text: str, reader: Reader, kind: AnswerKind) -> bool:
        """Whether an answer is."""
        if self.refuse is not None and (stance(text) is Stance.DECLINES) != self.refuse:
            return False
        if not self.accepted:
            return stance(text) is not Stance.SILENT
        return reader.matches(text, self.accepted, self.question.text, kind)


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
    the same words, or a conversation that began with one."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._clusters: set[str] = set()
        self._guarded = Guarded(map(self._note, questions))

    def _note(self, question: Question) -> str:
        self._clusters.add(question.cluster)
        return question.text

    def like(self, question: Question) -> bool:
        """Whether training keeps away from this one."""
        return question.cluster in self._clusters or self._guarded.like(question.text)
