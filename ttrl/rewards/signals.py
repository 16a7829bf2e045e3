"""The built-in rewards: by agreement with the vote, by form, and by similarity between answers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from ttrl.meaning import Likeness, Matrix
from ttrl.rewards.ballot import Ballot


def majority(ballot: Ballot) -> list[float]:
    """1 where the answer is the label, else 0 (Zuo et al., TTRL, arXiv 2504.16084)."""
    return [float(agrees) for agrees in ballot.agreeing]


def soft_majority(ballot: Ballot) -> list[float]:
    """The share of the samples that give the same answer, 0 for one that cannot be read: what a
    narrow majority is unsure of, it teaches less surely. What only looks like a free text that
    answers loses by ttrl.meaning.honesty. All 0 without a label."""
    if ballot.vote.label is None:
        return [0.0] * len(ballot.samples)
    votes = dict(ballot.vote.counts)
    return [
        honest * votes.get(answer, 0) / len(ballot.samples) if answer else 0.0
        for answer, honest in zip(ballot.vote.answers, ballot.honesty, strict=True)
    ]


NGRAM = 3
"""Tokens in a row that count as repeated when they come again."""
FREE = 0.8
"""Part of `max_tokens` up to which no length is overlong."""

SAID_BEFORE = 0.9
"""Likeness from which on a sentence says what another did."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？\n]")


def readable(ballot: Ballot) -> list[float]:
    """1 where a final answer can be read, else 0."""
    return [float(answer is not None) for answer in ballot.vote.answers]


def length(ballot: Ballot) -> list[float]:
    """Of answers that are the label from 1 (short) to 1/2 (as long as may be), of others from -1/2
    to 0, along a cosine: shorter is better for those that agree, and not for those that may only
    have said too little (Yeo et al., "Demystifying long chain-of-thought", arXiv 2502.03373). What
    was thought before the answer does not count."""
    ways = ((-0.5, 0.0), (1.0, 0.5))
    return [
        _cosine(tokens / ballot.max_tokens, *ways[agrees])
        for tokens, agrees in zip(ballot.lengths, ballot.agreeing, strict=True)
    ]


def _cosine(part: float, shortest: float, longest: float) -> float:
    return longest + (shortest - longest) * (1 + math.cos(math.pi * min(part, 1.0))) / 2


def overlong(ballot: Ballot) -> list[float]:
    """0 up to `FREE` of the tokens there may be, from there down to -1 (DAPO's soft overlong
    punishment, arXiv 2503.14476, equation 13). Thoughts count: they are cut off at the same limit.
    What was cut off is not trained on at all, as DAPO's overlong filtering has it."""
    parts = (len(sample.token_ids) / ballot.max_tokens for sample in ballot.samples)
    return [-min(max(0.0, part - FREE) / (1 - FREE), 1.0) for part in parts]


def repetition(ballot: Ballot) -> list[float]:
    """From 0 down to -1: the share of an answer's runs of three tokens that it has said before (Yeo
    et al.). Of token ids, since a split into words sees nothing where none are written; without
    those of the thoughts, which weigh the same things again and again."""
    return [
        -_repeated(sample.token_ids[len(sample.token_ids) - tokens :])
        for sample, tokens in zip(ballot.samples, ballot.lengths, strict=True)
    ]


def _repeated(ids: Sequence[int]) -> float:
    runs = [tuple(ids[start : start + NGRAM]) for start in range(len(ids) - NGRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def echo(ballot: Ballot) -> list[float]:
    """From 0 down to -1: the share of an answer's sentences that say what an earlier one of them
    said, by the likeness that free texts are compared with."""
    return [-_echoed(text, ballot.reader.likeness) for text in ballot.texts]


def _echoed(text: str, likeness: Likeness) -> float:
    parts = [part for part in _SENTENCE.split(text) if any(map(str.isalnum, part))]
    if len(parts) < 2:
        return 0.0
    alike = likeness.compare(parts)
    again = [max(alike[at][:at]) >= SAID_BEFORE for at in range(1, len(parts))]
    return sum(again) / len(again)


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
