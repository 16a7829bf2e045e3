"""What each sample of a question is worth: one table of rewards, and the one place where their
weighted sum is made.

A reward is any function that takes a `Ballot` and gives one number a sample, in their order, about
1 from the worst to the best. Besides those in the table there are your own: `module:function` names
one that Python can import, and a package may offer some under the entry point `ttrl.rewards`.

A question without a majority teaches nothing, for the built-in rewards cannot tell what is right
there. One of your own that can, such as a verifier that runs tests, says so by an attribute,
`needs_label = False`, and alone decides there.
"""

from __future__ import annotations

import importlib
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, cast

from ttrl.config.learning import OFFERED_REWARDS
from ttrl.rewards.ballot import Ballot
from ttrl.rewards.signals import (
    centrality,
    consensus,
    echo,
    length,
    majority,
    novelty,
    overlong,
    readable,
    reference,
    repetition,
    soft_majority,
)

__all__ = ["REWARDS", "Ballot", "Reward", "RewardFailed", "RewardUnknown", "find", "total"]

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


class RewardUnknown(Exception):
    """A custom reward cannot be imported, or is no function."""


class RewardFailed(Exception):
    """A reward raised something, or gave other than a number a sample; says which."""


LEAST_SPREAD = 0.1
"""Standard deviation below which the differences that a reward makes within a group are not blown
up any more: where all but one have exactly the same worth, a trifle would outweigh the vote."""


def total(ballot: Ballot, weights: Mapping[str, float]) -> tuple[float, ...]:
    """Each sample's weighted sum of the rewards named in `weights`; where there is neither a label
    nor a reference, of those that need none, and all 0 if there is no such. If there are several,
    each is first brought to mean 0 and standard deviation 1 of its own, so that none counts for
    more only because it varies more (GDPO, arXiv 2601.05242).

    Raises RewardUnknown, and RewardFailed for one that raises or gives other than a number a
    sample.
    """
    if not ballot.samples:  # all were cut off
        return ()
    terms = {
        name: _worth(name, ballot)
        for name, weight in weights.items()
        if weight and (ballot.teaches or not getattr(find(name), "needs_label", True))
    }
    if len(terms) > 1:
        terms = {name: _standard(term) for name, term in terms.items()}
    weighted = [[weights[name] * worth for worth in term] for name, term in terms.items()]
    return tuple(map(sum, zip(*weighted, strict=True))) or (0.0,) * len(ballot.samples)


def load(names: Iterable[str]) -> None:
    """Import all of these, before anything is sampled for them. Raises RewardUnknown."""
    for name in names:
        find(name)


def check_installed(names: Iterable[str]) -> None:
    """Find the modules of custom rewards without running them. Raises RewardUnknown."""
    for name in names:
        module, custom, _ = name.partition(":")
        try:
            missing = custom and find_spec(module) is None
        except (ImportError, ValueError):
            missing = True
        if missing:
            raise RewardUnknown(
                f"the reward {name} cannot be imported: there is no module {module}"
            )


@cache
def find(name: str) -> Reward:
    """Return the reward of that name; a custom one runs its module. Raises RewardUnknown."""
    if name in REWARDS:
        return REWARDS[name]
    offered = {point.name: point for point in entry_points(group=OFFERED_REWARDS)}
    if name in offered:
        return _imported(name, offered[name].load)
    module, _, function = name.partition(":")
    return _imported(name, lambda: getattr(importlib.import_module(module), function))


def _imported(name: str, load: Callable[[], Any]) -> Reward:
    try:
        found = load()
    except (Exception, SystemExit) as error:  # importing runs a module, which may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise RewardUnknown(f"cannot import the reward {name}: {why}") from error
    if not callable(found):
        raise RewardUnknown(f"the reward {name} is not a function")
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
        raise RewardFailed(f"the reward {name} does not return one number per sample") from error
    if len(worth) != len(ballot.samples) or not all(map(math.isfinite, worth)):
        raise RewardFailed(f"the reward {name} does not return one finite number per sample")
    return worth


def _whence(error: Exception) -> str:
    """Its kind and where it was raised: its words may quote an answer."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frame.f_code.co_filename).name}:{line}"


def _standard(term: Sequence[float]) -> list[float]:
    middle, spread = fmean(term), max(pstdev(term), LEAST_SPREAD)
    return [(worth - middle) / spread for worth in term]
