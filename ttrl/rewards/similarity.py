"""What an answer is worth for being like others, or like a reference.

Each is an absolute score of one answer from 0 to 1, never a rank: in a group of bad answers none is
good. What only looks like an answer loses by ttrl.meaning.honesty.
"""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

from ttrl.meaning import Matrix
from ttrl.rewards.ballot import Ballot


def centrality(ballot: Ballot) -> list[float]:
    """How far the others say the same, on average, times the share of those pairs of them that
    agree with each other: who agrees with both sides says nothing."""
    others = max(len(ballot.samples) - 1, 1)
    return [
        (sum(row) - row[place]) / others * honest * _coherence(ballot.agree, place)
        for place, (row, honest) in enumerate(zip(ballot.agree, ballot.honesty, strict=True))
    ]


def _coherence(agree: Matrix, place: int) -> float:
    friends = [other for other, each in enumerate(agree[place]) if each and other != place]
    return fmean(agree[a][b] > 0 for a, b in combinations(friends, 2)) if friends[1:] else 1.0


def consensus(ballot: Ballot) -> list[float]:
    """How far those that carry the label say the same; all 0 without a label."""
    carriers = [place for place, agrees in enumerate(ballot.agreeing) if agrees]
    if not carriers:
        return [0.0] * len(ballot.samples)
    return [
        fmean(row[place] for place in carriers) * honest
        for row, honest in zip(ballot.agree, ballot.honesty, strict=True)
    ]


def reference(ballot: Ballot) -> list[float]:
    """How close the answer is to the nearest reference; all 0 where there is none."""
    if not ballot.references:
        return [0.0] * len(ballot.samples)
    return [
        honest
        and honest
        * ballot.reader.close(sample.text, ballot.references, ballot.question, ballot.vote.kind)
        for sample, honest in zip(ballot.samples, ballot.honesty, strict=True)
    ]


def novelty(ballot: Ballot) -> list[float]:
    """How unlike the other ways to the label a way to it is, from 0 to 1 within the majority
    (EVOL-RL, arXiv 2509.15194): half by the mean likeness to the others that carry the label, half
    by the highest to any other sample. A half where they do not differ, 0 for all others."""
    carriers = [place for place, agrees in enumerate(ballot.agreeing) if agrees]
    unlike = {place: 1 - _nearness(ballot, place, carriers) for place in carriers}
    low, high = min(unlike.values(), default=0.0), max(unlike.values(), default=0.0)
    spread = high - low
    scaled = {place: (u - low) / spread if spread else 0.5 for place, u in unlike.items()}
    return [scaled.get(place, 0.0) for place in range(len(ballot.samples))]


def _nearness(ballot: Ballot, place: int, carriers: list[int]) -> float:
    row = ballot.alike[place]
    among = [row[other] for other in carriers if other != place]
    rest = [likeness for other, likeness in enumerate(row) if other != place]
    return (fmean(among or [0.0]) + max(rest, default=0.0)) / 2
