"""From texts to canonical answers: mathematics, choices, short and free text. Never evaluates text:
what needs a mathematics library is compared in a child process, which no question can hang."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ttrl import meaning
from ttrl.answers.cleaning import without_thoughts
from ttrl.answers.forms import Expression, Leaf, Number, Word, form, leaves, words, write
from ttrl.answers.quantities import PERCENT, day
from ttrl.answers.reading import MAX_ANSWER_CHARS, kind_of, lone_letter, read
from ttrl.config import AnswerKind
from ttrl.lineworker import LineWorker, WorkerEnded
from ttrl.meaning import Letters, Likeness

__all__ = ["AnswerKind", "Reader", "Reading", "canonical", "kind_of", "matches", "read", "same"]

STEP_SECONDS = 3.0
"""The longest that one comparison may take before its process is ended and replaced."""
QUESTION_SECONDS = 10.0
"""How long the answers of one question may be compared; what is undecided then is different."""
QUESTION_REPEATED = 0.8
"""Share of an answer that stands in the question, from which on it is no answer."""


class Judge:
    """Compares expressions in a child process. Threads wait for one another; one that has several
    things to ask may take its turn for all of them."""

    def __init__(self, seconds: float = STEP_SECONDS) -> None:
        self.turn = threading.RLock()
        self.worker = LineWorker(Path(__file__).with_name("worker.py"), str(seconds))

    def equal(self, left: str, right: str) -> bool | None:
        """Whether two expressions in LaTeX mean the same; None where that took too long."""
        with self.turn:
            try:
                return bool(self.worker.ask([left, right]))
            except WorkerEnded:
                return None

    def close(self) -> None:
        with self.turn:
            self.worker.close()


judge = Judge()
atexit.register(judge.close)


def canonical(texts: Sequence[str], kind: AnswerKind) -> list[str | None]:
    """Return for each sample of one question its final answer in canonical form: equal strings for
    equivalent answers, None where nothing can be read. Free texts are left to `Reader`.

    Units count only where the samples differ in them ("5 km", "5 cm"; "5" and "5 cm" are one).
    "50%" is 50 where the other samples say 50 and not 1/2, else it is 1/2. An assignment is its
    value, "x = 5" is "5"; a bare list is a set, "1, 2" is "2, 1". What cannot be compared within
    `QUESTION_SECONDS` is different.
    """
    return keys([read(text, kind) for text in texts], kind)


def same(left: str, right: str, kind: AnswerKind) -> bool:
    one, other = keys([left, right], kind)
    return one is not None and one == other


def matches(text: str, accepted: Sequence[str], kind: AnswerKind) -> bool:
    found = read(text, kind)
    return found is not None and any(same(found, answer, kind) for answer in accepted)


def keys(answers: Sequence[str | None], kind: AnswerKind) -> list[str | None]:
    distinct = {answer for answer in answers if answer and len(answer) <= MAX_ANSWER_CHARS}
    if kind is AnswerKind.CHOICE:
        known: Mapping[str, str | None] = {answer: lone_letter(answer) for answer in distinct}
    elif kind is AnswerKind.TEXT:
        known = {answer: _text_key(answer) for answer in distinct}
    else:
        known = _math_keys(distinct)
    return [known.get(answer) if answer else None for answer in answers]


def _text_key(answer: str) -> str | None:
    """A plain number by its value, a day as ISO 8601 writes it, all else word by word."""
    meaning = form(answer)
    if isinstance(meaning, Number) and not meaning.unit:
        return str(meaning.value)
    return day(answer) or words(answer) or None


def _math_keys(answers: Iterable[str]) -> dict[str, str | None]:
    meanings = {answer: form(answer) for answer in answers}
    found = {leaf for meaning in meanings.values() if meaning for leaf in leaves(meaning)}
    values = {leaf.value for leaf in found if isinstance(leaf, Number) and not leaf.unit}
    units = {leaf.unit for leaf in found if not isinstance(leaf, Word)} - {"", PERCENT}
    settled = {leaf: _settled(leaf, values, units) for leaf in found}
    names_of_settled = _cluster(set(settled.values()))
    names = {leaf: names_of_settled[meant] for leaf, meant in settled.items()}
    return {
        answer: (write(meaning, names) or None) if meaning else None
        for answer, meaning in meanings.items()
    }


def _settled(leaf: Leaf, values: set[Fraction], units: set[str]) -> Leaf:
    """A leaf as it is meant among others of these values and units: without its unit where all
    units are one."""
    match leaf:
        case Number(value=value, unit="%"):
            as_said = value in values and value / 100 not in values
            return Number(value if as_said else value / 100)
        case Number() | Expression() if len(units) < 2 and leaf.unit != PERCENT:
            return replace(leaf, unit="")
        case _:
            return leaf


def _cluster(found: set[Leaf]) -> dict[Leaf, str]:
    """Names for leaves. Numbers and words name themselves; expressions, shortest first, take the
    name of the first leaf of their unit that the judge calls equal."""
    names = {leaf: _own_name(leaf) for leaf in found}
    heads: list[Number | Expression] = [leaf for leaf in found if isinstance(leaf, Number)]
    heads.sort(key=_own_name)
    expressions = [leaf for leaf in found if isinstance(leaf, Expression)]
    with judge.turn:  # The time of other questions is not counted as this one's.
        deadline = time.monotonic() + QUESTION_SECONDS
        for expression in sorted(expressions, key=lambda leaf: (len(leaf.latex), _own_name(leaf))):
            head = _head(expression, heads, deadline)
            if head is None:
                heads.append(expression)
            else:
                names[expression] = names[head]
    return names


def _head(
    expression: Expression, heads: Sequence[Number | Expression], deadline: float
) -> Number | Expression | None:
    for head in heads:
        if head.unit != expression.unit:
            continue
        if time.monotonic() > deadline:
            return None
        if isinstance(head, Expression):
            latex = head.latex
        else:
            latex = rf"\frac{{{head.value.numerator}}}{{{head.value.denominator}}}"
        answer = judge.equal(latex, expression.latex)
        if answer is None:  # It overran once and would again.
            return None
        if answer:
            return head
    return None


def _own_name(leaf: Leaf) -> str:
    if isinstance(leaf, Word):
        return leaf.text
    value = leaf.latex if isinstance(leaf, Expression) else str(leaf.value)
    return f"{value} \\text{{{leaf.unit}}}" if leaf.unit else value


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
