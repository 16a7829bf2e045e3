"""Which answers to one question are the same. Text is never evaluated: what needs a mathematics
library is compared in a child process, which no question can hang."""

from __future__ import annotations

import atexit
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ttrl.answers.choices import lone_letters
from ttrl.answers.forms import (
    MAX_CHARS,
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
from ttrl.answers.quantities import Number
from ttrl.answers.units import PERCENT, Measure, measure
from ttrl.config import AnswerKind
from ttrl.lineworker import LineWorker, WorkerEnded

STEP_SECONDS = 3.0
"""The longest that one comparison may take before its process is ended and replaced."""
QUESTION_SECONDS = 10.0
"""How long the answers of one question may be compared; what is undecided then is different."""


class Judge:
    def __init__(self, seconds: float = STEP_SECONDS) -> None:
        self.worker = LineWorker(Path(__file__).with_name("worker.py"), str(seconds))

    def equal(self, left: str, right: str) -> bool | None:
        """Whether two expressions in LaTeX mean the same; None where that took too long."""
        try:
            return bool(self.worker.ask([left, right]))
        except WorkerEnded:
            return None

    def close(self) -> None:
        with self.worker.turn:
            self.worker.close()


judge = Judge()
atexit.register(judge.close)


def keys(
    answers: Sequence[str | None],
    kind: AnswerKind,
    *,
    comma: bool = False,
    ordered: bool = False,
) -> list[str | None]:
    distinct = {answer for answer in answers if answer and len(answer) <= MAX_CHARS}
    if kind is AnswerKind.CHOICE:
        known = {answer: lone_letters(answer) for answer in distinct}
    elif kind is AnswerKind.TEXT:
        known = {answer: _text_key(answer) for answer in distinct}
    else:
        known = _math_keys(distinct, comma, ordered)
    return [known.get(answer) if answer else None for answer in answers]


def _text_key(answer: str) -> str | None:
    """A plain number by its value, a day or a time as ISO 8601 writes it, all else word by word."""
    meaning = form(answer)
    if isinstance(meaning, Number) and not meaning.written:
        return str(meaning.value)
    if isinstance(meaning, Word) and any(map(str.isdigit, meaning.text)):
        return meaning.text
    plain = clean(answer) if "\\" in answer else answer
    return plain if "\\" in plain else words(plain) or None


def _math_keys(answers: Iterable[str], comma: bool, ordered: bool) -> dict[str, str | None]:
    answers = list(answers)
    vectors = any(_VECTOR.fullmatch(answer) for answer in answers)
    meanings = {
        answer: form(f"({answer[1:-1]})" if vectors and answer[:1] == "[" else answer, comma=comma)
        for answer in answers
    }
    named = {part for part in meanings.values() if isinstance(part, Named)}
    variables = {part.name for part in named}
    alike = len({part.value for part in named}) < len(named) or any(
        isinstance(part.value, Group) for part in named
    )
    if len(variables) == 1 or not alike:
        # "x > 3" is (3, oo), and "x = 3" is 3, where nobody says the same of another variable.
        meanings = {
            a: part.value if isinstance(part, Named) else part for a, part in meanings.items()
        }
    found = [leaf for meaning in meanings.values() if meaning for leaf in leaves(meaning)]
    context = _Context(found)
    settled = {leaf: context.settled(leaf) for leaf in found}
    names_of_settled = _cluster(set(settled.values()), _written_units(found, settled))
    names = {leaf: names_of_settled[meant] for leaf, meant in settled.items()}
    return {
        answer: (write(meaning, names, ordered=ordered) or None) if meaning else None
        for answer, meaning in meanings.items()
    }


_VECTOR = re.compile(r"\((?:[^(),\[\]]+,){2,}[^(),\[\]]+\)")


def _written_units(found: Sequence[Leaf], settled: Mapping[Leaf, Leaf]) -> dict[Leaf, str]:
    """The names of quantities, each in the shortest unit that it was written in."""
    quantities = [leaf for leaf in found if isinstance(leaf, Number) and leaf.unit]
    names: dict[Leaf, str] = {}
    for leaf in sorted(quantities, key=lambda leaf: (len(leaf.written), leaf.written)):
        meant, known = settled[leaf], measure(leaf.written)
        if not (known and isinstance(meant, Number) and meant.unit == leaf.unit):
            continue
        if known != Measure(known.unit):
            unit = leaf.written.removesuffix(".")
            unit = rf"\text{{{unit}}}" if unit[0].isalpha() else unit
            names.setdefault(meant, f"{known.in_unit(leaf.value)} {unit}")
    return names


_SHORTENED = re.compile(r"(\d+(?:\.\d+)?)([kKmMbB])")
_THOUSANDS = {"k": 10**3, "m": 10**6, "b": 10**9}


class _Context:
    """What the leaves of one question's answers are, together: it says what one means that leaves
    something open."""

    def __init__(self, found: Sequence[Leaf]) -> None:
        self.numbers = {(leaf.value, leaf.unit) for leaf in found if isinstance(leaf, Number)}
        self.words = {leaf.text for leaf in found if isinstance(leaf, Word) and not leaf.other}
        units = {leaf.unit for leaf in found if not isinstance(leaf, Word)}
        self.units = units - {"", PERCENT}
        self.measures = {
            known
            for leaf in found
            if isinstance(leaf, Number)
            and leaf.unit not in ("", PERCENT)
            and (known := measure(leaf.written))
        }

    def settled(self, leaf: Leaf) -> Leaf:
        match leaf:
            case Word(seconds=seconds) if seconds and "second" in self.units:
                return Number(Fraction(seconds), "second")
            case Word(other=other) if other in self.words and leaf.text not in self.words:
                return Word(other)
            case Word(other=other) if other.isdecimal() and (Fraction(other), "") in self.numbers:
                return Number(Fraction(other))
            case Word(text=text):
                return Word(text)
            case Number(value=number, unit="%"):
                plain = {value for value, unit in self.numbers if not unit}
                as_said = number in plain and number / 100 not in plain
                return Number(number if as_said else number / 100)
        if isinstance(leaf, Expression) and (short := _SHORTENED.fullmatch(leaf.latex)):
            many = Fraction(short[1]) * _THOUSANDS[short[2].lower()]
            if (many, leaf.unit) in self.numbers:
                return self.settled(Number(many, leaf.unit))
        match leaf:
            case Number(unit="") if len(self.measures) > 1:
                meant = {
                    (each.base(leaf.value), each.unit)
                    for each in self.measures
                    if (each.base(leaf.value), each.unit) in self.numbers
                }
                return Number(*meant.pop()) if len(meant) == 1 else leaf
            case Number(unit=unit) if unit and len(self.measures) == 1 and len(self.units) == 1:
                return Number(next(iter(self.measures)).in_unit(leaf.value))
            case Expression() if len(self.units) < 2:
                return replace(leaf, unit="")
            case _:
                return leaf


def _cluster(found: set[Leaf], quantities: Mapping[Leaf, str]) -> dict[Leaf, str]:
    """Names for leaves. Numbers and words name themselves, those in `quantities` aside;
    expressions, shortest first, take the name of the first leaf of their unit that the judge calls
    equal."""
    names = {leaf: quantities.get(leaf) or _own_name(leaf) for leaf in found}
    heads: list[Number | Expression] = [leaf for leaf in found if isinstance(leaf, Number)]
    heads.sort(key=_own_name)
    expressions = [leaf for leaf in found if isinstance(leaf, Expression)]
    with judge.worker.turn:  # The time of other questions is not counted as this one's.
        deadline = time.monotonic() + QUESTION_SECONDS
        for expression in sorted(expressions, key=lambda leaf: (len(leaf.latex), _own_name(leaf))):
            equal: bool | None = False
            for head in [each for each in heads if each.unit == expression.unit]:
                if isinstance(head, Expression):
                    latex = head.latex
                else:
                    latex = rf"\frac{{{head.value.numerator}}}{{{head.value.denominator}}}"
                late = time.monotonic() > deadline
                equal = None if late else judge.equal(latex, expression.latex)
                if equal:
                    names[expression] = names[head]
                if equal or equal is None:  # what overran once would again
                    break
            if not equal:
                heads.append(expression)
    return names


def _own_name(leaf: Leaf) -> str:
    if isinstance(leaf, Word):
        return leaf.text
    value = leaf.latex if isinstance(leaf, Expression) else str(leaf.value)
    return f"{value} \\text{{{leaf.unit}}}" if leaf.unit else value
