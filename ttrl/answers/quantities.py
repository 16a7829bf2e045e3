"""Plain numbers, quantities, money, days and times of day, as they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import cn2an
from text_to_num import text2num

from ttrl.answers.units import DOLLAR, SIGN, measure, months

NUMBER_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl")
"""Those in which text2num reads number words."""
MAX_DIGITS = 200
"""Longer numbers are not read: Python refuses some thousand digits, and models ramble."""
FUNCTIONS = frozenset(
    [
        "sqrt",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "log",
        "ln",
        "exp",
        "lim",
        "max",
        "min",
        "gcd",
        "lcm",
        "det",
        "mod",
        "deg",
        "arg",
        "sgn",
        "frac",
        "infty",
        "inf",
        "pi",
    ]
)
"""Names in running letters that are mathematics and no words."""


@dataclass(frozen=True)
class Number:
    """An exact number. With a unit of measure it is in base units ("meter*second^-2"); `said` is
    the unit as it was written, whether it is a known one or not ("km", "apples")."""

    value: Fraction
    unit: str = ""
    said: str = field(default="", compare=False)


# Numbers in words


@lru_cache(maxsize=4096)
def whole_number(text: str) -> int | None:
    """The number that words say: "twenty-one", "zweihundertzwölf", "quatre-vingts", "十二"; None
    where they say none, or more than one ("twelve one")."""
    text = " ".join(text.split()).casefold()
    if not text or len(text) > 80 or text == "null":  # "null" is nothing in English
        return None
    if re.fullmatch("[零〇一二三四五六七八九十百千万亿两]+", text):
        text = re.sub("^(?=[百千])", "一", text)
        try:
            return int(cn2an.cn2an(text.replace("两", "二").replace("〇", "零"), "strict"))
        except ValueError:
            return None
    if re.search(r"(?<!hundred)(?<!thousand)(?<!million)(?<!billion) and |\bzero .", text):
        return None
    text = re.sub(r"^a (?=hundred|thousand|million)", "one ", text)
    text = re.sub(r"^eine(?= milli)", "ein", text).replace("dreiss", "dreiß")
    for language in NUMBER_LANGUAGES:
        try:
            return int(text2num(text, language))
        except ValueError:
            continue
    return None


# Numbers in digits

_DIGITS = r"(?:(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:[ '’]\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}|\d+)(?:\.\d*)?|\.\d+)"
_BRACED = rf"\{{ ?(-?{_DIGITS}) ?\}}"
_SCALES = {
    "hundred": 100, "hundreds": 100, "hundert": 100, "thousand": 10**3, "thousands": 10**3,
    "tausend": 10**3, "mille": 10**3, "mil": 10**3, "million": 10**6, "millions": 10**6,
    "millionen": 10**6, "mio": 10**6, "millón": 10**6, "millones": 10**6, "milhão": 10**6,
    "milhões": 10**6, "milione": 10**6, "milioni": 10**6, "miljoen": 10**6, "billion": 10**9,
    "billions": 10**9, "bn": 10**9, "milliarde": 10**9, "milliarden": 10**9, "milliard": 10**9,
    "milliards": 10**9, "mrd": 10**9, "miljard": 10**9, "miliardi": 10**9, "trillion": 10**12,
    "trillions": 10**12, "billionen": 10**12, "lakh": 10**5, "lakhs": 10**5, "lac": 10**5,
    "crore": 10**7, "crores": 10**7, "dozen": 12, "dozens": 12, "dutzend": 12, "百": 100,
    "千": 10**3, "万": 10**4, "亿": 10**8,
}  # fmt: skip
"""What multiplies the number before, in digits or in words."""
_SCALE = rf"(?:{'|'.join(sorted(_SCALES, key=len, reverse=True))})(?![^\W\d_])\.?"
_SIGNED = re.compile(r"([-+负]|(?:minus|negative|moins|menos|meno)\b)\s*", re.IGNORECASE)


def _decimal(digits: str) -> Fraction:
    return Fraction(re.sub(r"[, '’]", "", digits).rstrip("."))


def _points(digits: str) -> Fraction:
    return Fraction(digits.replace(".", "").replace(",", "."))


def _quotient(above: str, below: str) -> Fraction | None:
    divisor = _decimal(below)
    return _decimal(above) / divisor if divisor else None


def _mixed(whole: str, above: str, below: str) -> Fraction | None:
    part = _quotient(above, below)
    return None if part is None else int(whole) + part


def _scientific(digits: str, power: str) -> Fraction:
    return _decimal(digits) * Fraction(10) ** int(power)


def _repeating(whole: str, once: str, again: str) -> Fraction:
    before = int(whole + once or "0")
    return (before + Fraction(int(again), 10 ** len(again) - 1)) / 10 ** len(once)


def _parts(below: str, above: str) -> Fraction | None:
    divisor, part = _unsigned(below), _unsigned(above)
    return part / divisor if divisor and part is not None else None


def _scaled(digits: str, scale: str) -> Fraction | None:
    value = _unsigned(digits)
    return None if value is None else value * _SCALES[scale.lower().removesuffix(".")]


_READERS: tuple[tuple[re.Pattern[str], Callable[..., Fraction | None]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), read)
    for pattern, read in (
        (rf"({_DIGITS})", _decimal),
        (r"(\d+) (\d+) ?/ ?(\d+)", _mixed),
        (rf"({_DIGITS}) ?/ ?({_DIGITS})", _quotient),
        (rf"\\frac ?{_BRACED} ?{_BRACED}", _quotient),
        (r"(\d+) ?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}", _mixed),
        (rf"({_DIGITS}) ?(?:\\times|\\cdot|\*|x|×) ?10 ?\^ ?\{{? ?(-?\d{{1,3}}) ?\}}?",
         _scientific),
        (rf"({_DIGITS})e([-+]?\d{{1,3}})", _scientific),
        (r"(\d*)\.(\d*)\\overline ?\{ ?(\d+) ?\}", _repeating),
        (r"(\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}|0,\d+)", _points),
        (r"(.{1,40})分之(.{1,40})", _parts),
    )
)  # fmt: skip
_SCALED = re.compile(rf"(.{{0,80}}\S)\s*({_SCALE})", re.IGNORECASE)
_SHORT_COMMA = re.compile(r"-?\d+,\d{1,2}")
_COMMA = re.compile(r"-?\d+,(?:\d{1,2}|\d{4,})|-?0,\d+|-?\d{1,3}(?:\.\d{3})+,\d+")


def to_fraction(text: str, comma: bool = False) -> Fraction | None:
    r"""The exact value of a plain number: "-1,000", "0.5", "1/2", "\frac{1}{2}", "1 1/2",
    "1.5 \times 10^{3}", "0.\overline{3}", "5 million", "zwölf"; None for anything else. With
    `comma`, a single comma is that of decimals."""
    text = text.strip()
    if len(text) > MAX_DIGITS:
        return None
    sign = _SIGNED.match(text)
    rest = text[sign.end() :] if sign else text
    value = _points(rest) if comma and _COMMA.fullmatch(rest) else _unsigned(rest)
    return -value if value is not None and sign and sign[1] != "+" else value


def _unsigned(text: str) -> Fraction | None:
    for pattern, read in _READERS:
        if match := pattern.fullmatch(text):
            return read(*match.groups())
    said = whole_number(text)
    if said is not None:
        return Fraction(said)
    scaled = _SCALED.fullmatch(text)
    return _scaled(*scaled.groups()) if scaled else None


# Quantities

_NAME = r"[^\W\d_]+(?:[ /][^\W\d_]+){0,3}(?:\^-?[1-4])?"
_MARKED = re.compile(
    rf"(?P<body>.*\S)\s*\\text\s*\{{\s*(?P<unit>{_NAME}(?:\*{_NAME})*|%)\.?\s*\}}(?P<power>\^\{{?-?[1-4]\}}?)?"
)
_PLAIN = re.compile(
    rf"(?P<body>.*[\d.}}](?:\s*{_SCALE})?|[^\W\d_][^\d]*?{_SCALE}|[^\W\d_]+(?:-[^\W\d_]+)?)"
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
_NOT_UNITS = (frozenset(_CHANGING.split()) | FUNCTIONS | _SCALES.keys()) - {"min"}


def split_unit(text: str) -> tuple[str, str]:
    """A value and the unit written with it, "" if none. Words that change a value ("million")
    stay with it; words that might ("over", "thirds") are no units."""
    sign = "-" if text[:1] == "-" else ""
    rest = text[len(sign) :].strip()
    if (prefixed := _PREFIXED.fullmatch(rest)) and measure(prefixed["unit"]):
        amount, said = split_unit(prefixed["body"])
        if not said or measure(said) != measure(prefixed["unit"]):  # but "$5 dollars" says it twice
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
    if plain and _may_be_unit(plain["unit"]) and _stands_apart(plain["gap"], plain["unit"]):
        if any(map(str.isdigit, plain["body"])) or to_fraction(plain["body"]) is not None:
            return plain["body"], plain["unit"]
    return unmarked if to_fraction(unmarked) is not None else text, ""


def _may_be_unit(name: str) -> bool:
    changing = _NOT_UNITS & set(re.split(r"[ /^*]", name.lower()))
    return not changing or (not changing & _SCALES.keys() and measure(name) is not None)


def _stands_apart(gap: str, name: str) -> bool:
    """Whether letters behind a number are words and no variables: "5 apples", "5cm", "5元"."""
    first = re.split(r"[ /^*]", name)[0]
    if len(first) == 1 and first.isascii():
        return bool(gap) and first in "mghslLKNJWVA" and measure(first) is not None
    return not first.isascii() or measure(first) is not None or (bool(gap) and len(first) > 2)


_PART = re.compile(
    rf"\s*(?:and\s+)?(?P<value>{_DIGITS})\s*(?:\\text\s*\{{)?\s*(?P<unit>[^\W\d_]+)\}}?\.?,?"
)


def quantity(text: str, comma: bool = False) -> Number | None:
    """A number with or without a unit, or one in several parts ("2 h 30 min"); None for all
    else."""
    value = to_fraction(text, comma)
    if value is not None:
        return Number(value)
    if half := _HALVES.fullmatch(text):
        return _halves(**half.groupdict())
    body, said = split_unit(text)
    known = measure(said) if said else None
    if (
        known and len(known.unit) == 3 and _GROUPED.fullmatch(body)
    ):  # no price has a tenth of a cent
        body = body.replace(".", "")
    value = to_fraction(body, comma or (bool(said) and _SHORT_COMMA.fullmatch(body) is not None))
    return _in_parts(text) if value is None else _number(value, said)


_HALVES = re.compile(
    r"(?:(?P<whole>\S.{0,30}?) and )?(?:(?P<count>a|an|one|two|three) )?(?P<part>half|halves"
    r"|thirds?|quarters?)(?: (?:of )?(?:a |an )?(?P<unit>[^\W\d_]+))?(?<!\band)",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"\d{1,3}\.\d{3}")
_DIVISORS = {"half": 2, "halve": 2, "third": 3, "quarter": 4}


def _halves(whole: str | None, count: str | None, part: str, unit: str | None) -> Number | None:
    """Of "two and a half hours", "half an hour", "three quarters of an hour"."""
    before = Fraction(0) if whole is None else to_fraction(whole)
    if before is None or (unit is None and whole is None):
        return None
    times = {"two": 2, "three": 3}.get((count or "").lower(), 1)
    value = before + Fraction(
        times, _DIVISORS[part.lower().rstrip("s") if part != "halves" else "half"]
    )
    scale = _SCALES.get((unit or "").lower())
    return Number(value * scale) if scale else _number(value, unit or "")


def _number(value: Fraction, said: str) -> Number:
    unit = measure(said) if said else None
    return Number(value * unit.size, unit.unit, said) if unit else Number(value, "", said)


def _in_parts(text: str) -> Number | None:
    """The sum of parts of one kind, each smaller than the one before."""
    place, total, last = 0, Fraction(0), None
    said = ""
    while place < len(text):
        part = _PART.match(text, place)
        name = part["unit"] if part else ""
        if last and last.unit == "second" and name == "m":
            name = "min"
        unit = measure(name) if part else None
        if (
            part is None
            or unit is None
            or (last and (unit.unit, True) != (last.unit, unit.size < last.size))
        ):
            return None
        total, place, last = total + _decimal(part["value"]) * unit.size, part.end(), unit
        said = name
    return Number(total, last.unit, said) if last else None


# Days and times of day

_MONTH = r"(?P<name>[^\W\d_]{3,12})\.?"
_DAY = r"(?P<day>\d{1,2})"
_YEAR = r"(?P<year>\d{4})"
_WRITTEN = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:the |le |el |il |den )?{_DAY}(?:st|nd|rd|th|er|º|\.)? (?:of |de |di )?{_MONTH}"
        rf"(?:,? (?:de |del )?{_YEAR})?",
        rf"{_MONTH} (?:the )?{_DAY}(?:st|nd|rd|th)?(?:,? {_YEAR})?",
        rf"{_YEAR}([-/.])(?P<month>\d{{1,2}})\2{_DAY}",
        rf"{_DAY}\. ?(?P<month>\d{{1,2}})\. ?{_YEAR}",
        rf"(?:{_YEAR} ?[年년] ?)?(?P<month>\d{{1,2}}) ?[月월] ?{_DAY} ?[日号일]",
        rf"--(?P<month>\d{{2}})-{_DAY}",
    )
)
_SOME_LEAP_YEAR = 2000


def day(text: str) -> str | None:
    """The day that a text names, as ISO 8601 writes it: "2024-03-04", without a year "--03-04".
    None where it names none, or leaves open which number is the month ("3/4/2024")."""
    text = text.strip()
    if len(text) > 40 or not any(map(str.isdigit, text)):
        return None
    found = next(filter(None, (written.fullmatch(text) for written in _WRITTEN)), None)
    if found is None:
        return None
    parts = found.groupdict()
    name, year = parts.get("name"), parts.get("year")
    month = months().get(name.casefold()) if name else int(parts["month"])
    try:
        known = date(int(year or _SOME_LEAP_YEAR), month or 0, int(parts["day"]))
    except ValueError:
        return None
    return known.isoformat() if year else f"--{known:%m-%d}"


_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?(?::(?P<second>\d{2}))?\s*(?P<half>[ap])\.?\s?m\.?"
    r"|(?P<hour24>\d{1,2})(?::(?P<minute24>\d{2})(?::(?P<second24>\d{2}))?"
    r"|h(?P<minuteh>\d{2})(?!\d|\s?m))(?:\s*(?:h|hours|hrs|uhr|heures))?"
    r"|(?:12(?::00)? )?(?P<word>noon|midnight)",
    re.IGNORECASE,
)


def time_of_day(text: str) -> str | None:
    """A time of day, "3:30 PM"; None where a text names none. Without "am" or "pm", what has one
    digit for its hour is taken as by night."""
    found = _TIME.fullmatch(text.strip()) if len(text) < 30 else None
    if found is None:
        return None
    if found["word"]:
        return "12:00 PM" if found["word"].lower() == "noon" else "12:00 AM"
    hour = int(found["hour"] or found["hour24"])
    minute = int(found["minute"] or found["minute24"] or found["minuteh"] or 0)
    second = int(found["second"] or found["second24"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"].lower() == "p")
    if hour > 23 or minute > 59 or second > 59:
        return None
    seconds = f":{second:02}" if second else ""
    return f"{(hour - 1) % 12 + 1}:{minute:02}{seconds} {'PM' if hour > 11 else 'AM'}"


# In running text

_SCANNED = re.compile(
    rf"(?P<time>{_TIME.pattern})(?![\w:])"
    rf"|(?P<amount>(?:(?<![\w.)])[-−+]\s?)?(?:{SIGN}\s?|(?<![A-Za-z])(?-i:[A-Z]{{3}})\s(?=\d))?"
    rf"(?:\\frac\s?{_BRACED}\s?{_BRACED}|\d{{1,3}}(?:\.\d{{3}})+,\d+|\d+,\d{{1,2}}(?![\d,])|\d+ \d+/\d+"
    rf"|{_DIGITS}(?:\s?/\s?\d+(?![\w/]))?))"
    rf"(?P<scale>\s?{_SCALE})?(?P<percent>\s?\\?%)?",
    re.IGNORECASE,
)
_AFTER = re.compile(r"(?:\s?(?:\\text\s*\{)?\s?|-)(?P<unit>[^\W\d_°]+|°\s?[CF]?)[.}]?")
_WORD_RUN = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)*")
_HAN_NUMBER = re.compile("[二三四五六七八九十百两][一二三四五六七八九十百千万零两]*")
_ARTICLES = frozenset(
    [
        "one",
        "a",
        "an",
        "ein",
        "eine",
        "eins",
        "un",
        "une",
        "uno",
        "una",
        "um",
        "uma",
        "een",
        "no",
        "once",
        "second",
        "six",
    ]
)
"""Number words that are mostly something else in a sentence."""


class Found(NamedTuple):
    """A number in a text: as written, with sign and unit, what tells it apart, and where it is."""

    text: str
    value: object
    start: int = 0
    end: int = 0


def scan(text: str, comma: bool = False) -> list[Found]:
    """Find the numbers of a text in order; where there are none in digits, those in words."""
    text = text[:MAX_SCANNED].replace("$", DOLLAR).replace("\\" + DOLLAR, DOLLAR).replace("²", "^2")
    found: list[Found] = []
    place = 0
    while match := _SCANNED.search(text, place):
        place = match.end()
        if re.match(r"[A-Za-z0-9_]", text[match.start() - 1 : match.start()]):
            continue  # part of a name: "H2O", "RX-200"
        if match["time"]:
            found.append(Found(match["time"], time_of_day(match["time"]), *match.span()))
            continue
        span = match[0].rstrip()
        if not match["percent"]:
            span, place = _with_units(text, match.start(), place)
        number = quantity(span.replace("−", "-").rstrip("."), comma=comma)
        if number is not None:
            found.append(Found(span.strip(" .,"), number.value, match.start(), place))
    if not found:
        for run in _HAN_NUMBER.finditer(text):
            number = whole_number(run[0])
            if number is not None:
                found.append(Found(run[0], Fraction(number)))
    if not found:
        for run in _WORD_RUN.finditer(text):
            found.extend(_in_words(run[0]))
    return found


MAX_SCANNED = 2000
"""Characters of a sentence that numbers are looked for in."""


def _with_units(text: str, start: int, end: int) -> tuple[str, int]:
    """Extend a number by the unit behind it, and by further parts ("2 h 30 min")."""
    longest = end
    words, place = [], end
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


def _in_words(run: str) -> Iterator[Found]:
    words = re.split(r"[ -]", run)
    place = 0
    while place < len(words):
        for end in range(min(len(words), place + 8), place, -1):
            said = " ".join(words[place:end])
            number = None if said.casefold() in _ARTICLES else whole_number(said)
            if number is not None:
                unit = measure(words[end]) if end < len(words) else None
                said = f"{said} {words[end]}" if unit else said
                yield Found(said, number * (unit.size if unit else Fraction(1)))
                place = end - 1
                break
        place += 1
