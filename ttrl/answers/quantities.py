"""Numbers in words, quantities with units, and dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from fractions import Fraction

from ttrl.answers.cleaning import DOLLAR, FUNCTIONS
from ttrl.meaning import words

_NO_COUNT = {"null", "twice", "zweimal", "dreimal"}
"""Where they are the whole answer; "null" is nothing in English, and so perhaps no number."""
_WORDS = {
    word: int(value)
    for word, value in words.NUMERALS.items()
    if value == int(value) and word not in _NO_COUNT
} | dict.fromkeys(("one", "eins", "ein", "eine"), 1)
_ENGLISH_SCALES = ("trillion", "billion", "million", "thousand", "hundred")
_GERMAN_SCALES = ("milliarden", "milliarde", "millionen", "million", "tausend", "hundert")
_CHINESE = words.HAN_DIGITS | {"一": 1, "〇": 0}
_CHINESE_SCALES = sorted(words.HAN_SCALES.items(), key=lambda scale: -scale[1])


def whole_number(text: str) -> int | None:
    """The number that words say: "twenty-one", "one hundred and five", "zweihundertzwölf", "十二";
    None where they say none, or more than one ("twelve one")."""
    text = text.strip().casefold()
    english = _english(re.split(r"[ -]+", text))
    if english is not None:
        return english
    german = _german(re.sub(r"\s+", "", text).replace("ss", "ß"))
    return _chinese(text) if german is None else german


def _english(said: list[str]) -> int | None:
    for scale in _ENGLISH_SCALES:
        if scale in said:
            at = said.index(scale)
            times = 1 if said[:at] in ([], ["a"]) else _english(said[:at])
            rest = said[at + 1 :]
            more = 0 if not rest else _english(rest[1:] if rest[0] == "and" else rest)
            return _together(times, words.SCALES[scale], more)
    return _tens_and_ones(said)


def _german(text: str) -> int | None:
    for scale in _GERMAN_SCALES:
        before, found, after = text.partition(scale)
        if found:
            times = 1 if not before else _german(before)
            more = 0 if not after else _german(after.removeprefix("und"))
            return _together(times, words.SCALES[scale], more)
    ones, both, tens = text.partition("und")
    return _tens_and_ones([tens, ones] if both else [text])


def _chinese(text: str) -> int | None:
    for scale, size in _CHINESE_SCALES:
        before, found, after = text.partition(scale)
        if found:
            times = 1 if not before else _chinese(before)
            if len(after) == 1 and size > 10 and after != "零":
                return None  # 一百二 is 120, if it is no slip for 一百零二
            return _together(times, size, 0 if not after else _chinese(after.removeprefix("零")))
    return _CHINESE.get(text)


def _tens_and_ones(said: list[str]) -> int | None:
    match [_WORDS.get(word) for word in said]:
        case [int(value)]:
            return value
        case [int(tens), int(ones)] if tens >= 20 and 0 < ones < 10:
            return tens + ones
        case _:
            return None


def _together(times: int | None, size: int, more: int | None) -> int | None:
    return times * size + more if times and more is not None and more < size else None


PERCENT = "%"

_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+)"
_BRACED = rf"\{{ ?(-?{_DIGITS}) ?\}}"
_DECIMAL = re.compile(rf"({_DIGITS})")
_QUOTIENT = re.compile(rf"({_DIGITS}) ?/ ?({_DIGITS})")
_FRACTION = re.compile(rf"\\frac ?{_BRACED} ?{_BRACED}")
_MIXED = re.compile(r"(\d+) ?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}")
_MIXED_PLAIN = re.compile(r"(\d+) (\d+) ?/ ?(\d+)")
_POWER_OF_TEN = re.compile(
    rf"({_DIGITS}) ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{{? ?(-?\d{{1,3}}) ?\}}?"
)
_EXPONENT = re.compile(rf"({_DIGITS})[eE]([-+]?\d{{1,3}})")
_SIGN = re.compile(r"([-+负]|(?:minus|negative)\b)\s*", re.IGNORECASE)
_POINTS = re.compile(r"(\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})")
_PARTS = re.compile(r"(.+)分之(.+)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline ?\{ ?(\d+) ?\}")

_SCALES = {scale: size for scale, size in words.SCALES.items() if scale not in ("百万", "千万")} | {
    "hundreds": 10**2, "thousands": 10**3, "millions": 10**6, "billions": 10**9,
    "trillions": 10**12, "dozens": 12, "bn": 10**9, "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
_SCALE = rf"(?:{'|'.join(sorted(_SCALES, key=len, reverse=True))})(?![A-Za-z])\.?"
_SCALED = re.compile(rf"(.*\S)\s*({_SCALE})", re.IGNORECASE)

_NAME = r"[^\W\d_]+(?:[ /][^\W\d_]+){0,2}(?:\^[23])?"
_MARKED = re.compile(
    rf"(?P<body>.*\S)\s*\\text\s*\{{\s*(?P<unit>{_NAME})\.?\s*\}}(?P<power>\^[23])?"
)
_PLAIN = re.compile(
    rf"(?P<body>.*[\d.}}](?:\s*{_SCALE})?)(?P<gap>\s*)(?P<unit>{_NAME})\.?", re.IGNORECASE
)
_SIGNED = re.compile(r"(?P<body>.*\S)\s*(?P<unit>%|\^\\circ ?[CF]?|[€£¥＄])")
_MEGA = re.compile(r"M(?:[bBgJlLmNsVW]|eV|Hz|Pa|Wh|bit)")
"""A million of these; with a small m, a thousandth."""
_COMMA = re.compile(r"-?\d+,\d{1,2}")
_SHORT = "mm cm dm km kg mg ml ft in lb oz hr mi yd am pm kw mph kmh"
_SHORT_UNITS = frozenset(_SHORT.split())
_CHANGING = """
choose over plus minus times divided squared cubed factorial half halves third thirds fourth fourths
quarter quarters fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths
hundredth hundredths thousandth thousandths or and to less more than below above of by negative if
for when with mod modulo base tens score gross mil und oder mal geteilt 分之
"""
_NOT_UNITS = (frozenset(_CHANGING.split()) | FUNCTIONS | _SCALES.keys()) - {"min"}
_ALIASES = {
    "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km",
    "kilometre": "km", "millimeter": "mm", "gram": "g", "kilogram": "kg", "hr": "hour",
    "min": "minute", "sec": "second", "usd": "dollar", "inches": "inch", "in": "inch",
    "feet": "foot", "ft": "foot", "percent": PERCENT, "prozent": PERCENT, "元": "yuan",
    "美元": "dollar", "欧元": "euro", r"\circ": "degree", "h": "hour", "s": "second",
    r"\circ c": "celsius", "degrees c": "celsius", "degrees celsius": "celsius",
    r"\circ f": "fahrenheit", "degrees f": "fahrenheit", "degrees fahrenheit": "fahrenheit",
    "celsius": "celsius",
    "mph": "mile/hour", "kmh": "km/hour", "kph": "km/hour",
}  # fmt: skip
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3"}
_CURRENCIES = {DOLLAR: "dollar", "€": "euro", "£": "pound", "¥": "yen"}


def to_fraction(text: str) -> Fraction | None:
    r"""The exact value of a plain number: "-1,000", "0.5", "1/2", "\frac{1}{2}", "1 1/2",
    "1.5 \times 10^{3}", "0.\overline{3}", "5 million"; None for anything else."""
    text = text.strip()
    signed = _SIGN.match(text)
    value = _unsigned(text[signed.end() :] if signed else text)
    return -value if value is not None and signed and signed[1] != "+" else value


def split_unit(text: str) -> tuple[str, str]:
    """A value and the unit written with it, "" if none. Words that change a value ("million")
    stay with it; words that might ("over", "thirds") are no units. With a unit, "2,5" is no list
    but two and a half."""
    body, unit = _parted(text)
    return (body.replace(",", ".") if unit and _COMMA.fullmatch(body) else body), unit


def _parted(text: str) -> tuple[str, str]:
    sign = "-" if text[:1] == "-" else ""
    rest = text[len(sign) :].strip()
    if rest[:1] in _CURRENCIES:
        amount, said = split_unit(rest[1:].strip())
        if said not in _CURRENCIES.values():  # but "$5 dollars" says the currency twice
            amount = rest[1:].strip()
        return sign + amount, _CURRENCIES[rest[0]]
    signed = _SIGNED.fullmatch(text)
    if signed:
        return signed["body"], _unit(signed["unit"])
    marked = _MARKED.fullmatch(text)
    if marked and _may_be_unit(marked["unit"]):
        return marked["body"], _unit(marked["unit"] + (marked["power"] or ""))
    unmarked = text if marked is None else f"{marked['body']} {marked['unit']}"
    plain = _PLAIN.fullmatch(unmarked)
    if plain and _may_be_unit(plain["unit"]) and _stands_apart(plain["gap"], plain["unit"]):
        return plain["body"], _unit(plain["unit"])
    return unmarked if to_fraction(unmarked) is not None else text, ""


def _unsigned(text: str) -> Fraction | None:
    for pattern, read in _READERS:
        match = pattern.fullmatch(text)
        if match:
            return read(*match.groups())
    said = whole_number(text)
    if said is not None:
        return Fraction(said)
    scaled = _SCALED.fullmatch(text)
    value = _unsigned(scaled[1]) if scaled else None
    if scaled is None or value is None:
        return None
    return value * _SCALES[scaled[2].lower().removesuffix(".")]


def _decimal(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", "").rstrip("."))


def _points(digits: str) -> Fraction:
    return Fraction(digits.replace(".", "").replace(",", "."))


def _parts(below: str, above: str) -> Fraction | None:
    divisor, part = _unsigned(below), _unsigned(above)
    return part / divisor if divisor and part is not None else None


def _quotient(above: str, below: str) -> Fraction | None:
    divisor = _decimal(below)
    return _decimal(above) / divisor if divisor else None


def _mixed(whole: str, above: str, below: str) -> Fraction | None:
    part = _quotient(above, below)
    return None if part is None else int(whole) + part


def _scientific(digits: str, power: str) -> Fraction:
    scale = Fraction(10 ** abs(int(power)))
    return _decimal(digits) * scale if int(power) > 0 else _decimal(digits) / scale


def _repeating(whole: str, once: str, again: str) -> Fraction:
    shift = Fraction(10 ** len(once))
    before = int(whole + once or "0")
    period = Fraction(int(again), 10 ** len(again) - 1)
    return (before + period) / shift


_READERS: tuple[tuple[re.Pattern[str], Callable[..., Fraction | None]], ...] = (
    (_DECIMAL, _decimal),
    (_MIXED_PLAIN, _mixed),
    (_QUOTIENT, _quotient),
    (_FRACTION, _quotient),
    (_MIXED, _mixed),
    (_POWER_OF_TEN, _scientific),
    (_EXPONENT, _scientific),
    (_REPEATING, _repeating),
    (_POINTS, _points),
    (_PARTS, _parts),
)


def _may_be_unit(name: str) -> bool:
    return not _NOT_UNITS & set(re.split(r"[ /^]", name.lower()))


def _stands_apart(gap: str, name: str) -> bool:
    """Whether letters behind a number are words and no variables: "5 apples", "5cm", "5元"."""
    first = re.split(r"[ /^]", name.lower())[0]
    return first in _SHORT_UNITS or not first.isascii() or (bool(gap) and len(first) > 2)


def _unit(name: str) -> str:
    """One name for a unit: singular, short, in small letters, with its power."""
    if name in _CURRENCIES:
        return _CURRENCIES[name]
    if _MEGA.fullmatch(name):
        return name
    name, power, exponent = name.strip().removeprefix("^").casefold().partition("^")
    kind, _, rest = name.partition(" ")
    if kind in _POWERS and rest:
        name, power = rest, _POWERS[kind]
    units = []
    for one in re.split(r" per |/", name):
        singular = one[:-1] if len(one) > 3 and one.endswith("s") else one
        units.append(_ALIASES.get(one, _ALIASES.get(singular, singular)))
    return "/".join(units) + power + exponent


_NAMES = (
    ("january", "januar", "jan"), ("february", "februar", "feb"), ("march", "märz", "mar"),
    ("april", "apr"), ("may", "mai"), ("june", "juni", "jun"), ("july", "juli", "jul"),
    ("august", "aug"), ("september", "sept", "sep"), ("october", "oktober", "oct", "okt"),
    ("november", "nov"), ("december", "dezember", "dec", "dez"),
)  # fmt: skip
_NUMBERS = {name: number for number, names in enumerate(_NAMES, 1) for name in names}
_MONTH = rf"(?P<name>{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>\d{1,2})"
_YEAR = r"(?P<year>\d{4})"
_WRITTEN = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:the )?{_DAY}(?:st|nd|rd|th|\.)? (?:of )?{_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH} (?:the )?{_DAY}(?:st|nd|rd|th)?(?:,? {_YEAR})?",
        rf"{_YEAR}([-/.])(?P<month>\d{{1,2}})\2{_DAY}",
        rf"{_DAY}\. ?(?P<month>\d{{1,2}})\. ?{_YEAR}",
        rf"(?:{_YEAR} ?年 ?)?(?P<month>\d{{1,2}}) ?月 ?{_DAY} ?[日号]",
        rf"--(?P<month>\d{{2}})-{_DAY}",
    )
)
_SOME_LEAP_YEAR = 2000


def day(text: str) -> str | None:
    """The day that a text names, as ISO 8601 writes it: "2024-03-04", without a year "--03-04".
    None where it names none, or leaves open which number is the month ("3/4/2024")."""
    for written in _WRITTEN:
        found = written.fullmatch(text.strip())
        if found:
            break
    else:
        return None
    parts = found.groupdict()
    name, year = parts.get("name"), parts.get("year")
    month = _NUMBERS[name.lower()] if name else int(parts["month"])
    try:
        known = date(int(year or _SOME_LEAP_YEAR), month, int(parts["day"]))
    except ValueError:
        return None
    return known.isoformat() if year else f"--{known:%m-%d}"
