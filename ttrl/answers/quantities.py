"""Numbers in digits and in words, plain and with units, alone and in running text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from text_to_num import alpha2digit, text2num  # type: ignore[import-untyped]

from ttrl.answers.dates import days, times
from ttrl.answers.markup import raised
from ttrl.answers.phrases import phrases
from ttrl.answers.units import DOLLAR, SIGN, measure

NUMBER_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl")
"""Those in which text2num reads number words."""
MAX_DIGITS, MAX_BITS = 200, 8192
"""Longer or larger numbers are not read: Python writes 4,300 digits at most, and models ramble."""
FUNCTIONS = frozenset({
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh",
    "tanh", "log", "ln", "exp", "lim", "max", "min", "gcd", "lcm", "det", "mod", "deg", "arg",
    "sgn", "frac", "infty", "inf", "pi",
})  # fmt: skip
"""Names in running letters that are mathematics and no words."""


_NO_NUMBERS = frozenset(["null", "once", "second", "sei"])
"""Words that are a number in one language, and something else in another."""


@lru_cache(maxsize=4096)
def whole_number(text: str, languages: Sequence[str] = NUMBER_LANGUAGES) -> int | None:
    """The number that words say: "twenty-one", "zweihundertzwölf", "quatre-vingts", "十二"; None
    where they say none, or more than one ("twelve one")."""
    text = " ".join(text.split()).casefold()
    if (len(text) < 2 and text.isascii()) or len(text) > 80 or text in _NO_NUMBERS:
        return None
    if re.fullmatch("[零〇一二三四五六七八九十百千万亿两]+", text):
        import cn2an  # type: ignore[import-untyped]  # late: a quarter of a command's start

        if re.fullmatch("[零〇一二三四五六七八九]{4}", text):  # a year, digit by digit
            return int(text.translate(str.maketrans("零〇一二三四五六七八九", "00123456789")))
        text = re.sub("^(?=[百千])", "一", text)
        try:
            return int(cn2an.cn2an(text.replace("两", "二").replace("〇", "零"), "strict"))
        except ValueError:
            return None
    if re.search(r"(?<!hundred)(?<!thousand)(?<!million)(?<!billion) and |\bzero .", text):
        return None
    text = re.sub(r"^a (?=hundred|thousand|million)", "one ", text)
    text = re.sub(r"^eine(?= milli)", "ein", text).replace("dreiss", "dreiß")
    for language in languages:
        try:
            return int(text2num(text, language))
        except ValueError:
            continue
    return None


_HAN_NUMBER = re.compile(
    "[〇一二三四五六七八九十百千万两]*[二三四五六七八九十百千万两][一二三四五六七八九十百千万零〇两]*"
)


def in_digits(text: str, *, english: bool = True) -> str:
    """A text with its number words in digits: "12 euros and 50 cents" of "twelve euros and fifty
    cents"; what is mostly an article stays a word. Words of other languages count where the text
    is not `english`: "miles" is Spanish for thousands."""
    languages = NUMBER_LANGUAGES[:1] if english else NUMBER_LANGUAGES
    text = _PERCENT.sub("%", text)
    text = _HAN_NUMBER.sub(lambda run: str(whole_number(run[0]) or run[0]), text)
    parts = _KEPT.split(text)
    for language in languages:
        parts[::2] = [alpha2digit(part, language, threshold=2) for part in parts[::2]]
    text = "".join(parts)
    text = _UNIT_AND_A_HALF.sub(r"1 1/2 \1", _AND_A_HALF.sub(_fraction, text))
    return _PART_OF.sub(_fraction, text)


_PERCENT = re.compile(r"\b(?:por ciento|por cento|per cento|pour cent|per cent)\b", re.IGNORECASE)
DIVISORS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100,
}  # fmt: skip
_DIVISOR = "|".join(DIVISORS)
_AND_A_HALF = re.compile(rf"\b(\d+ )and (a|an|one|\d+) ({_DIVISOR})s?\b", re.IGNORECASE)
_PART_OF = re.compile(  # "half an hour", "a third."
    rf"\b()(?:(an?|one|\d+) )?({_DIVISOR})s?"
    r"(?:(?: of)? (?:an?|one)(?= [^\W\d_])|(?(2)(?=\W*$)|(?!)))",
    re.IGNORECASE | re.MULTILINE,
)
_UNIT_AND_A_HALF = re.compile(r"\b(?:an?|one) ([^\W\d_]+) and a half\b", re.IGNORECASE)


def _fraction(found: re.Match[str]) -> str:
    """ "4 1/8" of "4 and one eighth", "1/2" of "half an"."""
    whole, above, part = found.groups(default="1")
    return f"{whole}{above if above.isdigit() else 1}/{DIVISORS[part.lower()]}"


DIGITS = (
    r"(?:(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:[ '’]\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}|\d+)"
    r"(?:\.\d*)?|\.\d+)"
)
ODDS = r"(\d+|one|an?) (?:in|out of) (?:every )?(\d{1,3})"
BRACED = rf"\{{ ?(-?{DIGITS}) ?\}}"
SCALES = {
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
_SPACED = sorted((scale for scale in SCALES if len(scale) > 1), key=len, reverse=True)
SCALE = rf"(?:(?:{'|'.join(_SPACED)})(?![^\W\d_])\.?|[百千万亿](?!\d))"
_KEPT = re.compile(rf"((?:\d|\b(?:second|{_DIVISOR})s?\b)(?:\s?{SCALE})?)", re.IGNORECASE)
"""Stays as it is: "126 million", and ordinals, which are parts of one as well."""
_SIGNED = re.compile(r"([-+负]|(?:minus|negative|moins|menos|meno)\b)\s*", re.IGNORECASE)


def decimal(digits: str) -> Fraction:
    return Fraction(re.sub(r"[, '’]", "", digits).rstrip("."))


def _points(digits: str) -> Fraction:
    return Fraction(digits.replace(".", "").replace(",", "."))


def _quotient(above: str, below: str) -> Fraction | None:
    divisor = decimal(below)
    return decimal(above) / divisor if divisor else None


def _mixed(whole: str, above: str, below: str) -> Fraction | None:
    part = _quotient(above, below)
    return None if part is None else int(whole) + part


def _scientific(digits: str, power: str) -> Fraction:
    scale = Fraction(10 ** abs(int(power)))
    return decimal(digits) * scale if int(power) > 0 else decimal(digits) / scale


def _repeating(whole: str, once: str, again: str) -> Fraction:
    before = int(whole + once or "0")
    return (before + Fraction(int(again), 10 ** len(again) - 1)) / Fraction(10 ** len(once))


def _parts(below: str, above: str) -> Fraction | None:
    divisor, part = _unsigned(below), _unsigned(above)
    return part / divisor if divisor and part is not None else None


def _scaled(digits: str, scale: str) -> Fraction | None:
    value = _unsigned(digits)
    return None if value is None else value * SCALES[scale.lower().removesuffix(".")]


_READERS: tuple[tuple[re.Pattern[str], Callable[..., Fraction | None]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), read)
    for pattern, read in (
        (rf"({DIGITS})", decimal),
        (r"(\d+) (\d+) ?/ ?(\d+)", _mixed),
        (rf"({DIGITS}) ?/ ?({DIGITS})", _quotient),
        (rf"\\frac ?{BRACED} ?{BRACED}", _quotient),
        (r"(\d+) ?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}", _mixed),
        (rf"({DIGITS}) ?(?:\\times|\\cdot|\*|x|×) ?10 ?\^ ?[{{(]? ?(-?\d{{1,3}}) ?[)}}]?",
         _scientific),
        (rf"({DIGITS})e([-+]?\d{{1,3}})", _scientific),
        (r"(\d{1,3}) ?\^ ?\{? ?(\d{1,2}) ?\}?",
         lambda base, power: Fraction(int(base) ** int(power))),
        (ODDS, lambda some, all_: _quotient("1" if some.isalpha() else some, all_)),
        (r"(\d*)\.(\d*)\\overline ?\{ ?(\d+) ?\}", _repeating),
        (r"(\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}|0,\d+)", _points),
        (r"(\d{1,3}(?:[ '’]\d{3})+),(\d+)", lambda whole, part: decimal(f"{whole}.{part}")),
        (r"(.{1,40})分之(.{1,40})", _parts),
    )
)  # fmt: skip
_SCALED = re.compile(rf"(.{{0,80}}\S)\s*({SCALE})", re.IGNORECASE)
_COMMA = re.compile(r"-?\d+,(?:\d{1,2}|\d{4,})|-?0,\d+|-?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")


def to_fraction(text: str, comma: bool = False) -> Fraction | None:
    r"""The exact value of a plain number: "-1,000", "0.5", "1/2", "\frac{1}{2}", "1 1/2",
    "1.5 \times 10^{3}", "0.\overline{3}", "5 million", "zwölf"; None for anything else. With
    `comma`, a single comma is that of decimals, and points group digits."""
    text = text.strip()
    if len(text) > MAX_DIGITS:
        return None
    sign = _SIGNED.match(text)
    rest = text[sign.end() :] if sign else text
    value = _points(rest) if comma and _COMMA.fullmatch(rest) else _unsigned(rest)
    if value is None or max(value.numerator, value.denominator).bit_length() > MAX_BITS:
        return None
    return -value if sign and sign[1] != "+" else value


def _unsigned(text: str) -> Fraction | None:
    for pattern, read in _READERS:
        if match := pattern.fullmatch(text):
            return read(*match.groups())
    said = whole_number(text)
    if said is not None:
        return Fraction(said)
    scaled = _SCALED.fullmatch(text)
    return _scaled(*scaled.groups()) if scaled else None


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
    if value is None:
        return _in_parts(text)
    if known:
        return Number(known.base(value), known.unit, written)
    turned = written.casefold() if written.casefold() in phrases().words["directions"] else ""
    return Number(value, turned, written)


_FEET = re.compile(r"(\d+)\s?['′]\s?(\d+)\s?(?:\"|″|''|′′)?")
_SHORT_COMMA = re.compile(r"-?\d+,\d{1,2}")
_GROUPED = re.compile(r"\d{1,3}\.\d{3}")


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
