"""Numbers that tell texts apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from ttrl.meaning import likeness, words
from ttrl.meaning.words import LONGEST, MINUS, Denial, Token, denial, is_han, tokens

CLOSE = 0.65
"""Part of their telling words that two texts have in common, in the same order, from which on they
are close."""
FEW, CLOSE_OF_FEW = 2, 0.5
"""And that part of so few words (two signs of Chinese are one): of two, one may be exchanged."""
SPAN = 0.6
"""How alike what is exchanged in close texts must be."""

_COMPARED_ELSEWHERE = (  # as negations, by `conflict`
    words.FUNCTION_WORDS | words.CLAUSE_WORDS | words.NEGATORS | words.AFFIRMERS | words.DENIERS
)
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+")


@dataclass(frozen=True)
class Difference:
    """Whether two texts are close, and whether one then has something else in place of what the
    other has."""

    close: bool
    tells: bool


@lru_cache(maxsize=10_000)
def difference(one: str, other: str) -> Difference:
    left, right = _telling(one), _telling(other)
    if left == right:
        return Difference(close=True, tells=False)
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    quickly = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
    size = max(sum(0.5 if is_han(word) else 1.0 for word in text) for text in (left, right))
    close = CLOSE if size > FEW else CLOSE_OF_FEW
    if any(ratio() < close for ratio in quickly):
        return Difference(close=False, tells=False)
    spans = (
        (" ".join(left[a:b]), " ".join(right[c:d]))
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal"
    )
    return Difference(close=True, tells=any(likeness.alike(*span) < SPAN for span in spans))


@lru_cache(maxsize=1000)
def _telling(text: str) -> list[str]:
    besides_numbers = " ".join(word for _, rest in _pieces(tokens(text)) for word in rest)
    return [
        word
        for word in _WORD.findall(besides_numbers)
        if word not in _COMPARED_ELSEWHERE and not word[0].isdigit()
    ]


ORDINAL = "th"
"""What the second has for a unit: it is the same as number 2."""

_PLAIN = re.compile(r"\d*\.?\d+|\d+\.")
_MEASURED = re.compile(r"(\d+(?:[.,]\d+)?)([^\W\d_]+)")
_NUMERAL = "|".join(sorted(words.NUMERALS.keys() | words.SCALES.keys(), key=len, reverse=True))
_PART = re.compile(rf"{_NUMERAL}|ein(?=und|hundert|tausend)")
_IN_WORDS = re.compile(
    rf"(?:ein(?=und|hundert|tausend))?(?>(?:und)?(?>{_NUMERAL})(?:-(?={_NUMERAL}))?)++"
)
_HAN_UNIT = re.compile(
    "|".join(sorted((u for u in words.UNITS if is_han(u)), key=len, reverse=True))
)


class _Number(NamedTuple):
    """What is read at a place: its value (None: there is none), a unit that is written with it, and
    of how many tokens it is."""

    value: str | None
    unit: str
    used: int


def _pieces(found: Sequence[Token]) -> Iterator[tuple[str, list[str]]]:
    """Yield in order each number with its sign and its unit, and what is between two of them with
    "" for a number. The words with a number are its unit, however it is written."""
    place = end = 0
    while place < len(found):
        number = _number_at(found, place)
        place += number.used
        if number.value is None:
            continue
        before = [token.plain for token in found[end : place - number.used]]
        follows = _unit_at(found, place) if not number.unit else ""
        currency = "" if number.unit or follows else _currency(before)
        minus = _negative(before, after_one=end > 0)
        yield "", before[: len(before) - minus - bool(currency)]
        sign, measure = "-" * minus, number.unit or follows or currency
        yield f"{sign}{number.value} {measure}".rstrip(), [measure][: measure != ORDINAL]
        place += bool(follows)
        end = place
    yield "", [token.plain for token in found[end:]]


def unit(word: str) -> str:
    """Return a unit by its one name, whatever its ending; "" if it is none."""
    for ending in ("", "s", "e", "n", "en"):
        name = word.removesuffix(ending)
        name = words.UNIT_NAMES.get(name, name)
        if word.endswith(ending) and name in words.UNITS:
            return name
    return ""


def _unit_at(found: Sequence[Token], place: int) -> str:
    if place == len(found):
        return ""
    han = _HAN_UNIT.match(found[place].text)
    return han[0] if han else unit(found[place].plain)


def _currency(before: Sequence[str]) -> str:
    """Of "$5", "EUR 5" and "-$5"; what stood behind the number before is not in `before`."""
    name = next((unit(word) for word in reversed(before) if word != MINUS), "")
    return name if name in words.CURRENCIES else ""


def _negative(before: Sequence[str], *, after_one: bool) -> bool:
    """Not in "10 minus 5"."""
    said = before[-1:] == ["minus"] and (len(before) > 1 or not after_one)
    return said or MINUS in before[-2:]


def _number_at(found: Sequence[Token], place: int) -> _Number:
    token = found[place]
    if token.text[0].isdecimal():
        return _in_digits(found, place)
    if is_han(token.text):
        return _in_chinese(found, place)
    if token.plain in words.ORDINALS:
        return _ordinal(found, place)
    parts: list[str] = []
    used = 0
    while place + used < len(found) and _IN_WORDS.fullmatch(found[place + used].plain):
        parts += _PART.findall(found[place + used].plain)
        used += 1
    return _Number(str(_sum(parts)), "", used) if used else _Number(None, "", 1)


def _ordinal(found: Sequence[Token], place: int) -> _Number:
    """Or a fraction, "one tenth", or a measure of time, "a second"."""
    name = found[place].plain
    before = found[place - 1].plain if place else ""
    if name == "second" and before in ("", "a", "one", "per", "each"):
        return _Number(None, "", 1)
    if before == "one":
        return _Number(f"1/{words.ORDINALS[name]}", "", 1)
    return _Number(str(words.ORDINALS[name]), ORDINAL, 1)


def _in_digits(found: Sequence[Token], place: int) -> _Number:
    token = found[place]
    measured = _MEASURED.fullmatch(token.text)
    if measured:
        if measured[2] in ("st", "nd", "rd", "th"):
            return _Number(measured[1], ORDINAL, 1)
        name = unit(measured[2].casefold())
        return _Number(_value(measured[1]), name, 1) if name else _Number(token.plain, "", 1)
    if not token.text[-1].isdecimal():
        return _Number(None, "", 1)
    scale = found[place + 1].plain if place + 1 < len(found) else ""
    if scale in words.SCALES:
        return _Number(_value(token.text, scale), "", 2)
    return _Number(_value(token.text), "", 1)


def _in_chinese(found: Sequence[Token], place: int) -> _Number:
    numerals = found[place].text
    known = words.HAN_DIGITS.keys() | words.HAN_SCALES.keys()
    if numerals in ("一", "十") or numerals[0] not in {"一", *known}:
        return _Number(None, "", 1)  # both are in many words that count nothing
    return _Number(str(_han_value(numerals)), "", 1)


def _value(digits: str, scale: str = "") -> str:
    """A number as it is worth; a time of day, or a code with letters inside, as it is written."""
    plain = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", digits).replace(",", ".")
    if len(digits) > LONGEST or not _PLAIN.fullmatch(plain):
        return digits + scale
    return str(Fraction(plain) * words.SCALES.get(scale, 1))


def _sum(parts: Sequence[str]) -> Fraction:
    """Of "two", "hundred", "thousand", "five": 200,005."""
    total, group = Fraction(0), Fraction(0)
    for part in parts:
        scale = words.SCALES.get(part)
        if scale is None:
            group += Fraction(words.NUMERALS.get(part, 1))
        elif scale >= 1000:
            total, group = total + (group or 1) * scale, Fraction(0)
        else:
            group = (group or Fraction(1)) * scale if group < scale else group + scale
    return total + group


def _han_value(numerals: str) -> int:
    total = part = last = 0
    for each in numerals:
        scale = words.HAN_SCALES.get(each)
        if scale is None:
            last = 10 * last + words.HAN_DIGITS.get(each, 1)
        elif scale >= 10_000:
            total, part, last = total + (part + last or 1) * scale, 0, 0
        else:
            part, last = part + (last or 1) * scale, 0
    return total + part + last


@dataclass(frozen=True)
class Marks:
    """What is read off one text: its numbers (with their signs and units) and its names, in order,
    what it denies, and on which sides of opposites it stands."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    denial: Denial
    sides: frozenset[tuple[int, int]]


