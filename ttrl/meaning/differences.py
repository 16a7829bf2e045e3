"""How alike texts are, and what must not differ between two that say the same: numbers, names, yes
and no, and any word in texts that are nearly the same.

Numbers in words are read by text2num and cn2an, units under their names in CLDR (by Babel). Nothing
here knows what a sentence denies: a negation tells where it is all that two texts differ in.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fractions import Fraction
from functools import cache, lru_cache
from typing import Protocol

from text_to_num import alpha2digit  # type: ignore[import-untyped]

Matrix = Sequence[Sequence[float]]
"""For n texts n by n: symmetric, 1 on its diagonal."""


class Likeness(Protocol):
    @property
    def alike(self) -> float:
        """The likeness from which on two answers may mean the same."""

    @property
    def words(self) -> str:
        """What it goes by, for people."""

    def compare(self, texts: Sequence[str]) -> Matrix:
        """Return how alike each two of the texts are."""


RUNS = (3, 4, 5)
"""Letters of a word that are looked at together, the spaces around it among them."""

_LETTERS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


class Letters:
    """The cosine of how often each run of letters comes, counted by its logarithm."""

    words = "shared letters; set meaning.model to compare them by meaning"

    def __init__(self, alike: float | None = None) -> None:
        self.alike = 0.25 if alike is None else alike

    def compare(self, texts: Sequence[str]) -> Matrix:
        """As Likeness has it; of texts without a letter only the same ones are alike."""
        known = {text: _counts(text) for text in texts}
        found = {
            (one, other): 1.0 if one == other else _cosine(known[one], known[other])
            for one in known
            for other in known
            if one <= other
        }
        return [[found[min(a, b), max(a, b)] for b in texts] for a in texts]


def alike(one: str, other: str) -> float:
    return _cosine(_counts(one), _counts(other))


def _counts(text: str) -> Mapping[str, float]:
    """Of length 1, as a vector."""
    words = [f" {word} " for word in _LETTERS.findall(text.casefold())]
    runs = Counter(
        word[start : start + size]
        for word in words
        for size in RUNS
        for start in range(len(word) - size + 1)
    )
    weights = {run: math.log1p(count) for run, count in runs.items()}
    length = math.hypot(*weights.values())
    return {run: weight / length for run, weight in weights.items()}


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return min(1.0, math.fsum(one[run] * other[run] for run in one.keys() & other.keys()))


CLOSE = 0.65
"""Part of their words that two texts have in common, in the same order, from which on they are
close."""
FEW, CLOSE_OF_FEW = 2, 0.5
"""And that part of so few words (two signs of Chinese are one): of two, one may be exchanged."""
SPAN = 0.6
"""How alike what is exchanged in close texts must be."""
LONGEST = 100
"""Signs of a number that is read: models ramble, and Python refuses to read more than some thousand
digits."""

_YES = frozenset({"yes", "yeah", "correct", "right", "true", "ja", "doch", "richtig"})
_NO = frozenset({"no", "nope", "incorrect", "wrong", "false", "nein", "falsch"})
_HAN_YES, _HAN_NO = ("是的", "可以", "对"), ("不是", "不可以", "不行", "不对")
"""What an answer begins with, or ends with, that says the whole of it."""
_GERMAN = frozenset({
    "der", "die", "das", "und", "ist", "nicht", "ein", "eine", "einen", "wird", "werden", "auf",
    "mit", "sich", "im",
})  # fmt: skip
"""Words by two of which a text is German."""
_SMALL_WORDS = """
a an the this that these those it its he him his she her they them their we us our you your i me my
is are was were be been being am do does did has have had will would shall should to of in on at by
for with from into as and or so then there here which who just also already because since although
though but while weil denn obwohl aber der die das dem den des ein eine einen einem einer eines er
sie es ihm ihn ihr wir uns sich ist sind war waren sein wird werden wurde hat haben hatte zu zum zur
von vom im am auf aus bei mit für und oder so dann da hier als auch dass schon
的 了 是 在 就 也 和 与 地 得 着 吧 呢
"""
_SMALL = frozenset(_SMALL_WORDS.split())
"""Words that say little by themselves: in one text and not in the other they tell nothing."""

_HAN = "[\u3400-\u9fff]"
_LETTER = "[^\\W\\d_]"
_WORD = re.compile(rf"{_HAN}|(?:(?!{_HAN})[^\W_])+(?:['’-](?:(?!{_HAN})[^\W_])+)*")
_CLAUSE_END = re.compile(r"[.,;:!?](?=\s|$)|[。，；：！？\n]")
_SENTENCE_END = re.compile(r"[.!?。！？\n]")
_SIGNS = {
    "零下": " minus ", "−": "-", "’": "'", "°C": " celsius ", "°F": " fahrenheit ", "°": " degree ",
    "%": " percent ", "$": " dollar ", "€": " euro ", "£": " pound ", "¥": " yen ",
}  # fmt: skip
_HAN_DIGITS = "零〇一二两三四五六七八九十百千万亿"
_HAN_NUMBER = re.compile(
    rf"(?:(?<!\d)\d++)?[{_HAN_DIGITS}](?:点?[{_HAN_DIGITS}]){{0,{LONGEST}}}(?!分(?!钟)|足)"
)
_MEASURED = re.compile(rf"\d+(?:[.,]\d+)?-?{_LETTER}+")
_NUMBER = re.compile(
    r"(?<![^\W\u3400-\u9fff])(?<![.,])(?<![^\W\d_]-)"
    r"(?:(?P<currency>dollar|euro|pound|yen)[ ]+)?(?P<minus>[-–]|(?<!\d )minus +)?"
    rf"(?P<digits>\d++(?:[.,:]\d++)*+)(?!{_LETTER}+\d)[ -]{{0,2}}(?P<unit>{_LETTER}*)"
)
_PLAIN = re.compile(r"\d*\.?\d+|\d+\.")
ORDINAL = "th"


@dataclass(frozen=True)
class Difference:
    """Whether two texts are close, and whether one then has something else in place of what the
    other has."""

    close: bool
    tells: bool


@lru_cache(maxsize=10_000)
def difference(one: str, other: str) -> Difference:
    """Of two whole texts, or where that tells nothing, of their first clauses, in which an answer
    says what it says ("She can return it", "She cannot return it") before its reasons."""
    whole = _difference(_words(one), _words(other))
    if whole.tells:
        return whole
    # The first clause of each that has several words.
    first, second = (
        next((clause for clause in map(_words, _CLAUSE_END.split(text)) if len(clause) > 1), [])
        for text in (one, other)
    )
    return Difference(whole.close, _difference(first, second).tells)


def _difference(left: list[str], right: list[str]) -> Difference:
    if left == right:  # the matcher takes the square of their length where words repeat
        return Difference(close=True, tells=False)
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    quickly = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
    size = max(sum(0.5 if re.match(_HAN, word) else 1.0 for word in text) for text in (left, right))
    close = CLOSE if size > FEW else CLOSE_OF_FEW
    if any(ratio() < close for ratio in quickly):
        return Difference(close=False, tells=False)
    spans = [
        (left[a:b], right[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"
    ]
    moved = {w for span, _ in spans for w in span} & {w for _, span in spans for w in span}
    idle = _SMALL | moved if len(moved - _SMALL) == 1 else _SMALL  # who changes places is two words
    tells = any(
        alike(" ".join(one), " ".join(other)) < SPAN
        for one, other in spans
        if not idle.issuperset(one + other)
    )
    return Difference(close=True, tells=tells)


@lru_cache(maxsize=1000)
def _words(text: str) -> list[str]:
    """Without the numbers and the first yes or no, which are compared by what they say."""
    plain = re.sub(r"\bcan(?:'t|not)\b", "can not", _in_digits(text).casefold())
    words = _WORD.findall(plain.replace("n't", " not"))
    begins = len(words) > 1 and words[0] in _YES | _NO
    return [word for word in words[begins:] if not word[0].isdigit()]


@dataclass(frozen=True)
class Marks:
    """What is read off one text: its numbers (with their signs and units) and its names, in order,
    and the yes (1) or no (-1) that it begins or ends with, else 0."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    verdict: int


