"""Named points at which a test makes something go wrong: a promise about kill -9 at any instant is
worth what its tests kill.

`TEST_TTRL_FAULT=kill@voted` in the environment of a process, and of those it starts, ends what
comes to that point, as kill -9 does; `full@voted` fills its disk from there on: no file can be
written; `@voted:2` waits for the second time. Without it nothing happens anywhere.
"""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from enum import StrEnum

VARIABLE = "TEST_TTRL_FAULT"


class Kind(StrEnum):
    """What goes wrong."""

    KILL = "kill"
    FULL = "full"


class Point(StrEnum):
    """Where: each has the state before it behind it, and not yet the one after."""

    RECORDING = "recording"
    """Questions are in a transaction that is not committed."""
    RECORDED = "recorded"
    """It is committed; nobody knows yet."""
    QUEUED = "queued"
    """A run has a row and no process."""
    SPAWNED = "spawned"
    """It has a process, which has not come to its row yet."""
    CLAIMED = "claimed"
    """The process has taken its row up."""
    SELECTED = "selected"
    """It knows what it learns from."""
    SAVED = "saved"
    """A candidate's weights are on disk, and not in the engine."""
    DEPLOYED = "deployed"
    """They are in the engine, beside those of the step before."""
    SAMPLED = "sampled"
    """Answers were drawn, and are not in the store."""
    VOTING = "voting"
    """Votes are in a transaction that is not committed."""
    VOTED = "voted"
    """It is committed, and no step is done."""
    STEPPED = "stepped"
    """A step is done and counted."""
    JUDGED = "judged"
    """The gate has spoken; nothing follows from it yet."""
    STAGED = "staged"
    """A version's files are written, not in their place."""
    PLACED = "placed"
    """They are in their place; no row knows them."""
    PUBLISHING = "publishing"
    """Their row is in a transaction that is not committed."""
    PUBLISHED = "published"
    """It is committed; the run has not ended."""
    ENDED = "ended"
    """The run has ended; its process has not."""
    LOADING = "loading"
    """A version is verified, and not in the engine."""
    LOADED = "loaded"
    """It is in the engine, not proven."""
    PROVEN = "proven"
    """It is proven, and nobody gets it."""
    FLIPPED = "flipped"
    """Users get it; the store does not say so."""
    SERVED = "served"
    """The store says so; what nobody needs any more is still loaded."""
    UNLOADED = "unloaded"
    """It is not."""
    ROLLING_BACK = "rolling_back"
    """A roll-back is in a transaction that is not committed."""
    ROLLED_BACK = "rolled_back"
    """It is committed; the engine and the gateway do not know."""
    PURGING = "purging"
    """Questions are purged in a transaction that is not committed."""
    PURGED = "purged"
    """It is committed; older stores still have them, and versions that learned from them files."""
    DROPPED = "dropped"
    """The older stores are gone; the files are not."""
    PRUNING = "pruning"
    """A version's files have another name, and are still there."""
    MIGRATING = "migrating"
    """The tables are new, in a transaction that is not committed."""
    MIGRATED = "migrated"
    """It is committed; nothing has been written since."""


_reached: Counter[str] = Counter()


def reached(point: Point) -> None:
    """The process has come to this point."""
    kind, _, where = os.environ.get(VARIABLE, "").partition("@")
    name, _, times = where.partition(":")
    if name != point:
        return
    _reached[point] += 1
    if _reached[point] != int(times or 1):
        return
    if kind == Kind.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == Kind.FULL:  # Python ignores SIGXFSZ, so that writes fail as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
