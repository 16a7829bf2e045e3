"""What a text denies.

A negation turns the next telling word, or, at the end of a clause, the last one that is no name and
no German noun ("liefern am Samstag nicht"): what one answer denies and another says tells them
apart, however many negations either has. Two before one word turn it back ("not without").
"Illegal" is "not legal".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from ttrl.meaning import words

STEM = 5
"""Letters by which "return" and "returned" are one word."""

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:'[^\W_]+)*|[.,;:!?。！？；：\n]")
_BASES = "|".join(words.NEGATED_BY_PREFIX)
_PREFIXED = re.compile(rf"(?:un|in|im|il|ir)(?=(?:{_BASES}))")
_ANY_WORD = re.compile(r"\w")
_LITTLE = words.FUNCTION_WORDS | words.AFFIRMERS | words.DENIERS


@dataclass(frozen=True)
class Denial:
    """The stems of the words that are denied and of those that are not; `verdict` is what a yes (1)
    or a no (-1) says that the text begins or ends with, else 0."""

    denied: frozenset[str]
    said: frozenset[str]
    verdict: int

    def contradicts(self, other: Denial) -> bool:
        """Whether one denies what the other says, or they begin with yes and no."""
        return bool(
            self.verdict * other.verdict < 0
            or self.denied & (other.said - other.denied)
            or other.denied & (self.said - self.denied)
        )


def denial(text: str) -> Denial:
    """What is denied in a text. One that tells nothing else is a yes or a no ("it does not")."""
    tokens = _tokens(text)
    plain = [token.casefold() for token in tokens]
    told: list[_Told] = []
    left_over = False
    for clause in _clauses(tokens[plain[:1] == ["no"] :]):
        words_of_it, turned = _read(clause)
        told += words_of_it
        left_over = left_over or turned
    denied, said = (
        frozenset(each.stem for each in told if each.turned == t) for t in (True, False)
    )
    bare = 0 if told or not tokens else -1 if left_over else 1
    return Denial(denied, said, _verdict(plain) or bare)


@dataclass
class _Told:
    word: str
    turned: bool

    @property
    def stem(self) -> str:
        return self.word.casefold()[:STEM]


def _clauses(tokens: list[str]) -> Iterator[list[str]]:
    """No negation reaches over the end of one."""
    clause: list[str] = []
    for token in tokens:
        if _ANY_WORD.match(token) and token.casefold() not in words.CLAUSE_WORDS:
            clause.append(token)
        else:
            yield clause
            clause = []
    yield clause


def _read(clause: list[str]) -> tuple[list[_Told], bool]:
    """A clause's telling words, and whether a negation is left over."""
    told: list[_Told] = []
    turned = False
    last = ""
    for word in clause:
        plain = word.casefold()
        if turned and plain in words.OF_NEGATION:
            continue
        last = plain
        if _negates(plain):
            turned = not turned
        elif plain not in _LITTLE:
            base = _PREFIXED.sub("", plain, count=1)
            told.append(_Told(base if base != plain else word, turned != (base != plain)))
            turned = False
    small = [each for each in told if each.word.islower()]
    if turned and small and last in words.NEGATES_BACK:
        small[-1].turned, turned = not small[-1].turned, False
    return told, turned


def _tokens(text: str) -> list[str]:
    said = unicodedata.normalize("NFKC", text).replace("’", "'")
    for phrase in words.NOT_NEGATING:
        said = said.replace(phrase, "\n")
    return _TOKEN.findall(said)


def _verdict(tokens: list[str]) -> int:
    """By the first word or the last one ("so the answer is no")."""
    begun = "".join(tokens[:3])  # of Chinese each sign is a token
    first = tokens[0] if tokens else ""
    affirms = first in words.AFFIRMERS or begun.startswith(words.HAN_AFFIRMERS)
    denies = first in words.DENIERS | {"no"} or begun.startswith(words.HAN_DENIERS)
    last = next((token for token in reversed(tokens) if _ANY_WORD.match(token)), "")
    return affirms - denies or (last in ("yes", "ja")) - (last in ("no", "nein"))


def _negates(token: str) -> bool:
    negators = words.NEGATORS | words.HAN_NEGATORS
    return token in negators or token.endswith(words.NEGATED)
