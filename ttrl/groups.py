"""Which samples of a question go into the update."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from random import Random


class Downsampling(StrEnum):
    """How fewer samples than voted are chosen to be trained on."""

    VARIANCE = "variance"
    """Those whose rewards vary most (PODS, arXiv 2504.13818)."""
    RANDOM = "random"
    """Any (TTRL as published, arXiv 2504.16084)."""
    FIRST = "first"
    """Those that were drawn first."""


def informative(rewards: Sequence[float]) -> bool:
    """Whether the rewards differ: a group of equal rewards has no advantage to learn from."""
    return len(set(rewards)) > 1


def keep(
    rewards: Sequence[float],
    count: int,
    seed: int,
    how: Downsampling = Downsampling.VARIANCE,
) -> tuple[int, ...]:
    """The places of `count` of the samples, in order; of all, if there are no more. `seed` draws
    the random ones, and which of those that are worth the same.

    The largest variance has its price: the advantages, centred on the kept ones, no longer know
    the vote's share. 3 agreeing of 64 weigh like 3 of `count`, and from `count / 2` of each on,
    always like a half.

    Raises ValueError if `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"at least one sample must be kept, not {count}")
    places = list(range(len(rewards)))
    if how is not Downsampling.FIRST:
        Random(seed).shuffle(places)
    if how is Downsampling.VARIANCE and len(places) > count:
        places = _most_varied(places, rewards, count)
    return tuple(sorted(places[:count]))


def _most_varied(places: Sequence[int], rewards: Sequence[float], count: int) -> list[int]:
    """The highest and the lowest, so many of each as vary most: no other choice varies more (PODS,
    theorem 1). After sorting each split is weighed in constant time. Of equal ones those that
    `places` has first are lowest."""
    ranked = sorted(places, key=rewards.__getitem__)
    middle = sum(rewards) / len(rewards)  # taken off, lest squares cancel out
    sums = [0.0, *accumulate(rewards[place] - middle for place in ranked)]
    squares = [0.0, *accumulate((rewards[place] - middle) ** 2 for place in ranked)]

    def variance(highest: int) -> float:
        low, high = count - highest, len(ranked) - highest
        mean, square = ((row[low] + row[-1] - row[high]) / count for row in (sums, squares))
        return square - mean**2

    highest = max(range(count + 1), key=variance)
    return ranked[: count - highest] + ranked[len(ranked) - highest :]
