"""What two texts that are nearly the same differ in.

A sentence with one word exchanged is very like the one that it was, by letters and by embeddings,
and may say the opposite. So of texts that have most words in common the rest is looked at alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from ttrl.meaning import letters, words
from ttrl.meaning.numbers import besides_numbers
from ttrl.meaning.tokens import is_han, tokens

CLOSE = 0.65
"""Part of their telling words that two texts have in common, in the same order, from which on they
are close."""
FEW, CLOSE_OF_FEW = 2, 0.5
"""And that part of so few words (two signs of Chinese are one): of two, one may be exchanged."""
SPAN = 0.6
"""How alike what is exchanged in close texts must be."""

_TOLD_ELSEWHERE = (
    words.FUNCTION_WORDS | words.CLAUSE_WORDS | words.NEGATORS | words.AFFIRMERS | words.DENIERS
)
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+")


@dataclass(frozen=True)
class Difference:
    """Between two texts: whether they are close, and whether one then has something else in place
    of what the other has."""

    close: bool
    tells: bool


@lru_cache(maxsize=10_000)
def difference(one: str, other: str) -> Difference:
    """What two texts differ in."""
    left, right = _telling(one), _telling(other)
    if left == right:
        return Difference(close=True, tells=False)
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    quickly = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
    close = CLOSE if max(map(_size, (left, right))) > FEW else CLOSE_OF_FEW
    if any(ratio() < close for ratio in quickly):
        return Difference(close=False, tells=False)
    spans = (
        (" ".join(left[a:b]), " ".join(right[c:d]))
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal"
    )
    return Difference(close=True, tells=any(letters.alike(*span) < SPAN for span in spans))


def _size(telling: Sequence[str]) -> float:
    return sum(0.5 if is_han(word) else 1.0 for word in telling)


@lru_cache(maxsize=1000)
def _telling(text: str) -> list[str]:
    said = " ".join(besides_numbers(tokens(text)))
    return [word for word in _WORD.findall(said) if not _told_elsewhere(word)]


def _told_elsewhere(word: str) -> bool:
    """Of negations and codes ttrl.meaning.marks knows when they are the same."""
    return word in _TOLD_ELSEWHERE or word[0].isdigit()
