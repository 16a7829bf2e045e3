"""The numbers of a text: with sign and unit, in digits or in words, one way of writing for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from ttrl.meaning import words
from ttrl.meaning.tokens import LONGEST, MINUS, Token, is_han

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


def numbers(found: Sequence[Token]) -> list[str]:
    """Each number with its sign and its unit, if there are any."""
    return [number for number, _ in _pieces(found) if number]


def besides_numbers(found: Sequence[Token]) -> list[str]:
    """The words without the numbers, but with their units, however these are written."""
    return [word for _, rest in _pieces(found) for word in rest]


def _pieces(found: Sequence[Token]) -> Iterator[tuple[str, list[str]]]:
    """In order each number with its unit, and what is between two of them with "" for a number."""
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
    """A unit by its one name, whatever its ending; "" if it is none."""
    for ending in ("", "s", "e", "n", "en"):
        name = word.removesuffix(ending)
        name = words.UNIT_NAMES.get(name, name)
        if word.endswith(ending) and name in words.UNITS:
            return name
    return ""


def is_measured(code: str) -> bool:
    """Whether it is a number and what it counts, written as one: "5mg"."""
    return bool(_MEASURED.fullmatch(code))


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
