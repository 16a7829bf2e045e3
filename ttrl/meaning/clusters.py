"""Which answers to a question mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ttrl.meaning.likeness import Likeness, Matrix
from ttrl.meaning.numbers import Marks, conflict, difference, read


def agreement(texts: Sequence[str], question: str, likeness: Likeness) -> Matrix:
    """How alike each two answers to a question are, from 0 to 1; 0 where they are not alike enough
    to mean the same, and where what must not differ does."""
    found = [list(row) for row in likeness.compare(texts)]
    asked, *marks = read([question, *texts], question)
    for a in range(len(texts)):
        for b in range(a):
            alike = found[a][b] >= likeness.alike
            if not alike or not _compatible(texts[b], texts[a], marks[b], marks[a], asked):
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


def _compatible(one: str, other: str, ones: Marks, others: Marks, asked: Marks) -> bool:
    """Whether two answers may mean the same, however alike they are."""
    apart = difference(one, other)
    return not apart.tells and not conflict(others, ones, asked, close=apart.close)
