"""Numbers with units, alone and in running text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from ttrl.answers.dates import days, times
from ttrl.answers.markup import raised
from ttrl.answers.numbers import (
    BRACED,
    DIGITS,
    FUNCTIONS,
    NUMBER_LANGUAGES,
    ODDS,
    SCALE,
    SCALES,
    decimal,
    to_fraction,
    whole_number,
)
from ttrl.answers.phrases import phrases
from ttrl.answers.units import DOLLAR, SIGN, measure


@dataclass(frozen=True)
class Number:
    """An exact number. With a unit of measure it is in base units ("meter*second^-2"); `written` is
    the unit as it was written, whether it is a known one or not ("km", "apples")."""

    value: Fraction
    unit: str = ""
    written: str = field(default="", compare=False)


_NAME = r"[^\W\d_]+(?:[ /][^\W\d_]+){0,3}(?:\^-?[1-4])?"
_MARKED = re.compile(
    rf"(?P<body>.*\S)\s*\\text\s*\{{\s*(?P<unit>{_NAME}(?:\*{_NAME})*|%)\.?\s*\}}(?P<power>\^\{{?-?[1-4]\}}?)?"
)
_PLAIN = re.compile(
    rf"(?P<body>.*[\d.}}](?:\s*{SCALE})?|.*\\pi|[^\W\d_][^\d]*?{SCALE}|[^\W\d_]+(?:-[^\W\d_]+)?)"
    rf"(?P<gap>\s*)(?P<unit>{_NAME}(?:[*/ ]{_NAME})*)\.?",
    re.IGNORECASE,
)
_SUFFIXED = re.compile(r"(?P<body>.*\S)\s*(?P<unit>%|\^\\circ ?[CF]?|[€£¥₹₩₽₺₫₱฿₪＄¢])")
_PREFIXED = re.compile(
    rf"(?P<unit>{SIGN}|(?-i:[A-Z]{{3}})(?=\s?\d))\s*(?P<body>\S.*)", re.IGNORECASE
)
_CHANGING = """
choose over plus minus times divided squared cubed factorial half halves third thirds fourth fourths
quarter quarters fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths
hundredth hundredths thousandth thousandths or and to less than more below above of by negative if
for when with mod modulo base tens score gross mil und oder mal geteilt 分之
"""
_NOT_UNITS = (frozenset(_CHANGING.split()) | FUNCTIONS | SCALES.keys()) - {"min"}


def split_unit(text: str) -> tuple[str, str]:
    """A value and the unit written with it, "" if none. Words that change a value ("million")
    stay with it; words that might ("over", "thirds") are no units."""
    sign = "-" if text[:1] == "-" else ""
    rest = text[len(sign) :].strip()
    if (prefixed := _PREFIXED.fullmatch(rest)) and measure(prefixed["unit"]):
        amount, written = split_unit(prefixed["body"])
        if not written or measure(written) != measure(prefixed["unit"]):  # "$5 dollars"
            amount = prefixed["body"]
        return sign + amount, prefixed["unit"]
    if suffixed := _SUFFIXED.fullmatch(text):
        degrees = suffixed["unit"].removeprefix(r"^\circ").strip()
        unit = suffixed["unit"] if suffixed["unit"][0] != "^" else f"°{degrees}"
        return suffixed["body"], unit
    marked = _MARKED.fullmatch(text)
    if marked and _may_be_unit(marked["unit"]):
        return marked["body"], marked["unit"] + re.sub("[{}]", "", marked["power"] or "")
    unmarked = text if marked is None else f"{marked['body']} {marked['unit']}"
    plain = _PLAIN.fullmatch(unmarked)
    if (
        plain
        and _may_be_unit(plain["unit"])
        and _stands_apart(plain["gap"], plain["unit"])
        and (any(map(str.isdigit, plain["body"])) or to_fraction(plain["body"]) is not None)
    ):
        return plain["body"], plain["unit"]
    return unmarked if to_fraction(unmarked) is not None else text, ""


def _may_be_unit(name: str) -> bool:
    words = re.split(r"[ /^*]", name.lower())
    if whole_number(words[0], NUMBER_LANGUAGES[:1]) is not None or words[0] in ("am", "pm"):
        return False
    changing = _NOT_UNITS & set(words)
    return not changing or (not changing & SCALES.keys() and measure(name) is not None)


def _stands_apart(gap: str, name: str) -> bool:
    """Whether letters behind a number are words and no variables: "5 apples", "5cm", "5元"."""
    first = re.split(r"[ /^*]", name)[0]
    if len(first) == 1 and first.isascii():
        return bool(gap) and first in "mghslLKNJWVA" and measure(first) is not None
    return not first.isascii() or measure(first) is not None or (bool(gap) and len(first) > 2)


_PART = re.compile(
    rf"\s*(?:and\s+)?(?P<value>{DIGITS})\s*(?:\\text\s*\{{)?\s*(?P<unit>[^\W\d_]+)\}}?\.?,?"
)


def quantity(text: str, comma: bool = False) -> Number | None:
    """A number with or without a unit, or one in several parts ("2 h 30 min"); None for all
    else."""
    value = to_fraction(text, comma)
    if value is not None:
        return Number(value)
    if tall := _FEET.fullmatch(text):
        return _in_parts(f"{tall[1]} ft {tall[2]} in")
    body, written = split_unit(text)
    known = measure(written) if written else None
    price = known is not None and len(known.unit) == 3
    if price and _GROUPED.fullmatch(body):  # "1.250 EUR": no price has tenths of a cent
        body = body.replace(".", "")
    value = to_fraction(body, comma or (bool(written) and _SHORT_COMMA.fullmatch(body) is not None))
    return _in_parts(text) if value is None else _number(value, written)


_FEET = re.compile(r"(\d+)\s?['′]\s?(\d+)\s?(?:\"|″|''|′′)?")
_SHORT_COMMA = re.compile(r"-?\d+,\d{1,2}")
_GROUPED = re.compile(r"\d{1,3}\.\d{3}")


def _number(value: Fraction, written: str) -> Number:
    unit = measure(written) if written else None
    if unit is None:
        turned = written.casefold() if written.casefold() in phrases().words["directions"] else ""
        return Number(value, turned, written)
    return Number(unit.base(value), unit.unit, written)


def _in_parts(text: str) -> Number | None:
    """The sum of parts of one kind, each smaller than the one before."""
    place, total, last = 0, Fraction(0), None
    written = ""
    while place < len(text):
        part = _PART.match(text, place)
        name = part["unit"] if part else ""
        unit = measure(name) if part else None
        if (
            part is None
            or unit is None
            or (last and (unit.unit, True) != (last.unit, unit.size < last.size))
        ):
            return None
        total, place, last = total + decimal(part["value"]) * unit.size, part.end(), unit
        written = name
    return Number(total, last.unit, written) if last else None


_SCANNED = re.compile(
    rf"(?P<odds>\b{ODDS}(?!\s*[\w.:]))|(?P<amount>(?:(?<![\w.)])[-−+]\s?)?(?:{SIGN}\s?|(?<![A-Za-z])(?-i:[A-Z]{{3}})\s(?=\d))?"
    rf"(?:\\frac\s?{BRACED}\s?{BRACED}|\d{{1,3}}(?:\.\d{{3}})+,\d+|\d+,\d{{1,2}}(?![\d,])"
    r"|\d{1,3}(?:[  ']\d{3})+,\d+|\d+ \d+/\d+"
    rf"|{DIGITS}\s?(?:\\times|\\cdot|[x×·*])\s?10\s?\^\s?[{{(]?\s?[-−]?\d{{1,3}}\s?[)}}]?"
    rf"|{DIGITS}e[-−+]?\d{{1,3}}(?!\w)"
    rf"|{DIGITS}(?:\s?/\s?\d+(?![\w/]))?))"
    rf"(?P<scale>\s?{SCALE})?(?P<percent>\s?\\?%)?",
    re.IGNORECASE,
)
_AFTER = re.compile(r"(?:\s?(?:\\text\s*\{)?\s?|-)(?P<unit>[^\W\d_°]+|°\s?[CF]?)[.}]?")


class Found(NamedTuple):
    """A number in a text: as written, with sign and unit, what tells it apart, and where it is."""

    text: str
    value: object
    start: int = 0
    end: int = 0


def scan(text: str, comma: bool = False) -> list[Found]:
    """Find the days, the times of day and the numbers of a text, whose number words are in digits,
    in order."""
    text = text[:MAX_SCANNED].replace("$", DOLLAR).replace("\\" + DOLLAR, DOLLAR)
    text = raised(text)
    moments = [Found(text[start:end], known, start, end) for known, start, end in days(text)]
    moments += [Found(text[t.start : t.end], t.text, t.start, t.end) for t in times(text)]
    found: list[Found] = []
    place = 0
    while match := _SCANNED.search(text, place):
        if inside := [m.end for m in moments if m.start <= match.start() < m.end]:
            place = max(inside)
            continue
        place = match.end()
        if re.match(r"[A-Za-z0-9_]", text[match.start() - 1 : match.start()]):
            continue  # part of a name: "H2O", "RX-200"
        span = match[0].rstrip()
        if not match["percent"] and not match["odds"]:
            span, place = _with_units(text, match.start(), place)
        number = quantity(span.replace("−", "-").rstrip("."), comma=comma)
        if number is not None:
            found.append(Found(span.strip(" .,"), number.value, match.start(), place))
    return sorted([*found, *moments], key=lambda each: each.start)


MAX_SCANNED = 2000
"""Characters of a sentence that numbers are looked for in."""


def _with_units(text: str, start: int, end: int) -> tuple[str, int]:
    """Extend a number by the unit behind it, and by further parts ("2 h 30 min")."""
    longest = end
    words: list[str] = []
    place = end
    if sign := re.compile(r"\s?[€£¥₹₩₽₺₫₱฿₪¢]").match(text, end):
        return text[start : sign.end()], sign.end()
    while len(words) < 5 and (word := _AFTER.match(text, place)):
        words.append(word["unit"])
        place = word.end()
        tail = text[end:place].strip(" -.{}").removeprefix("\\text").strip(" {}")
        power = re.match(r"\s?\}?\^\{?-?[1-4]\}?|/\s?[^\W\d_]+(?:\^\{?[1-4]\}?)?", text[place:])
        if power and measure(tail + re.sub(r"[\s{}]", "", power[0])):
            longest = place = place + power.end()
        elif measure(tail):
            longest = place
    more = _PART.match(text, longest) if longest > end else None
    if more and quantity(text[start : more.end()].strip(" .,")):
        longest = more.end()
    return text[start:longest].strip(), longest
