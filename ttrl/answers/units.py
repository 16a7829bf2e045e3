"""What a unit of measure or a currency is, however it is written: pint's units, under the names
that CLDR (by Babel) has for them in many languages.

Both libraries take a while to load, so they are loaded when the first unit is met.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple

LANGUAGES = (
    "en", "de", "fr", "es", "it", "pt", "nl", "sv", "pl", "ru", "uk", "tr", "ar", "hi", "id", "vi",
    "zh", "ja", "ko",
)  # fmt: skip
"""Those whose names of units and months are known."""
PERCENT = "%"
DOLLAR = "＄"
"""Stands for a dollar of money while those of math mode are taken off."""

CURRENCIES: Mapping[str, str] = {
    f"{DOLLAR} us{DOLLAR} dollar dollars buck bucks dólar dólares dollari доллар 美元 ドル": "USD",
    "€ euro euros 欧元 ユーロ": "EUR",
    "£ pound pounds sterling quid 英镑 pounds_sterling pound_sterling": "GBP",
    "¥ jp¥ yen 円 日元": "JPY",
    "cn¥ yuan renminbi rmb 元 人民币": "CNY",
    "₹ rs rupee rupees रुपये": "INR",
    "₩ won 원": "KRW",
    "₽ ruble rubles rouble roubles рубль рублей": "RUB",
    f"franc francs franken sfr chf{DOLLAR} swiss_francs schweizer_franken francs_suisses": "CHF",
    f"a{DOLLAR} au{DOLLAR}": "AUD",
    f"c{DOLLAR} ca{DOLLAR}": "CAD",
    f"nz{DOLLAR}": "NZD",
    f"hk{DOLLAR}": "HKD",
    f"s{DOLLAR}": "SGD",
    f"r{DOLLAR} real reais": "BRL",
    f"mx{DOLLAR} peso pesos": "MXN",
    "kr krona kronor krone kroner": "SEK",
    "zł złoty zloty złotych": "PLN",
    "₺ lira liras": "TRY",
    "₫ dong": "VND",
    "₱": "PHP",
    "฿ baht": "THB",
    "₪ shekel shekels": "ILS",
    "r rand": "ZAR",
}
"""Signs and everyday names, which may mean several currencies: one each, as what counts is whether
two samples of one question name the same."""
MINOR = {
    "¢": "USD", "cent": "USD", "cents": "USD", "ct": "EUR", "centime": "EUR", "centimes": "EUR",
    "céntimo": "EUR", "céntimos": "EUR", "centesimi": "EUR", "pence": "GBP", "penny": "GBP",
    "p": "GBP", "paise": "INR", "paisa": "INR",
}  # fmt: skip
"""A hundredth of it."""
_SIGNS = {
    sign.replace("_", " "): code for signs, code in CURRENCIES.items() for sign in signs.split()
}
SIGN = rf"(?:(?:us|a|au|c|ca|nz|hk|s|r|mx)?{DOLLAR}|(?:jp|cn)?¥|[€£₹₩₽₺₫₱฿₪]|rs\.?(?=\s?\d))"
"""What stands before an amount, in small letters."""

_POWERS = str.maketrans({"²": "^2", "³": "^3", "⁻": "^-", "¹": "1", "·": "*", "⋅": "*", "×": "*"})
_UNIT = re.compile(r"[^\W\d]+(?:[ _*/.-]?[^\W\d]+|\s?\^\s?-?[1-9])*\.?")
_WORDED = (
    (re.compile(r"\s*\bper\b\s*"), "/"),
    (re.compile(r"\b(?:square|sq\.?)\s+([^\W\d]+)"), r"\1**2"),
    (re.compile(r"\b(?:cubic|cu\.?)\s+([^\W\d]+)"), r"\1**3"),
    (re.compile(r"\s+squared\b|\s?\^\s?2"), "**2"),
    (re.compile(r"\s+cubed\b|\s?\^\s?3"), "**3"),
    (re.compile(r"\s?\^\s?-([1-9])"), r"**-\1"),
)
_NOT_LINEAR = {"consumption-liter-per-100-kilometer", "digital"}
_ALIASES = {
    "sec": "s", "secs": "s", "hrs": "hour", "hr": "hour", "mins": "minute", "kph": "km/hour",
    "kmh": "km/hour", "kms": "km", "kilo": "kg", "kilos": "kg", "lbs": "pound", "yr": "year",
    "yrs": "year", "cc": "cm**3", "sqft": "ft**2", "celsius": "degC", "°c": "degC",
    "fahrenheit": "degF", "°f": "degF", "degrees celsius": "degC", "degree celsius": "degC",
    "degrees c": "degC", "degrees fahrenheit": "degF", "degree fahrenheit": "degF",
    "degrees f": "degF", "月": "month", "°": "degree", "º": "degree", "per cent": PERCENT,
    "percent": PERCENT,
    "prozent": PERCENT, "pour cent": PERCENT, "por ciento": PERCENT, "percentage": PERCENT,
}  # fmt: skip


class Measure(NamedTuple):
    """A unit in terms of the base units of its kind, and how many of them one is."""

    unit: str
    size: Fraction = Fraction(1)
    zero: Fraction = Fraction(0)
    """Where its scale begins: 0 °C are 273.15 kelvin."""

    def base(self, value: Fraction) -> Fraction:
        return value * self.size + self.zero

    def in_unit(self, value: Fraction) -> Fraction:
        return (value - self.zero) / self.size


_SCALES_OF_HEAT = {
    "degree_Celsius": Measure("kelvin", Fraction(1), Fraction(27315, 100)),
    "degree_Fahrenheit": Measure("kelvin", Fraction(5, 9), Fraction(45967, 180)),
}


@lru_cache(maxsize=4096)
def measure(name: str) -> Measure | None:
    """Return what a unit's name or sign means; None for all that is none, such as "apples".

    Prices are not converted, nor are angles and percentages.
    """
    name = " ".join(name.replace("_", " ").split()).strip()
    plain = name.casefold().rstrip(".").strip()
    if not plain or len(plain) > 40:
        return None
    if plain in _SIGNS or plain.replace(".", "") in _SIGNS:
        return Measure(_SIGNS[plain if plain in _SIGNS else plain.replace(".", "")])
    if plain in MINOR:
        return Measure(MINOR[plain], Fraction(1, 100))
    if plain == PERCENT or _ALIASES.get(plain) == PERCENT:
        return Measure(PERCENT)
    if len(plain) == 3 and name.isupper():
        from babel.numbers import list_currencies

        if plain.upper() in list_currencies():
            return Measure(plain.upper())
    unit = _ALIASES.get(plain, name.rstrip("."))
    if not _UNIT.fullmatch(unit.translate(_POWERS).replace("**", "^")):
        return None
    if found := _pint(unit) or (_pint(_ALIASES.get(plain, plain)) if len(plain) > 1 else None):
        return found
    translated = _names().get(plain)
    return Measure(PERCENT) if translated == "percent" else _pint(translated or "")


def _pint(name: str) -> Measure | None:
    name = name.translate(_POWERS).replace("°C", "degC").replace("°F", "degF")
    for pattern, written in _WORDED:
        name = pattern.sub(written, name)
    words = [word for word in re.split(r"[\W\d]+", name) if word]
    if not words or not all(map(_known, words)) or re.search(r"[^\W\d]\s+[^\W\d]", name):
        return None
    registry = _registry()
    try:
        unit = registry.parse_units(name)
        if heat := _SCALES_OF_HEAT.get("*".join(unit._units)):
            return heat
        if unit.dimensionless:
            return Measure(str(unit).replace("_", " "))
        found = registry.Quantity(1, unit).to_base_units()
    except Exception:  # noqa: BLE001 - pint raises many kinds for what it cannot read
        return None
    powers = sorted((str(unit), int(power)) for unit, power in dict(found._units).items())
    base = "*".join(unit if power == 1 else f"{unit}^{power}" for unit, power in powers)
    return Measure(base, Fraction(found.magnitude))


@lru_cache(maxsize=4096)
def _known(word: str) -> bool:
    """Whether a word is a unit: not where only the sign of a prefix makes it one, as in "cats",
    which pint would read as centi and at (technical atmosphere)."""
    for prefix, _unit, _ in _registry().parse_unit_name(word):
        if not prefix or word.startswith(prefix):
            return len(word) > 1 or word in "mghsLlKNJWVAPTCF"
        if len(word) <= 3 or (word[0] in "kMGT" and not word.islower()):
            return True
    return False


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(non_int_type=Fraction, cache_folder=None)


@cache
def _names() -> Mapping[str, str]:
    """The names of units in `LANGUAGES`, in small letters, and what pint calls them."""
    from babel import Locale
    from babel.units import format_unit

    found: dict[str, str] = {}
    units = [str(name) for name in Locale("en").unit_display_names if name not in _NOT_LINEAR]
    for language in LANGUAGES:
        for unit in units:
            english = unit.partition("-")[2]
            english = re.sub(r"(square|cubic)-(\w+)", r"\1 \2", english).replace("-per-", " per ")
            for count in (1, 2, 5):
                text = format_unit(count, unit, length="long", locale=language)
                plain = re.sub(r"[\d\u0660-\u0669\u0966-\u096f.,]+", "", text).strip().casefold()
                found.setdefault(plain, english.replace("-", "_"))
    return found


@cache
def months() -> Mapping[str, int]:
    """The names of months in `LANGUAGES`, in small letters and without a point, and numbers."""
    from babel.dates import get_month_names

    found: dict[str, int] = {}
    for language in LANGUAGES:
        for width in ("wide", "abbreviated"):
            for context in ("format", "stand-alone"):
                for number, name in get_month_names(width, context, language).items():
                    if not name[:1].isdigit():
                        found.setdefault(name.casefold().rstrip("."), number)
    return found
