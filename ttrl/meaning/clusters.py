"""Which answers to a question mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ttrl.meaning.likeness import Likeness, Matrix
from ttrl.meaning.marks import conflict, read
from ttrl.meaning.spans import difference


def agreement(texts: Sequence[str], question: str, likeness: Likeness) -> Matrix:
    """How alike each two answers to a question are, from 0 to 1; 0 where they are not alike enough
    to mean the same, and where what must not differ does."""
    alike = likeness.compare(texts)
    may = _compatible(texts, question)
    return [
        [a if m and a >= likeness.alike else 0.0 for a, m in zip(*rows, strict=True)]
        for rows in zip(alike, may, strict=True)
    ]


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


def _compatible(texts: Sequence[str], question: str) -> list[list[bool]]:
    """Whether each two answers may mean the same, however alike they are."""
    asked, *marks = read([question, *texts], question)
    found = [[True] * len(texts) for _ in texts]
    for a in range(len(texts)):
        for b in range(a):
            apart = difference(texts[b], texts[a])
            fits = not apart.tells and not conflict(marks[a], marks[b], asked, close=apart.close)
            found[a][b] = found[b][a] = fits
    return found
