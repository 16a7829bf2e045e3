"""Proof of service: does the engine answer with the weights that it was told to load?

A run pins some of its sequences and computes, in the trainer, the log-probability of each of their
tokens under the new version, under the base and under the version it started from. Read back
through the engine, they must be the new version's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

TOLERANCE = {"float32": 0.02, "bfloat16": 0.3}
"""Root mean square difference, in nats a token, that engine and trainer may have on the same
weights. In bfloat16 a logit of 20 is rounded by up to 0.06, and the kernels differ."""
SURE = 3.0
"""Standard errors that must lie between what was read and the point half way."""


class Proof(StrEnum):
    """What the log-probabilities that were read back say."""

    PROVEN = "proven"
    INDISTINCT = "indistinct"
    """This version cannot be told apart from the base or from the one before it."""
    MISMATCH = "mismatch"
    NOTHING_PINNED = "nothing_pinned"
    """There is nothing to compare with: the questions were deleted, or never were."""

    @property
    def may_serve(self) -> bool:
        return self is not Proof.MISMATCH


@dataclass(frozen=True)
class Pin:
    """A sequence to compare on, from its token at `start`, and the question that it answers."""

    question_id: int
    token_ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Pinned:
    """A pin with what the trainer computed: the log-probabilities of its tokens from `start` on,
    under the version itself, the base, and the version that it was trained from (None: that was
    the base)."""

    pin: Pin
    dtype: str
    own: tuple[float, ...]
    base: tuple[float, ...]
    parent: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Evidence:
    """The outcome and its numbers: `distance` is the root mean square difference from this
    version's log-probabilities in nats a token, `towards` how far the way from each other version
    to this one has been gone (1: all, 0: none), with its standard error."""

    proof: Proof
    distance: float = 0.0
    towards: tuple[tuple[float, float], ...] = ()

    def words(self) -> str:
        ways = ", ".join(f"{way:.2f}±{error:.2f}" for way, error in self.towards)
        return (
            f"{self.proof}, log-probabilities {self.distance:.2g} nats per token from the trainer's"
            + (f", {ways} of the way there from other weights" if ways else "")
        )


def prove(pinned: Sequence[Pinned], served: Sequence[Sequence[float]]) -> Evidence:
    """Compare what the engine served for each pin with what the trainer computed.

    With s served, e this version's and b another's log-probabilities, regression of s - b on e - b
    through the origin gives the part of the way from b to e that was gone: above a half, s is
    closer to e in the Euclidean distance. Its standard error says whether that can be told from
    noise, which averages out over the tokens.
    """
    if not pinned:
        return Evidence(Proof.NOTHING_PINNED)
    read = [value for values in served for value in values]
    own = [value for each in pinned for value in each.own]
    others = [[value for each in pinned for value in each.base]]
    if all(each.parent is not None for each in pinned):
        others.append([value for each in pinned for value in each.parent or ()])
    towards = tuple(_way(read, own, other) for other in others)
    distance = math.sqrt(sum((s - e) ** 2 for s, e in zip(read, own, strict=True)) / len(own))
    tolerance = max(TOLERANCE.get(each.dtype, max(TOLERANCE.values())) for each in pinned)
    proof = Proof.INDISTINCT
    if not distance <= tolerance or any(way + SURE * error < 0.5 for way, error in towards):
        proof = Proof.MISMATCH
    elif all(way - SURE * error > 0.5 for way, error in towards):
        proof = Proof.PROVEN
    return Evidence(proof, distance, towards)


def _way(
    read: Sequence[float], own: Sequence[float], other: Sequence[float]
) -> tuple[float, float]:
    """Return the part of the way from `other` to `own` that `read` has gone, and its standard
    error."""
    steps = [e - b for e, b in zip(own, other, strict=True)]
    gone = [s - b for s, b in zip(read, other, strict=True)]
    length = sum(step * step for step in steps)
    if not length:
        return 0.0, math.inf
    way = sum(step * far for step, far in zip(steps, gone, strict=True)) / length
    rest = sum((far - way * step) ** 2 for step, far in zip(steps, gone, strict=True))
    return way, math.sqrt(rest / max(len(steps) - 1, 1) / length)
