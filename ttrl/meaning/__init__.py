"""What free texts mean: which of them say the same, how alike they are, and which only look so.

Likeness can be gamed: the question said again has its names and numbers, a text that holds all
answers is like each of them, and one that commits itself to nothing contradicts none. The factors
of `honesty` take that back. An answer on another subject needs none: it is like no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean, median

from ttrl.meaning.likeness import Letters, Likeness, Matrix
from ttrl.meaning.numbers import conflict, difference, read
from ttrl.meaning.words import HEDGES, denial

__all__ = [
    "Letters", "Likeness", "Matrix", "agreement", "central", "cluster", "copied", "honesty",
]  # fmt: skip

RUN = 5
"""Words that stand side by side in the question and in an answer are copied; of a shorter question,
all of its words."""

ROOM = 1.2
"""Times the group's median length that an answer may have; beyond, it loses in proportion. What is
said twice, in two wordings, is at most half as much again like the others, and twice as long."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_HEDGE = re.compile("|".join(HEDGES), re.IGNORECASE)
_CLAUSE = re.compile(r"[^.,;:!?。，；：！？\n]+")


def agreement(texts: Sequence[str], question: str, likeness: Likeness) -> Matrix:
    """How alike each two answers to a question are, from 0 to 1; 0 where they are not alike enough
    to mean the same, and where what must not differ does."""
    found = [list(row) for row in likeness.compare(texts)]
    asked, *marks = read([question, *texts], question)
    for a in range(len(texts)):
        for b in range(a):
            if found[a][b] >= likeness.alike:
                apart = difference(texts[b], texts[a])
                if not apart.tells and not conflict(marks[a], marks[b], asked, close=apart.close):
                    continue
            found[a][b] = found[b][a] = 0.0
    return found


def cluster(agree: Matrix) -> list[int]:
    """For each answer the number of its cluster, counted from 0 in the order of their first ones.

    An answer joins the cluster that it agrees with most, on average, of those whose every member it
    agrees with: no chain of small steps leads from one meaning to another.
    """
    clusters: list[list[int]] = []
    for each, row in enumerate(agree):
        fitting = [c for c in clusters if all(row[member] > 0 for member in c)]
        if fitting:
            max(fitting, key=lambda c: fmean(row[member] for member in c)).append(each)
        else:
            clusters.append([each])
    number = {member: place for place, members in enumerate(clusters) for member in members}
    return [number[each] for each in range(len(agree))]


def central(agree: Matrix, members: Sequence[int]) -> int:
    """Which of the members agrees most with the others; of several the first."""
    return max(members, key=lambda each: fmean(agree[each][other] for other in members))


def honesty(texts: Sequence[str], question: str, lengths: Sequence[int]) -> list[float]:
    """For each answer a factor from 0 to 1; `lengths` is in tokens, without those of thoughts."""
    usual = median(lengths) if lengths else 0
    hedging = [hedged(text) for text in texts]
    unusual = sum(map(bool, hedging)) * 2 <= len(texts)  # where most hedge, it depends indeed
    return [
        _own(copied(text, question), length / max(usual, 1))
        * min(1.0, ROOM * usual / max(length, 1))
        * (min(0.5, 1 - hedges) if unusual and hedges else 1.0)
        for text, length, hedges in zip(texts, lengths, hedging, strict=True)
    ]


def _own(share: float, long: float) -> float:
    """What is left without the share that is copied, of an answer so many times as long as usual:
    nothing of one that is all copied, and no more of one that says something besides at length."""
    return max(0.0, min(1 - share * long, 2 * (1 - share)))


def hedged(text: str) -> float:
    """The share of an answer's words that stand in clauses which commit themselves to nothing."""
    clauses = _CLAUSE.findall(text)
    words = [len(_WORD.findall(clause)) for clause in clauses]
    hedges = [n for n, clause in zip(words, clauses, strict=True) if _HEDGE.search(clause)]
    return sum(hedges) / max(sum(words), 1)


def copied(text: str, question: str) -> float:
    """The share of an answer's words that stand in runs of the question. Who says yes or no to a
    short question may say it again."""
    words, asked = (_WORD.findall(each.casefold()) for each in (text, question))
    run = min(RUN, len(asked))
    if not run or (len(asked) < RUN and denial(text).verdict):
        return 0.0
    runs = {tuple(asked[start : start + run]) for start in range(len(asked) - run + 1)}
    found = [
        any(
            tuple(words[start : start + run]) in runs
            for start in range(max(0, at - run + 1), at + 1)
        )
        for at in range(len(words))
    ]
    return sum(found) / len(found) if found else 0.0
