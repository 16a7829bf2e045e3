"""Plain numbers, in digits and in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

from text_to_num import alpha2digit, text2num  # type: ignore[import-untyped]

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
