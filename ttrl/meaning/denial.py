"""What a text denies.

A negation turns the next telling word: what one answer denies and another says tells them apart,
however many negations either has. Two before one word turn it back ("not without").
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ttrl.meaning import words

STEM = 5
"""Letters by which "return" and "returned" are one word."""

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:'[^\W_]+)*|[.,;:!?。！？；：\n]")
_ANY_WORD = re.compile(r"\w")
_LITTLE = words.FUNCTION_WORDS | words.AFFIRMERS | words.DENIERS


@dataclass(frozen=True)
class Denial:
    """The stems of the words that are denied and of those that are not; `verdict` is what a leading
    yes (1) or no (-1) says, else 0."""

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
    """What is denied in a text."""
    tokens = _tokens(text)
    verdict = _verdict(tokens)
    found: dict[bool, set[str]] = {True: set(), False: set()}
    turned = False
    for token in tokens[tokens[:1] == ["no"] :]:
        if _negates(token):
            turned = not turned
        elif not _ANY_WORD.match(token) or token in words.CLAUSE_WORDS:
            turned = False
        elif token not in _LITTLE:
            found[turned].add(token[:STEM])
            turned = False
    return Denial(frozenset(found[True]), frozenset(found[False]), verdict)


def _tokens(text: str) -> list[str]:
    said = unicodedata.normalize("NFKC", text).replace("’", "'").casefold()
    for phrase in words.HAN_NOT_NEGATING:
        said = said.replace(phrase, "\n")
    return _TOKEN.findall(said)


def _verdict(tokens: list[str]) -> int:
    begun = "".join(tokens[:3])  # of Chinese each sign is a token
    first = tokens[0] if tokens else ""
    affirms = first in words.AFFIRMERS or begun.startswith(words.HAN_AFFIRMERS)
    denies = first in words.DENIERS | {"no"} or begun.startswith(words.HAN_DENIERS)
    return affirms - denies


def _negates(token: str) -> bool:
    negators = words.NEGATORS | words.HAN_NEGATORS
    return token in negators or token.endswith(words.NEGATED)
