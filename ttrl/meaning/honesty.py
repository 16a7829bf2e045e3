"""What makes an answer look like the others without answering.

Likeness can be gamed: the question said again has its names and numbers, a text that holds all
answers is like each of them, and one that commits itself to nothing contradicts none. The factors
here take that back. An answer on another subject needs none: it is like no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from ttrl.meaning.words import HEDGES

RUN = 5
"""Words that stand side by side in the question and in an answer are copied."""

PADDED = 2.0
"""Times the group's median length, from which on an answer loses."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_HEDGE = re.compile("|".join(HEDGES), re.IGNORECASE)


def honesty(texts: Sequence[str], question: str, lengths: Sequence[int]) -> list[float]:
    """For each answer a factor from 0 to 1; `lengths` is in tokens."""
    usual = median(lengths) if lengths else 0
    hedging = [bool(_HEDGE.search(text)) for text in texts]
    unusual = sum(hedging) * 2 < len(texts)  # where most hedge, it depends indeed
    return [
        min(1.0, 2 * (1 - copied(text, question)))
        * min(1.0, PADDED * usual / max(length, 1))
        * (0.5 if unusual and hedges else 1.0)
        for text, length, hedges in zip(texts, lengths, hedging, strict=True)
    ]


def copied(text: str, question: str) -> float:
    """The share of an answer's words that stand in runs of the question."""
    words, asked = (_WORD.findall(each.casefold()) for each in (text, question))
    runs = {tuple(asked[start : start + RUN]) for start in range(len(asked) - RUN + 1)}
    found = [
        any(
            tuple(words[start : start + RUN]) in runs
            for start in range(max(0, at - RUN + 1), at + 1)
        )
        for at in range(len(words))
    ]
    return sum(found) / len(found) if found else 0.0
