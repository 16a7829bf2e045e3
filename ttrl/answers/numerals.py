"""Whole numbers in words: English, German and Chinese."""

from __future__ import annotations

import re

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
