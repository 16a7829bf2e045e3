"""From texts to canonical answers: mathematics, choices, short and free text. Never evaluates text:
what needs a mathematics library is compared in a child process, which no question can hang."""

from __future__ import annotations

import atexit
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ttrl import meaning
from ttrl.answers.extract import (
    FEW_WORDS,
    MAX_ANSWER_CHARS,
    Said,
    asks_for_order,
    asks_for_value,
    asks_how_many,
    count_words,
    decimal_comma,
    letters,
    lone_letters,
    mentioned,
    name,
    options,
    said,
    says_yes_or_no,
    tokens_of,
    trim,
    value,
    yes_or_no,
)
from ttrl.answers.forms import (
    Expression,
    Group,
    Leaf,
    Named,
    Word,
    form,
    leaves,
    words,
    write,
)
from ttrl.answers.markup import clean
from ttrl.answers.phrases import Phrases, phrases
from ttrl.answers.quantities import Number
from ttrl.answers.thoughts import without_thoughts
from ttrl.answers.units import PERCENT, measure
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


def kind_of(question: str, texts: Sequence[str] = ()) -> AnswerKind:
    """The kind of a question, from its text and, if given, samples of its answers.

    Choice: the question lists options from A on, such as "(A) ... (B) ..." or lines "A. ...", and
    at least half of the answers name a letter. Mathematics: the question holds LaTeX, a sum in
    digits or words that ask for a value, and not most answers are sentences without one; or most
    of the answers that are short are values. Of the others those are free whose answers are
    sentences, hardly any of them short; all else is text.
    """
    return _kind_of(question, [found for text in texts if (found := said(text))])


def _kind_of(question: str, answers: Sequence[Said]) -> AnswerKind:
    if listed := options(question):
        chosen = [letters(answer, listed) is not None for answer in answers]
        if not chosen or sum(chosen) * 2 >= len(chosen):
            return AnswerKind.CHOICE
    comma = decimal_comma(question, answers)
    if says_yes_or_no(answers):
        return AnswerKind.TEXT
    short = [each.short for each in answers if each.short is not None and each.is_name]
    values = sum(_is_value(trim(text, phrases()), comma) for text in short)
    if short and len(short) >= len(answers) * SHORT and values * 2 > len(short):
        return AnswerKind.MATH
    if asks_for_value(question):
        readable = [value(answer, question, comma=comma) is not None for answer in answers]
        if sum(readable) * 2 >= len(readable) or "\\" in question or "$" in question:
            return AnswerKind.MATH
    if asks_how_many(question):
        readable = [value(answer, question, comma=comma) is not None for answer in answers]
        if sum(readable) * 2 > len(readable):
            return AnswerKind.MATH
    if short and len(short) >= len(answers) * SHORT:
        return AnswerKind.TEXT
    long = [count_words(answer.text) > FEW_WORDS for answer in answers]
    return AnswerKind.FREE if sum(long) * 2 > len(long) else AnswerKind.TEXT


SHORT = 0.25
"""Share of the answers that must be short where a question is to be one for short answers."""


def _is_value(text: str, comma: bool) -> bool:
    meaning = form(text, comma=comma)
    match meaning:
        case Number():
            return True
        case Word(text=said):
            return said[:1].isdigit() or said.startswith("--")
        case Group(items=items):
            return any(isinstance(item, Number | Expression) for item in items)
        case Named() | Expression():
            return True
        case _:
            return False


def read(text: str, kind: AnswerKind, question: str = "") -> str | None:
    """The final answer in `text`, as it is written there; None where nothing can be read."""
    found = said(text)
    return None if found is None else _read(found, kind, question, comma=False)


def _read(found: Said, kind: AnswerKind, question: str, *, comma: bool) -> str | None:
    match kind:
        case AnswerKind.CHOICE:
            return letters(found, options(question))
        case AnswerKind.MATH:
            return value(found, question, comma=comma)
        case AnswerKind.TEXT:
            return name(found, question)
        case _:
            return found.text


def canonical(texts: Sequence[str], kind: AnswerKind, question: str = "") -> list[str | None]:
    """Return for each sample of one question its final answer in canonical form: equal strings for
    equivalent answers, None where nothing can be read. Free texts are left to `Reader`.

    Units count only where the samples differ in them ("5 km", "5 cm"; "5" and "5 cm" are one).
    "50%" is 50 where the other samples say 50 and not 1/2, else it is 1/2. An assignment is its
    value, "x = 5" is "5"; a bare list has no order, "1, 2" is "2, 1". What cannot be compared
    within `QUESTION_SECONDS` is different.
    """
    return _canonical([said(text) for text in texts], kind, question)


def _canonical(found: Sequence[Said | None], kind: AnswerKind, question: str) -> list[str | None]:
    if kind is AnswerKind.TEXT:
        return _names(found, question)
    comma = decimal_comma(question, [each for each in found if each])
    answers = [each and _read(each, kind, question, comma=comma) for each in found]
    return keys(answers, kind, comma=comma, ordered=asks_for_order(question))


