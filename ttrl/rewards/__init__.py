"""What each sample of a question is worth, given the vote: one small module a reward, and the one
place where their weighted sum is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from ttrl.rewards.majority import majority
from ttrl.samples import Sample
from ttrl.votes import Vote

Reward = Callable[[Vote, Sequence[Sample]], tuple[float, ...]]
"""From a vote and the samples it was taken over, in the same order, to one number a sample."""

REWARDS: dict[str, Reward] = {"majority": majority}


def total(vote: Vote, samples: Sequence[Sample], weights: Mapping[str, float]) -> tuple[float, ...]:
    """Each sample's weighted sum of the rewards named in `weights`.

    Raises ValueError for a reward that there is not.
    """
    terms = [[weight * worth for worth in find(name)(vote, samples)]
             for name, weight in weights.items()]  # fmt: skip
    return tuple(sum(worths) for worths in zip(*terms, strict=True)) or (0.0,) * len(samples)


def find(name: str) -> Reward:
    """The reward of that name; ValueError, with the nearest name, if there is none."""
    if name in REWARDS:
        return REWARDS[name]
    near = get_close_matches(name, REWARDS, n=1, cutoff=0.0)
    raise ValueError(f"there is no reward {name!r}; did you mean {near[0]!r}?")
