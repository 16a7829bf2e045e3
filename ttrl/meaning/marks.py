"""What must not differ between two texts that say the same: numbers, names, yes and no.

Embeddings put "not before 8" beside "before 8" and "Anna paid Ben" beside "Ben paid Anna"; letters
tell them apart. Where this errs it takes one meaning for two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ttrl.meaning import words
from ttrl.meaning.denial import Denial, denial

LONGEST, MOST = 100, 1e15
"""Digits of a number that is read, and what a number in words comes to, at most: models ramble, and
Python refuses to read more than some thousand digits."""

_DIGITS = r"\d+(?:[.,:]\d+)*"
_WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_HAN = "[\u3400-\u9fff]"
_CODE = r"(?=[A-Za-z\d-]*\d)(?=[A-Za-z\d-]*[A-Za-z])[A-Za-z\d][A-Za-z\d-]*[A-Za-z\d]"
_TOKEN = re.compile(rf"{_CODE}|{_DIGITS}|%|{_HAN}+|{_WORD}|[.!?。！？\n]")
_SENTENCE_ENDS = frozenset(".!?。！？\n")
_HAN_NUMBER = re.compile(f"[{''.join(words.HAN_DIGITS)}一{''.join(words.HAN_SCALES)}]+")
_HAN_UNIT = re.compile(
    "|".join(sorted((u for u in words.UNITS if re.match(_HAN, u)), key=len, reverse=True))
)


@dataclass(frozen=True)
class Marks:
    """What is read off one text: its numbers (with their units) and its names, in order, what it
    denies, and on which sides of opposites it stands."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    denial: Denial
    sides: frozenset[tuple[int, int]]


def read(texts: Sequence[str], question: str = "") -> list[Marks]:
    """The marks of several answers to one question. A word at the beginning of a sentence is a name
    if it is written large elsewhere."""
    tokens = [_tokens(text) for text in texts]
    known = {name for each in (*tokens, _tokens(question)) for name in _surely_names(each)}
    return [_marks(text, each, known) for text, each in zip(texts, tokens, strict=True)]


def conflict(one: Marks, other: Marks, asked: Marks, *, close: bool) -> bool:
    """Whether two answers cannot mean the same. What only one of them has may be said besides if
    the question has it as well. In what order things come, and "before" for "after", tells only
    where they are `close` to each other in all else: whoever turns a sentence round turns these."""
    return (
        one.denial.contradicts(other.denial)
        or _differ(
            _as_said(one.numbers, other.numbers),
            _as_said(other.numbers, one.numbers),
            asked.numbers,
            in_order=close,
        )
        or _differ(one.names, other.names, asked.names, in_order=close)
        or (close and any((pair, 1 - side) in other.sides for pair, side in one.sides))
    )


def _as_said(numbers: Sequence[str], others: Sequence[str]) -> list[str]:
    """Without its unit where the other says the bare number: "30 days" answers like "30"."""
    return [value if (value := each.partition(" ")[0]) in others else each for each in numbers]


def _differ(
    one: Sequence[str], other: Sequence[str], asked: Sequence[str], *, in_order: bool
) -> bool:
    """Each has what the other lacks; or one has what neither the other nor the question has; or
    what both have comes in another order."""
    left, right = set(one) - set(other), set(other) - set(one)
    if (left and right) or (left | right) - set(asked):
        return True
    common = set(one) & set(other)
    return in_order and _in_order(one, common) != _in_order(other, common)


def _in_order(found: Sequence[str], among: set[str]) -> list[str]:
    return list(dict.fromkeys(each for each in found if each in among))


@dataclass(frozen=True)
class _Token:
    text: str
    begins: bool
    """Whether a sentence begins with it."""

    @property
    def plain(self) -> str:
        return self.text.casefold()


def _tokens(text: str) -> list[_Token]:
    said = unicodedata.normalize("NFKC", text).replace("’", "'")
    for sign, name in (("°C", " celsius"), ("°F", " fahrenheit"), ("°", " degree")):
        said = said.replace(sign, name)
    said = _SCALE_OF_DEGREES.sub(r"\1", said)
    found, begins = [], True
    for token in _TOKEN.findall(said):
        if token in _SENTENCE_ENDS:
            begins = True
            continue
        found.append(_Token(token, begins))
        begins = False
    return found