def _names(found: Sequence[Said | None], question: str) -> list[str | None]:
    """The names that samples say. A sentence says that one of the bare answers of other samples
    which alone it mentions; one that mentions none, or several, stands for itself."""
    if says_yes_or_no([each for each in found if each]):
        return [each and yes_or_no(each, question) for each in found]
    own = [each and name(each, question) for each in found]
    asked = set(tokens_of(question))
    bare = [
        key
        for each, key in zip(found, own, strict=True)
        if each and key and each.is_name and each.says_nothing_of(asked)
    ]
    known = {tuple(tokens_of(key)): key for key in bare}
    answers = [
        key if each is None or key is None or key in bare else mentioned(each, known, asked) or key
        for each, key in zip(found, own, strict=True)
    ]
    return keys(answers, AnswerKind.TEXT)


def same(left: str, right: str, kind: AnswerKind) -> bool:
    one, other = keys([left, right], kind)
    return one is not None and one == other


def matches(text: str, accepted: Sequence[str], kind: AnswerKind, question: str = "") -> bool:
    found = said(text)
    if found is None:
        return False
    comma = decimal_comma(question, [found])
    answer = _read(found, kind, question, comma=comma)
    if answer is None:
        return False
    pairs = (keys([answer, right], kind, comma=comma) for right in accepted)
    return any(one is not None and one == other for one, other in pairs)


def keys(
    answers: Sequence[str | None],
    kind: AnswerKind,
    *,
    comma: bool = False,
    ordered: bool = False,
) -> list[str | None]:
    distinct = {answer for answer in answers if answer and len(answer) <= MAX_ANSWER_CHARS}
    if kind is AnswerKind.CHOICE:
        known: Mapping[str, str | None] = {
            answer: answer if re.fullmatch("[1-9](, [1-9])*", answer) else lone_letters(answer)
            for answer in distinct
        }
    elif kind is AnswerKind.TEXT:
        known = {answer: _text_key(answer) for answer in distinct}
    else:
        known = _math_keys(distinct, comma, ordered)
    return [known.get(answer) if answer else None for answer in answers]


def _text_key(answer: str) -> str | None:
    """A plain number by its value, a day or a time as ISO 8601 writes it, all else word by word."""
    meaning = form(answer)
    if isinstance(meaning, Number) and not meaning.said:
        return str(meaning.value)
    if isinstance(meaning, Word) and any(map(str.isdigit, meaning.text)):
        return meaning.text
    if "\\" in answer:
        return clean(answer)
    return words(answer) or None


def _math_keys(answers: Iterable[str], comma: bool, ordered: bool) -> dict[str, str | None]:
    meanings = {answer: form(answer, comma=comma) for answer in answers}
    variables = {part.name for part in meanings.values() if isinstance(part, Named)}
    if len(variables) == 1:  # "x > 3" is (3, oo) where nobody speaks of another variable
        meanings = {
            a: part.value if isinstance(part, Named) else part for a, part in meanings.items()
        }
    found = {leaf for meaning in meanings.values() if meaning for leaf in leaves(meaning)}
    context = _Context(found)
    settled = {leaf: context.settled(leaf) for leaf in found}
    names_of_settled = _cluster(set(settled.values()), _said_units(settled))
    names = {leaf: names_of_settled[meant] for leaf, meant in settled.items()}
    known = {
        answer: (write(meaning, names, ordered=ordered) or None) if meaning else None
        for answer, meaning in meanings.items()
    }
    lists = set(known.values())
    for answer, meant in meanings.items():  # "2 x 2 x 3", where others list 2, 2, 3
        if isinstance(meant, Expression) and (factors := _factors(meant, names)) in lists:
            known[answer] = factors
    return known


def _said_units(settled: Mapping[Leaf, Leaf]) -> dict[Leaf, str]:
    """The names of quantities, each in the shortest unit that it was written in."""
    names: dict[Leaf, str] = {}
    for leaf, meant in sorted(settled.items(), key=lambda pair: _length_then_text(pair[0])):
        if isinstance(leaf, Number) and isinstance(meant, Number) and meant.unit == leaf.unit:
            known = measure(leaf.said) if leaf.unit else None
            if known and known.size != 1:
                value = leaf.value / known.size
                names.setdefault(meant, f"{value} \\text{{{leaf.said.removesuffix('.')}}}")
    return names


def _length_then_text(leaf: Leaf) -> tuple[int, str]:
    said = leaf.said if isinstance(leaf, Number) else ""
    return len(said), said


def _factors(product: Expression, names: Mapping[Leaf, str]) -> str | None:
    """A product of numbers, as the list of its factors: "2 x 3^2" is 2, 3, 3."""
    factors: list[Number] = []
    for part in re.split(r"\\cdot|\\times|\*", product.latex):
        power = re.fullmatch(r"\s*(\d{1,9})(?:\^\{?(\d)\}?)?\s*", part)
        if power is None:
            return None
        factors += [Number(Fraction(power[1]))] * int(power[2] or 1)
    if len(factors) < 2:
        return None
    group = Group(r"\{", r"\}", tuple(factors), ordered=False)
    return write(group, {leaf: _own_name(leaf) for leaf in factors} | dict(names))


