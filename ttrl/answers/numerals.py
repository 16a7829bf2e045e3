"""Whole numbers in words: English, German and Chinese."""

from __future__ import annotations

import re

_ENGLISH = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
"""
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ENGLISH_SCALES = {
    "trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 10**3, "hundred": 10**2,
}  # fmt: skip
# Without "null", which is nothing in English, and so perhaps no number.
_GERMAN = """
eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn
siebzehn achtzehn neunzehn
"""
_GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
_GERMAN_SCALES = (
    ("milliarden", 10**9), ("milliarde", 10**9), ("millionen", 10**6), ("million", 10**6),
    ("tausend", 10**3), ("hundert", 10**2),
)  # fmt: skip
_CHINESE = {sign: number for number, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_SCALES = {"亿": 10**8, "万": 10**4, "千": 10**3, "百": 10**2, "十": 10}


def _numbered(ones: str, first: int, tens: str) -> dict[str, int]:
    return {word: number for number, word in enumerate(ones.split(), first)} | {
        word: 10 * number for number, word in enumerate(tens.split(), 2)
    }


_ENGLISH_WORDS = _numbered(_ENGLISH, 0, _ENGLISH_TENS)
_GERMAN_WORDS = _numbered(_GERMAN, 1, _GERMAN_TENS) | {"ein": 1, "eine": 1}


def whole_number(text: str) -> int | None:
    """The number that words say: "twenty-one", "one hundred and five", "zweihundertzwölf", "十二";
    None where they say none, or more than one ("twelve one")."""
    text = text.strip().casefold()
    english = _english(re.split(r"[ -]+", text))
    if english is not None:
        return english
    german = _german(re.sub(r"\s+", "", text).replace("ss", "ß"))
    return _chinese(text) if german is None else german


def _english(words: list[str]) -> int | None:
    for scale, size in _ENGLISH_SCALES.items():
        if scale in words:
            at = words.index(scale)
            times = 1 if words[:at] in ([], ["a"]) else _english(words[:at])
            rest = words[at + 1 :]
            more = 0 if not rest else _english(rest[1:] if rest[0] == "and" else rest)
            return _together(times, size, more)
    return _tens_and_ones([_ENGLISH_WORDS.get(word) for word in words])


def _german(text: str) -> int | None:
    for scale, size in _GERMAN_SCALES:
        before, found, after = text.partition(scale)
        if found:
            times = 1 if not before else _german(before)
            return _together(times, size, 0 if not after else _german(after.removeprefix("und")))
    ones, both, tens = text.partition("und")
    words = [tens, ones] if both else [text]
    return _tens_and_ones([_GERMAN_WORDS.get(word) for word in words])


def _chinese(text: str) -> int | None:
    for scale, size in _CHINESE_SCALES.items():
        before, found, after = text.partition(scale)
        if found:
            times = 1 if not before else _chinese(before)
            if len(after) == 1 and size > 10 and after != "零":
                return None  # 一百二 is 120, if it is no slip for 一百零二
            return _together(times, size, 0 if not after else _chinese(after.removeprefix("零")))
    return _CHINESE.get(text)


def _tens_and_ones(values: list[int | None]) -> int | None:
    match values:
        case [int(value)]:
            return value
        case [int(tens), int(ones)] if tens >= 20 and 0 < ones < 10:
            return tens + ones
        case _:
            return None


def _together(times: int | None, size: int, more: int | None) -> int | None:
    return times * size + more if times and more is not None and more < size else None