def _marks(text: str, tokens: Sequence[_Token], known: set[str]) -> Marks:
    names = (t.plain for t in tokens if t.plain in known and not _is_unit(t.text))
    return Marks(tuple(_numbers(tokens)), tuple(names), denial(text), _sides(text, tokens))


def _surely_names(tokens: Sequence[_Token]) -> Iterator[str]:
    """Codes such as RX-200, and words written large inside a sentence, but for "I": in German,
    where all nouns are, only those that go on with a large letter."""
    nouns_are_large = len(words.GERMAN.intersection(token.plain for token in tokens)) > 1
    for token in tokens:
        code = any(map(str.isdigit, token.text)) and any(map(str.isalpha, token.text))
        large = token.text[0].isupper() and not token.begins and token.text != "I"
        large = large and not nouns_are_large
        inside = any(map(str.isupper, token.text[1:]))
        if (code and not _MEASURED.fullmatch(token.text)) or large or inside:
            yield token.plain


_SCALE_OF_DEGREES = re.compile(r"\b(?:degrees?|Grad) (celsius|fahrenheit)", re.IGNORECASE)
_PLAIN = re.compile(r"\d*\.?\d+|\d+\.")
_MEASURED = re.compile(r"(\d+(?:[.,]\d+)?)([^\W\d_]+)")


def _numbers(tokens: Sequence[_Token]) -> Iterator[str]:
    """Each number with its unit, if there is one."""
    place = 0
    while place < len(tokens):
        value, used = _number_at(tokens, place)
        if value is None:
            place += 1
            continue
        place += used
        unit = tokens[place].plain if place < len(tokens) else ""
        yield f"{value} {_singular(unit)}" if _is_unit(unit) else value


def _number_at(tokens: Sequence[_Token], place: int) -> tuple[str | None, int]:
    token = tokens[place].text
    measured = _MEASURED.fullmatch(token)
    if measured and _is_unit(measured[2]):
        return f"{_value(measured[1])} {_singular(measured[2].casefold())}", 1
    if token[0].isdecimal():
        return (_value(token), 1) if token[-1].isdecimal() else (None, 1)
    han = _HAN_NUMBER.search(token)
    if han and han[0] not in "一十":
        unit = _HAN_UNIT.match(token, han.end())
        return f"{_han_value(han[0])} {unit[0]}" if unit else str(_han_value(han[0])), 1
    total, used = 0.0, 0
    while place + used < len(tokens) and total < MOST:
        parts = tokens[place + used].plain.split("-")
        values = [words.NUMERALS.get(part) for part in parts]
        if None in values:
            break
        for value in values:
            assert value is not None
            total = max(total, 1) * value if value in (100, 1000) else total + value
        used += 1
    return (str(Fraction(total)), used) if used else (None, 1)


def _value(digits: str) -> str:
    """A number as it is worth; a time of day, or a code with letters inside, as it is written."""
    plain = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", digits).replace(",", ".")
    if len(digits) > LONGEST or not _PLAIN.fullmatch(plain):
        return digits
    return str(Fraction(plain))


def _han_value(numerals: str) -> int:
    total, last = 0, 0
    for each in numerals:
        if each in words.HAN_SCALES:
            total += max(last, 1) * words.HAN_SCALES[each]
            last = 0
        else:
            last = words.HAN_DIGITS.get(each, 1)
    return total + last


def _is_unit(word: str) -> bool:
    return _singular(word.casefold()) in words.UNITS


def _singular(word: str) -> str:
    for ending in ("", "s", "e", "n", "en"):
        if word.endswith(ending) and word.removesuffix(ending) in words.UNITS:
            return word.removesuffix(ending)
    return word


def _sides(text: str, tokens: Sequence[_Token]) -> frozenset[tuple[int, int]]:
    """Where only one side of a pair of opposites is taken."""
    said = {token.plain for token in tokens}
    taken = set()
    for pair, opposites in enumerate(words.OPPOSED):
        on = [
            bool(side & said) or any(_is_han(w) and w in text for w in side) for side in opposites
        ]
        if on[0] != on[1]:
            taken.add((pair, on.index(True)))
    return frozenset(taken)


def _is_han(word: str) -> bool:
    return bool(re.match(_HAN, word))
