"""From texts to canonical answers: mathematics, choices, short and free text. Never evaluates text:
what needs a mathematics library is compared in a child process, which no question can hang."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ttrl import meaning
from ttrl.answers.choices import letters, options
from ttrl.answers.comparing import keys
from ttrl.answers.extraction import (
    FEW_WORDS,
    MAX_CHARS,
    Extracted,
    boxes,
    count_words,
    extract,
    tokens_of,
    trim,
)
from ttrl.answers.forms import Expression, Group, Named, Word, form, leaves
from ttrl.answers.layers import Layer
from ttrl.answers.names import mentioned, name, one_name, says_yes_or_no, yes_or_no
from ttrl.answers.phrases import Phrases, phrases
from ttrl.answers.quantities import Number
from ttrl.answers.thoughts import spoken, without_thoughts
from ttrl.answers.values import (
    asks_for_order,
    asks_for_value,
    decimal_comma,
    is_words,
    value,
)
from ttrl.config import AnswerKind
from ttrl.meaning import Judge, Letters, Likeness

__all__ = ["AnswerKind", "Reader", "Reading"]

QUESTION_REPEATED = 0.8
"""Share of an answer that stands in the question, from which on it is no answer."""
SHORT = 0.25
"""Share of the answers that must be short where a question is to be one for short answers."""


def _kind_of(question: str, answers: Sequence[Extracted]) -> AnswerKind:
    """The kind of a question, from its text and samples of its answers, if there are any.

    Choice: the question lists options from A on, such as "(A) ... (B) ..." or lines "A. ...", and
    at least half of the answers name a letter. Mathematics: the question holds LaTeX, a sum in
    digits or words that ask for a value, and not most answers are sentences without one; or most
    of the answers that are short are values. Of the others those are free whose answers are
    sentences, hardly any of them short; all else is text.
    """
    if options(question):
        chosen = [letters(answer, question) is not None for answer in answers]
        if not chosen or sum(chosen) * 2 >= len(chosen):
            return AnswerKind.CHOICE
    comma = decimal_comma(question, answers)
    records = sum(answer.is_record for answer in answers)
    if says_yes_or_no(answers) or records * 2 > len(answers):
        return AnswerKind.TEXT
    short = [each.short for each in answers if each.short is not None and each.is_name]
    values = sum(_is_value(trim(text, answers[0].table), comma) for text in short)
    if short and len(short) >= len(answers) * SHORT and values * 2 > len(short):
        return AnswerKind.MATH
    if asks_for_value(question):
        ended = [answer for answer in answers if not answer.unfinished]
        readable = [value(answer, question, comma=comma) is not None for answer in ended]
        if sum(readable) * 2 >= len(readable) or "\\" in question or "$" in question:
            return AnswerKind.MATH
    if short and len(short) >= len(answers) * SHORT:
        return AnswerKind.TEXT
    long = [count_words(answer.text) > FEW_WORDS for answer in answers]
    return AnswerKind.FREE if sum(long) * 2 > len(long) else AnswerKind.TEXT


def _is_value(text: str, comma: bool) -> bool:
    meaning = form(text, comma=comma)
    match meaning:
        case Number():
            return True
        case Word(text=word):
            return word[:1].isdigit() or word.startswith("--")
        case Group():
            return any(isinstance(leaf, Number | Expression) for leaf in leaves(meaning))
        case Expression():
            return not is_words(meaning)
        case Named():
            return True
        case _:
            return False


def _read(found: Extracted, kind: AnswerKind, question: str, *, comma: bool) -> str | None:
    match kind:
        case AnswerKind.CHOICE:
            return letters(found, question)
        case AnswerKind.MATH:
            return value(found, question, comma=comma)
        case AnswerKind.TEXT:
            return name(found, question)
        case _:
            return found.text


def _canonical(
    found: Sequence[Extracted | None], kind: AnswerKind, question: str
) -> list[str | None]:
    if kind is AnswerKind.TEXT:
        return _names(found, question)
    spoken = [each for each in found if each]
    comma = decimal_comma(question, spoken)
    if sum(boxes(each.text) is not None for each in spoken) * 2 > len(spoken):
        # Where a box is the rule, the last number of who has none is no answer.
        found = [each if each and (each.announced or each.is_name) else None for each in found]
    answers = [None if each is None else _read(each, kind, question, comma=comma) for each in found]
    return keys(answers, kind, comma=comma, ordered=asks_for_order(question))


def _names(found: Sequence[Extracted | None], question: str) -> list[str | None]:
    """The names that samples say. A sentence says that one of the bare answers of other samples
    which alone it mentions; one that mentions none, or several, stands for itself."""
    if says_yes_or_no([each for each in found if each]):
        return [None if each is None else yes_or_no(each, question) for each in found]
    own = [None if each is None else name(each, question) for each in found]
    asked = set(tokens_of(question))
    bare = [
        key
        for each, key in zip(found, own, strict=True)
        if each and key and each.is_name and each.says_nothing_of(asked)
    ]
    known: dict[tuple[str, ...], str] = {}
    for key in sorted(set(bare), key=bare.count):
        known[tuple(tokens_of(key))] = key
    alike = {tuple(tokens_of(key)) for key in bare if known[tuple(tokens_of(key))] != key}
    known = {tokens: key for tokens, key in known.items() if tokens not in alike}  # "+5" and "-5"
    answers = [
        key if each is None or key is None or key in bare else mentioned(each, known, asked) or key
        for each, key in zip(found, own, strict=True)
    ]
    return one_name(keys(answers, AnswerKind.TEXT), [each.text for each in found if each])


@dataclass(frozen=True)
class Reading:
    """The canonical answer of each text (equal strings where they mean the same, None where nothing
    can be read), as what they were read, and by which layer each was, or why not."""

    kind: AnswerKind
    answers: tuple[str | None, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Reader:
    """`kind` None: detected for each question. Free texts are compared by `likeness`, or by the
    `judge` if there is one, as then are short texts that are left in several wordings; `table` has
    the words by which answers are announced."""

    kind: AnswerKind | None = None
    likeness: Likeness = field(default_factory=Letters)
    table: Phrases = field(default_factory=phrases)
    judge: Judge | None = None

    def read(self, question: str, texts: Sequence[str]) -> Reading:
        """Return what the samples of one question say. Of free texts the canonical one is that of
        its cluster which agrees most with the others, as it was written.

        Units count only where the samples differ in them ("5 km", "5 cm"; "5" and "5 cm" are one).
        "50%" is 50 where the other samples say 50 and not 1/2, else it is 1/2. An assignment is its
        value, "x = 5" is "5"; a bare list has no order, "1, 2" is "2, 1". What cannot be compared
        within `QUESTION_SECONDS` is different.
        """
        found = self.extract(question, texts)
        answers: Sequence[str | None] = found.answers
        if found.kind is AnswerKind.FREE:
            answers = self._meanings(answers, question)
        elif found.kind is AnswerKind.TEXT and self.judge:
            answers = meaning.merged(answers, question, self.judge)
        return replace(found, answers=tuple(answers))

    def extract(self, question: str, texts: Sequence[str]) -> Reading:
        """As `read`, but for meaning: of free texts the answer is what each says."""
        shown = without_thoughts(texts)
        found = [extract(text, self.table, question) for text in shown]
        kind = self.kind or _kind_of(question, [each for each in found if each])
        if kind is AnswerKind.FREE:
            answers = [
                None if each is None or each.unknown else _own_words(each.text, question)
                for each in found
            ]
        else:
            answers = _canonical(found, kind, question)
        each = zip(texts, shown, found, answers, strict=True)
        layers = tuple(_layer(*one, kind, question) for one in each)
        return Reading(kind, tuple(answers), layers)

    def _meanings(self, own: Sequence[str | None], question: str) -> list[str | None]:
        distinct = list(dict.fromkeys(each for each in own if each is not None))
        agree = meaning.agreement(distinct, question, self.likeness, self.judge)
        numbers = meaning.cluster(agree)
        members = {n: [i for i, m in enumerate(numbers) if m == n] for n in numbers}
        heads = {n: distinct[meaning.central(agree, those)] for n, those in members.items()}
        written = {text: heads[n] for text, n in zip(distinct, numbers, strict=True)}
        return [None if each is None else written[each] for each in own]

    def close(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> float:
        """How close an answer is to the nearest of those that are right, from 0 to 1."""
        found = extract(text, self.table, question)
        if found is None:
            return 0.0
        if kind is not AnswerKind.FREE:
            rights = [Extracted(right, right, None, (), self.table) for right in accepted]
            answer, *known = _canonical([found, *rights], kind, question)
            return float(answer is not None and answer in known)
        theirs = max((meaning.copied(each, question) for each in accepted), default=0.0)
        own = _own_words(found.text, question, theirs)
        if own is None:
            return 0.0
        agree = meaning.agreement([own, *accepted], question, self.likeness, self.judge)
        return max(agree[0][1:])

    def matches(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> bool:
        return self.close(text, accepted, question, kind) > 0


def _layer(
    text: str,
    shown: str,
    found: Extracted | None,
    answer: str | None,
    kind: AnswerKind,
    question: str,
) -> Layer:
    """By which layer a text was read, of which `shown` is left without thoughts, or why not."""
    if found is None:
        if text.strip() and (not shown or spoken(shown) is None):
            return Layer.THOUGHTS_NOT_ENDED
        return Layer.TOO_LONG if len(shown) > MAX_CHARS else Layer.EMPTY
    if answer is None:
        return Layer.DECLINED if found.declines else Layer.NOTHING_FOUND
    if kind is AnswerKind.FREE:
        return Layer.MEANING
    if found.layer is not None:
        return found.layer
    bold_alone = replace(found, text="")
    if found.bold and _read(bold_alone, kind, question, comma=False) is not None:
        return Layer.BOLD
    if found.short == found.text:
        return Layer.WHOLE_TEXT
    if kind is AnswerKind.CHOICE:
        return Layer.LETTER
    yes_no = kind is AnswerKind.TEXT and answer in ("yes", "no")
    return Layer.YES_NO if yes_no else Layer.SENTENCE


def _own_words(text: str, question: str, theirs: float = 0.0) -> str | None:
    """What is said; nothing by who only says the question again. Where what is right stands in the
    question, as in a passage to be read, an answer may copy as much of it: the share `theirs`."""
    share = meaning.copied(text, question)
    return None if share >= QUESTION_REPEATED and share > theirs else text
