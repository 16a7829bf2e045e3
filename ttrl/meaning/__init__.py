"""What free texts mean: which of them say the same, how alike they are, and which only look so.

Likeness can be gamed: the question said again has its names and numbers, a text that holds all
answers is like each of them, and one that commits itself to nothing contradicts none. The factors
of `honesty` take that back. An answer on another subject needs none: it is like no other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from ttrl.meaning.differences import (
    Letters,
    Likeness,
    Matrix,
    conflict,
    difference,
    read,
    same_facts,
    verdict,
)
from ttrl.meaning.judging import Judge

__all__ = [
    "Judge", "Letters", "Likeness", "Matrix", "agreement", "central", "cluster", "copied",
    "honesty", "merged", "same_facts",
]  # fmt: skip

RUN = 5
"""Words that stand side by side in the question and in an answer are copied; of a shorter question,
all of its words."""

ROOM = 1.2
"""Times the group's median length that an answer may have; beyond, it loses in proportion. What is
said twice, in two wordings, is at most half as much again like the others, and twice as long."""

HEDGES = (
    r"\bit (?:all )?depends\b", r"\bdepends on (?:many|several|various|the (?:case|situation))",
    r"\b(?:not|n't) (?:be )?(?:quite |entirely )?(?:sure|certain)\b", r"\bhard to (?:say|tell)\b",
    r"\b(?:perhaps|maybe|possibly|presumably)\b", r"\bmay or may not\b", r"\bmight or might not\b",
    r"\bcannot (?:say|tell|know)\b", r"\bcan't (?:say|tell|know)\b", r"\bcould be either\b",
    r"\bon the (?:one|other) hand\b", r"\bsome (?:would )?say\b", r"\beither way\b",
    r"\bes (?:kommt darauf an|hängt davon ab)\b", r"\bvielleicht\b", r"\bmöglicherweise\b",
    r"\bschwer zu sagen\b", r"\bnicht sicher\b", "也许", "可能是", "不确定",
    "不好说", "视情况", "看情况",
)  # fmt: skip
"""Patterns of what is said to be committed to nothing."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_HEDGE = re.compile("|".join(HEDGES), re.IGNORECASE)
_CLAUSE = re.compile(r"[^.,;:!?。，；：！？\n]+")


def agreement(
    texts: Sequence[str], question: str, likeness: Likeness, judge: Judge | None = None
) -> Matrix:
    """How alike each two answers to a question are, from 0 to 1; 0 where they are not alike enough
    to mean the same, and where what must not differ does. With a judge, who is asked about what
    numbers, names, yes and no leave open, 1 or 0."""
    asked, *marks = read([question, *texts], question)

    def alike() -> Matrix:
        found = [list(row) for row in likeness.compare(texts)]
        for a in range(len(texts)):
            for b in range(a):
                if found[a][b] >= likeness.alike:
                    apart = difference(texts[b], texts[a])
                    told = apart.tells or conflict(marks[a], marks[b], asked, close=apart.close)
                    if not told:
                        continue
                found[a][b] = found[b][a] = 0.0
        return found

    if judge is None:
        return alike()
    numbers = judge.cluster(
        question, texts, lambda a, b: conflict(marks[a], marks[b], asked, close=False), alike
    )
    return [[float(a == b) for b in numbers] for a in numbers]


def merged(answers: Sequence[str | None], question: str, judge: Judge) -> list[str | None]:
    """Short answers, with one for those that the judge says are the same: the most frequent."""
    distinct = [each for each, _ in Counter(filter(None, answers)).most_common()]
    agree = agreement(distinct, question, _AsWritten(), judge)
    heads = {text: distinct[row.index(1.0)] for text, row in zip(distinct, agree, strict=True)}
    return [heads.get(answer) if answer else answer for answer in answers]


class _AsWritten:
    """Only the same text is alike."""

    alike, words = 1.0, "what is written"

    def compare(self, texts: Sequence[str]) -> Matrix:
        return [[float(one == other) for other in texts] for one in texts]


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
    if not run or (len(asked) < RUN and verdict(text)):
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