class _Context:
    """What the leaves of one question's answers are, together: it says what one means that leaves
    something open."""

    def __init__(self, found: Iterable[Leaf]) -> None:
        self.numbers = {(leaf.value, leaf.unit) for leaf in found if isinstance(leaf, Number)}
        self.words = {leaf.text for leaf in found if isinstance(leaf, Word) and not leaf.other}
        units = {leaf.unit for leaf in found if not isinstance(leaf, Word)}
        self.units = units - {"", PERCENT}
        self.measures = {
            known
            for leaf in found
            if isinstance(leaf, Number)
            and leaf.unit not in ("", PERCENT)
            and (known := measure(leaf.said))
        }

    def settled(self, leaf: Leaf) -> Leaf:
        match leaf:
            case Word(seconds=seconds) if seconds and "second" in self.units:
                return Number(Fraction(seconds), "second")
            case Word(other=other) if other in self.words and leaf.text not in self.words:
                return Word(other)
            case Word(text=text):
                return Word(text)
            case Number(value=number, unit="%"):
                plain = {value for value, unit in self.numbers if not unit}
                as_said = number in plain and number / 100 not in plain
                return Number(number if as_said else number / 100)
            case Number(unit="GBP", said=name) if name.startswith("pound"):
                if "kilogram" in self.units:
                    return self.settled(Number(leaf.value * measure("lb").size, "kilogram", "lb"))
        match leaf:
            case Number(unit="") if len(self.measures) > 1:
                meant = {
                    (leaf.value * each.size, each.unit)
                    for each in self.measures
                    if (leaf.value * each.size, each.unit) in self.numbers
                }
                return Number(*meant.pop()) if len(meant) == 1 else leaf
            case Number(unit=unit) if unit and len(self.measures) == 1 and len(self.units) == 1:
                return Number(leaf.value / next(iter(self.measures)).size)
            case Expression() if len(self.units) < 2:
                return replace(leaf, unit="")
            case _:
                return leaf


def _cluster(found: set[Leaf], said: Mapping[Leaf, str]) -> dict[Leaf, str]:
    """Names for leaves. Numbers (but for those that have one in `said`) and words name themselves;
    expressions, shortest first, take the
    name of the first leaf of their unit that the judge calls equal."""
    names = {leaf: said.get(leaf) or _own_name(leaf) for leaf in found}
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
    """`kind` None: detected for each question. Free texts are compared by `likeness`; `table` has
    the words by which answers are announced."""

    kind: AnswerKind | None = None
    likeness: Likeness = field(default_factory=Letters)
    table: Phrases = field(default_factory=phrases)

    def read(self, question: str, texts: Sequence[str]) -> Reading:
        """Return what the samples of one question say. Of free texts the canonical one is that of
        its cluster which agrees most with the others, as it was written."""
        found = [said(text, self.table) for text in without_thoughts(texts)]
        kind = self.kind or _kind_of(question, [each for each in found if each])
        if kind is not AnswerKind.FREE:
            return Reading(kind, tuple(_canonical(found, kind, question)))
        own = [
            None if each is None or each.unknown else _own_words(each.text, question)
            for each in found
        ]
        distinct = list(dict.fromkeys(each for each in own if each is not None))
        agree = meaning.agreement(distinct, question, self.likeness)
        numbers = meaning.cluster(agree)
        members = {n: [i for i, m in enumerate(numbers) if m == n] for n in numbers}
        heads = {n: distinct[meaning.central(agree, those)] for n, those in members.items()}
        written = {text: heads[n] for text, n in zip(distinct, numbers, strict=True)}
        return Reading(kind, tuple(None if each is None else written[each] for each in own))

    def close(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> float:
        """How close an answer is to the nearest of those that are right, from 0 to 1."""
        if kind is not AnswerKind.FREE:
            return float(matches(text, accepted, kind, question))
        theirs = max((meaning.copied(each, question) for each in accepted), default=0.0)
        found = said(text, self.table)
        own = found and _own_words(found.text, question, theirs)
        if own is None:
            return 0.0
        return max(meaning.agreement([own, *accepted], question, self.likeness)[0][1:])

    def matches(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> bool:
        return self.close(text, accepted, question, kind) > 0

    def same(self, one: str, other: str, question: str, kind: AnswerKind) -> bool:
        """Whether the canonical answers of two votes on a question are one: of free texts each vote
        has its own wording."""
        if one == other:
            return True
        if kind is not AnswerKind.FREE:
            return same(one, other, kind)
        return self.matches(one, [other], question, kind)


def _own_words(text: str, question: str, theirs: float = 0.0) -> str | None:
    """What is said; nothing by who only says the question again. Where what is right stands in the
    question, as in a passage to be read, an answer may copy as much of it: the share `theirs`."""
    share = meaning.copied(text, question)
    return None if share >= QUESTION_REPEATED and share > theirs else text