def read(texts: Sequence[str], question: str = "") -> list[Marks]:
    """The marks of several answers to one question. A word at the beginning of a sentence is a name
    if it is written large elsewhere."""
    plain = [_plain(text) for text in texts]
    known = {name for each in (*plain, _plain(question)) for name in _surely_names(each)}
    return [
        Marks(
            tuple(
                f"{'-' if match['minus'] else ''}{_value(match['digits'])} "
                f"{_unit(match['unit'].casefold()) or match['currency'] or ''}".rstrip()
                for match in _NUMBER.finditer(_in_digits(text))
            ),
            tuple(name for word in _WORD.findall(each) if (name := _name(word)) in known),
            verdict(text),
        )
        for text, each in zip(texts, plain, strict=True)
    ]


def same_facts(one: str, other: str) -> bool:
    """Whether two texts have the same numbers, whatever their signs and units, and the same names,
    in any order and as often as they like."""
    left, right = read([one, other])
    values = [{number.lstrip("-").partition(" ")[0] for number in m.numbers} for m in (left, right)]
    return values[0] == values[1] and set(left.names) == set(right.names)


def conflict(one: Marks, other: Marks, asked: Marks, *, close: bool) -> bool:
    """Whether two answers cannot mean the same. What only one of them has may be said besides if
    the question has it as well. In what order things come tells only where they are `close` to
    each other in all else: whoever turns a sentence round turns these."""
    return (
        one.verdict * other.verdict < 0
        or _differ(
            _as_said(one.numbers, other.numbers),
            _as_said(other.numbers, one.numbers),
            asked.numbers,
            in_order=close,
        )
        or _differ(one.names, other.names, asked.names, in_order=close)
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


def verdict(text: str) -> int:
    """By the first word or the last one ("so the answer is no")."""
    plain = text.casefold().lstrip()
    words = re.findall(rf"{_LETTER}+", plain) or [""]
    yes = words[0] in _YES or plain.startswith(_HAN_YES)
    no = words[0] in _NO or plain.startswith(_HAN_NO)
    return yes - no or (words[-1] in ("yes", "ja")) - (words[-1] in ("no", "nein"))


def _plain(text: str) -> str:
    """With words in place of the signs of units and currencies."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"([$€£¥%])[-–](?=\d)", r"\1 to ", text)
    text = re.sub(r"[-–−]([$€£¥])", r"\1-", text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    return re.sub(r"(?i)\b(?:degrees?|Grad)\s+(celsius|fahrenheit)", r"\1", text)


def _name(word: str) -> str:
    return word.casefold().removesuffix("'s").removesuffix("'")


def _surely_names(plain: str) -> Iterator[str]:
    """Codes such as RX-200, and words written large inside a sentence, but for "I": in German,
    where all nouns are, only those that go on with a large letter."""
    nouns_are_large = len(_GERMAN.intersection(plain.casefold().split())) > 1
    for sentence in _SENTENCE_END.split(plain):
        for place, word in enumerate(_WORD.findall(sentence)):
            code = re.search(r"\d", word) and re.search("[A-Za-z]", word)
            large = place > 0 and word[0].isupper() and word != "I" and not nouns_are_large
            inside = any(map(str.isupper, word[1:])) and _name(word) not in _units()
            if inside or large or (code and not _MEASURED.fullmatch(word)):
                yield _name(word)


@lru_cache(maxsize=1000)
def _in_digits(text: str) -> str:
    """With the numbers that are said in words, but for those that are articles as well."""
    text = _HAN_NUMBER.sub(_han_digits, _plain(text))
    text = re.sub(r"百分之\s*(\d[\d.]*)", r"\1 percent ", text)
    text = re.sub(r"\b(a|one|per|each) second\b", r"\1 sec", text)
    for language in ("en", "de"):
        text = alpha2digit(text, language, threshold=2)
    # "5 million" and "nineteen fifty-five" come out as two numbers.
    text = re.sub(
        r"(?<![\d.,])(\d+(?:[.,]\d+)?) (1(?:000)+)(?!\d)",
        lambda match: str(Fraction(_value(match[1])) * int(match[2])),
        text,
    )
    return re.sub(r"(?<![\d.,:])(1\d|20) (\d\d)(?![\d:])", r"\1\2", text)


def _han_digits(match: re.Match[str]) -> str:
    """ "一" is in many words that count nothing."""
    said = match[0].replace("两", "二").replace("〇", "零")
    if said == "一":
        return match[0]
    import cn2an  # type: ignore[import-untyped]  # late: the daemon has no use for its memory

    try:
        return f" {cn2an.cn2an(said, 'smart')} "
    except ValueError:
        return match[0]


def _value(digits: str) -> str:
    """A number as it is worth; a time of day as it is written."""
    plain = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", digits).replace(",", ".")
    return str(Fraction(plain)) if len(digits) <= LONGEST and _PLAIN.fullmatch(plain) else digits


def _unit(word: str) -> str:
    """The unit that a word is, or that a run of Chinese begins with."""
    if word in ("st", "nd", "rd", "th"):
        return ORDINAL
    lengths = range(4, 0, -1) if re.match(_HAN, word) else (len(word),)
    return next((unit for n in lengths if (unit := _units().get(word[:n], ""))), "")


@cache
def _units() -> Mapping[str, str]:
    """The names of units in CLDR, long and short, each with the first of a language's names."""
    from babel import Locale
    from babel.units import format_unit

    found = {"dollars": "dollar", "euros": "euro", "pounds": "pound"}
    found |= {unit: unit for unit in (*found.values(), "yen", "celsius", "fahrenheit")}
    found["元"] = "yuan"
    for language in ("en", "de", "zh"):
        for unit in map(str, Locale("en").unit_display_names):
            for length in ("long", "short"):
                for count in (1, 2):
                    said = format_unit(count, unit, length, locale=language).casefold()
                    found.setdefault(re.sub(r"[\d\s]", "", said), unit.partition("-")[2])
    return {name: unit for name, unit in found.items() if name not in ("in", "a", "d", "t", "点")}
