"""What an answer is worth for its form: whether it can be read, how long it is, whether it repeats
itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ttrl.meaning import Likeness
from ttrl.rewards.ballot import Ballot
from ttrl.samples import Finish

NGRAM = 3
"""Tokens in a row that count as repeated when they come again."""
FREE = 0.8
"""Part of `max_tokens` up to which no length is overlong."""

SAID_BEFORE = 0.9
"""Likeness from which on a sentence says what another did."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？\n]")


def readable(ballot: Ballot) -> list[float]:
    """1 where a final answer can be read, else 0; one that was cut off has none."""
    return [float(answer is not None) for answer in ballot.vote.answers]


def length(ballot: Ballot) -> list[float]:
    """Of answers that are the label from 1 (short) to 1/2 (as long as may be), of others from -1/2
    to 0, along a cosine: shorter is better for those that agree, and not for those that may only
    have thought too little (Yeo et al., "Demystifying long chain-of-thought", arXiv 2502.03373)."""
    ways = ((-0.5, 0.0), (1.0, 0.5))
    return [
        _cosine(tokens / ballot.max_tokens, *ways[agrees])
        for tokens, agrees in zip(ballot.lengths, ballot.agreeing, strict=True)
    ]


def _cosine(part: float, shortest: float, longest: float) -> float:
    return longest + (shortest - longest) * (1 + math.cos(math.pi * min(part, 1.0))) / 2


def overlong(ballot: Ballot) -> list[float]:
    """0 up to `FREE` of what may be said, from there down to -1, which an answer that was cut off
    has as well (DAPO's soft overlong punishment, arXiv 2503.14476, equation 13)."""
    return [
        -1.0
        if sample.finish is Finish.LENGTH
        else -min(max(0.0, tokens / ballot.max_tokens - FREE) / (1 - FREE), 1.0)
        for sample, tokens in zip(ballot.samples, ballot.lengths, strict=True)
    ]


def repetition(ballot: Ballot) -> list[float]:
    """From 0 down to -1: the share of an answer's runs of three tokens that it has said before (Yeo
    et al.). Of token ids, since a split into words sees nothing where none are written."""
    return [-_repeated(sample.token_ids) for sample in ballot.samples]


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
