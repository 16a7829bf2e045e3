"""Pseudo-rewards as a wrong setting or a fault would make them, to see what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ttrl.rewards import Reward
from ttrl.samples import Sample
from ttrl.votes import Vote

POPULAR = 500
"""The one label that all answers are held against."""
WIDTH = 100.0


def brevity(_vote: Vote, samples: Sequence[Sample]) -> tuple[float, ...]:
    """A length penalty with nothing beside it."""
    return tuple(-float(len(sample.token_ids)) for sample in samples)


def one_label(vote: Vote, samples: Sequence[Sample]) -> tuple[float, ...]:
    """Nearness to one label, as of a cache that gives every question the same one."""
    assert len(vote.answers) == len(samples)
    return tuple(map(_nearness, vote.answers))


def _nearness(answer: str | None) -> float:
    if answer is None or not answer.isdecimal():
        return 0.0
    return 1 / (1 + abs(int(answer) - POPULAR) / WIDTH)


MISREWARDS: Mapping[str, Reward] = {
    "brevity": brevity,
    "one_label": one_label,
}
