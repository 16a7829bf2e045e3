"""What each sample of a question is worth: one table of rewards, and the one place where their
weighted sum is made.

A reward is any function that takes a `Ballot` and gives one number a sample, in their order, about
1 from the worst to the best. Besides those in the table there are your own: `module:function` names
one that Python can import, and a package may offer some under the entry point `ttrl.rewards`.
"""

from __future__ import annotations

import importlib
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, cast

from ttrl.rewards.agreement import majority, soft_majority
from ttrl.rewards.ballot import Ballot
from ttrl.rewards.form import echo, length, overlong, readable, repetition
from ttrl.rewards.similarity import centrality, consensus, novelty, reference

__all__ = ["REWARDS", "Ballot", "Reward", "RewardFailed", "find", "total"]

Reward = Callable[[Ballot], Sequence[float]]
"""From a question's samples and their vote to one number a sample, in the same order."""

REWARDS: Mapping[str, Reward] = {
    "majority": majority,
    "soft_majority": soft_majority,
    "centrality": centrality,
    "consensus": consensus,
    "reference": reference,
    "novelty": novelty,
    "readable": readable,
    "length": length,
    "overlong": overlong,
    "repetition": repetition,
    "echo": echo,
}


class RewardFailed(Exception):
    """A reward raised something, or gave other than a number a sample; says which."""


LEAST_SPREAD = 0.1
"""Standard deviation below which the differences that a reward makes within a group are not blown
up any more: where all but one have exactly the same worth, a trifle would outweigh the vote."""


def total(ballot: Ballot, weights: Mapping[str, float]) -> tuple[float, ...]:
    """Each sample's weighted sum of the rewards named in `weights`; all 0 where nothing says what
    is right. If there are several, each is first brought to mean 0 and standard deviation 1 of its
    own, so that none counts for more only because it varies more (GDPO, arXiv 2601.05242).

    Raises ValueError for a reward that there is not, and RewardFailed for one that raises or gives
    other than a number a sample.
    """
    terms = {name: _worth(name, ballot) for name, weight in weights.items() if weight}
    if not ballot.teaches:
        return (0.0,) * len(ballot.samples)
    if len(terms) > 1:
        terms = {name: _standard(term) for name, term in terms.items()}
    weighted = [[weights[name] * worth for worth in term] for name, term in terms.items()]
    return tuple(map(sum, zip(*weighted, strict=True))) or (0.0,) * len(ballot.samples)


@cache
def find(name: str) -> Reward:
    """The reward of that name; ValueError, with a name near to it, if there is none."""
    if name in REWARDS:
        return REWARDS[name]
    offered = {point.name: point for point in entry_points(group="ttrl.rewards")}
    if name in offered:
        return _imported(name, offered[name].load)
    module, colon, function = name.partition(":")
    if colon:
        return _imported(name, lambda: getattr(importlib.import_module(module), function))
    known = [*REWARDS, *offered]
    near = get_close_matches(name, known, n=1)
    raise ValueError(
        f"there is no reward {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} There are "
        f"{', '.join(known)}, and your own as module:function"
    )


def _imported(name: str, load: Callable[[], Any]) -> Reward:
    try:
        found = load()
    except (Exception, SystemExit) as error:  # importing runs a module, which may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"the reward {name} cannot be imported: {why}") from error
    if not callable(found):
        raise ValueError(f"the reward {name} is no function")
    return cast(Reward, found)


def _worth(name: str, ballot: Ballot) -> list[float]:
    reward = find(name)
    try:
        given = reward(ballot)
    except Exception as error:  # somebody's own may raise anything
        raise RewardFailed(f"the reward {name} raised {_whence(error)}") from error
    try:
        worth = [float(each) for each in given]
    except (TypeError, ValueError) as error:
        raise RewardFailed(f"the reward {name} does not give one number a sample") from error
    if len(worth) != len(ballot.samples) or not all(map(math.isfinite, worth)):
        raise RewardFailed(f"the reward {name} does not give one finite number a sample")
    return worth


def _whence(error: Exception) -> str:
    """Its kind and where it was raised: its words may quote an answer."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frame.f_code.co_filename).name}:{line}"


def _standard(term: Sequence[float]) -> list[float]:
    middle, spread = fmean(term), max(pstdev(term), LEAST_SPREAD)
    return [(worth - middle) / spread for worth in term]
