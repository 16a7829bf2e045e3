"""How alike texts are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

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

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


class Letters:
    """The cosine of how often each run of letters comes, counted by its logarithm."""

    words = "letters in common (a meaning.model compares meanings)"

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
    words = [f" {word} " for word in _WORD.findall(text.casefold())]
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
