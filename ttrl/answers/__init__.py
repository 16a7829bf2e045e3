"""From texts to canonical answers: mathematics, choices, short and free text. Never evaluates
text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ttrl import meaning
from ttrl.answers.cleaning import without_thoughts
from ttrl.answers.equivalence import canonical, matches, same
from ttrl.answers.reading import kind_of, read
from ttrl.config import AnswerKind
from ttrl.meaning import Letters, Likeness

__all__ = ["AnswerKind", "Reader", "Reading", "canonical", "kind_of", "matches", "read", "same"]

QUESTION_REPEATED = 0.8
"""Share of an answer that stands in the question, from which on it is no answer."""


@dataclass(frozen=True)
class Reading:
    """The canonical answer of each text (equal strings where they mean the same, None where nothing
    can be read), and as what they were read."""

    kind: AnswerKind
    answers: tuple[str | None, ...]


@dataclass(frozen=True)
class Reader:
    """`kind` None: detected for each question. Free texts are compared by `likeness`."""

    kind: AnswerKind | None = None
    likeness: Likeness = field(default_factory=Letters)

    def read(self, question: str, texts: Sequence[str]) -> Reading:
        """Return what the samples of one question say. Of free texts the canonical one is that of
        its cluster which agrees most with the others, as it was written."""
        texts = without_thoughts(texts)
        kind = self.kind or kind_of(question, texts)
        if kind is not AnswerKind.FREE:
            return Reading(kind, tuple(canonical(texts, kind)))
        said = [_own_words(text, question) for text in texts]
        distinct = list(dict.fromkeys(each for each in said if each is not None))
        agree = meaning.agreement(distinct, question, self.likeness)
        numbers = meaning.cluster(agree)
        members = {n: [i for i, m in enumerate(numbers) if m == n] for n in numbers}
        heads = {n: distinct[meaning.central(agree, those)] for n, those in members.items()}
        written = {text: heads[n] for text, n in zip(distinct, numbers, strict=True)}
        return Reading(kind, tuple(None if each is None else written[each] for each in said))

    def close(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> float:
        """How close an answer is to the nearest of those that are right, from 0 to 1."""
        if kind is not AnswerKind.FREE:
            return float(matches(text, accepted, kind))
        theirs = max((meaning.copied(each, question) for each in accepted), default=0.0)
        said = _own_words(text, question, theirs)
        if said is None:
            return 0.0
        return max(meaning.agreement([said, *accepted], question, self.likeness)[0][1:])

    def matches(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> bool:
        return self.close(text, accepted, question, kind) > 0

    def same(self, one: str, other: str, question: str, kind: AnswerKind) -> bool:
        """Whether the canonical answers of two votes on a question are one: of free texts each vote
        has its own wording."""
        if one == other or kind is not AnswerKind.FREE:
            return one == other
        return self.matches(one, [other], question, kind)


def _own_words(text: str, question: str, theirs: float = 0.0) -> str | None:
    """What is said; nothing by who only says the question again. Where what is right stands in the
    question, as in a passage to be read, an answer may copy as much of it: the share `theirs`."""
    said = read(text, AnswerKind.FREE)
    if said is None:
        return None
    share = meaning.copied(said, question)
    return None if share >= QUESTION_REPEATED and share > theirs else said
