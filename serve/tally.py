"""A vote as people read it: who got how many, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """So many samples, and which part of all; `answer` is what they said, or, if not `said`, what
    they were."""

    answer: str
    count: int
    part: float
    said: bool = True


def tally(vote: Mapping[str, Any], most: int) -> list[Row]:
    """The leading answers, at most so many, the others and the unreadable ones: all samples drawn.
    None where no answer could be read, since such a vote does not know how many there were."""
    counts = vote["counts"]
    if not counts:
        return []
    every = max(sum(n for _, n in counts), round(counts[0][1] / (vote["share"] or 1.0)))
    return [Row(answer, n, n / every, said) for answer, n, said in _rows(counts, every, most)]


def _rows(counts: list[tuple[str, int]], every: int, most: int) -> Iterator[tuple[str, int, bool]]:
    for answer, count in counts[:most]:
        yield answer, count, True
    if others := counts[most:]:
        plural = "s" if len(others) > 1 else ""
        yield f"{len(others)} more answer{plural}", sum(count for _, count in others), False
    if unreadable := every - sum(count for _, count in counts):
        yield "unreadable", unreadable, False
