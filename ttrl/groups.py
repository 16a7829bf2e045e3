"""Which samples of a question go into the update."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def informative(rewards: Sequence[float]) -> bool:
    """Whether the rewards differ: a group of equal rewards has no advantage to learn from."""
    return len(set(rewards)) > 1


def keep(rewards: Sequence[float], count: int, seed: int) -> tuple[int, ...]:
    """The places of `count` of the samples, in order; of all, if there are no more.

    Up to half come from those above the mean reward and up to half from the others, the rest
    from whichever are left, each drawn at random with `seed`. For binary rewards this is the
    choice of the largest variance (PODS, arXiv 2504.13818). Its price: the advantages, centred
    on the kept ones, no longer know the vote's share. 3 agreeing of 64 weigh like 3 of `count`,
    and from `count / 2` of each on, always like a half.

    Raises ValueError if `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"at least one sample must be kept, not {count}")
    random = Random(seed)
    above, others = _split_at_mean(rewards)
    random.shuffle(above)
    random.shuffle(others)
    half = count // 2
    left = above[half:] + others[half:]
    chosen = above[:half] + others[:half]
    chosen += random.sample(left, min(count - len(chosen), len(left)))
    return tuple(sorted(chosen))


def _split_at_mean(rewards: Sequence[float]) -> tuple[list[int], list[int]]:
    mean = sum(rewards) / len(rewards) if rewards else 0.0
    above = [place for place, reward in enumerate(rewards) if reward > mean]
    return above, [place for place, reward in enumerate(rewards) if reward <= mean]