def read(texts: Sequence[str], question: str = "") -> list[Marks]:
    """The marks of several answers to one question. A word at the beginning of a sentence is a name
    if it is written large elsewhere."""
    found = [tokens(text) for text in texts]
    known = {name for each in (*found, tokens(question)) for name in _surely_names(each)}
    known -= words.SCALES.keys()
    marks = []
    for text, each in zip(texts, found, strict=True):
        numbers = tuple(number for number, _ in _pieces(each) if number)
        names = tuple(t.plain for t in each if t.plain in known and not unit(t.plain))
        marks.append(Marks(numbers, names, denial(text), _sides(text, each)))
    return marks


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


def _surely_names(found: Sequence[Token]) -> Iterator[str]:
    """Codes such as RX-200, and words written large inside a sentence, but for "I": in German,
    where all nouns are, only those that go on with a large letter."""
    nouns_are_large = len(words.GERMAN.intersection(token.plain for token in found)) > 1
    for token in found:
        code = any(map(str.isdigit, token.text)) and any(map(str.isalpha, token.text))
        large = token.text[0].isupper() and not token.begins and token.text != "I"
        inside = any(map(str.isupper, token.text[1:]))
        code = code and not _MEASURED.fullmatch(token.text)
        if code or inside or (large and not nouns_are_large):
            yield token.plain


def _sides(text: str, found: Sequence[Token]) -> frozenset[tuple[int, int]]:
    """Where only one side of a pair of opposites is taken."""
    said = {token.plain for token in found}
    taken = set()
    for pair, opposites in enumerate(words.OPPOSED):
        on = [bool(side & said) or any(is_han(w) and w in text for w in side) for side in opposites]
        if on[0] != on[1]:
            taken.add((pair, on.index(True)))
    return frozenset(taken)
