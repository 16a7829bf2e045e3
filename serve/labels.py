"""Judging a pair blind: which side is shown as A, and what a judgement of it means."""

from __future__ import annotations

import random

from ttrl.labelling import Judged, Side
from ttrl.store.comparisons import StoredPair

WORDS = {"a": "a", "b": "b", "both": "=", "neither": "n", "skip": "?"}
"""What can be said of a pair, and the key for it."""
SAME = {"both": Judged.BOTH, "neither": Judged.NEITHER, "skip": Judged.CANNOT_TELL}


def sides(stored: StoredPair) -> tuple[tuple[Judged, Side], tuple[Judged, Side]]:
    """A and B, in an order that is a pair's own and tells nothing."""
    both = [(Judged.LIVE, stored.pair.live), (Judged.CANDIDATE, stored.pair.candidate)]
    a, b = random.Random(stored.id).sample(both, 2)
    return a, b


def judged(stored: StoredPair, word: str) -> Judged:
    """Which version a word of WORDS is for."""
    (if_a, _), (if_b, _) = sides(stored)
    return {"a": if_a, "b": if_b, **SAME}[word]
