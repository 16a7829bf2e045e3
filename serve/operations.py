"""What the operator does, by a command or on the page."""

from __future__ import annotations

import time

from serve.daemon.schedule import PAUSED
from serve.gateway.live import BASE
from serve.views import judged
from ttrl import ReportedError
from ttrl.config import Config
from ttrl.evaluation.probes import Label
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterGone, Author
from ttrl.versions import place, verify


class Refusal(ReportedError):
    """It cannot be done now; the message says why."""


def promote(config: Config, store: Store, version: str) -> str | None:
    """Want a version, whatever its verdict, and return its name, None for the base model. Raises
    NotFound, AdapterDamaged, AdapterGone."""
    row = None if version == BASE else store.adapters.get(version)
    chosen = None if row is None else row.name
    if row is not None and row.state in GONE:
        raise AdapterGone(f"{row.name} is {row.state}: its files are gone; choose another version")
    if chosen is not None:
        verify(place(config.state_dir / "adapters", chosen))
    if chosen != store.adapters.wanted().adapter:
        store.adapters.want(chosen, author=Author.OPERATOR, reason="promoted by the operator")
    return chosen


def roll_back(store: Store, reason: str, version: str | None = None) -> str:
    """Take the wanted version back, which must be `version` if one is named, and return it. Raises
    Refusal."""
    wanted = store.adapters.wanted().adapter
    if wanted is None:
        raise Refusal("the base model is live: there is nothing to roll back")
    only = wanted if version is None else version
    if not store.adapters.roll_back(author=Author.OPERATOR, reason=reason, only=only):
        raise Refusal("another version has become live; look again")
    return only


def pause(store: Store, paused: bool) -> None:
    """Let scheduled runs start, or not."""
    store.set_fact(PAUSED, str(time.time()) if paused else None)


def judge(store: Store, pair_id: int, word: str | None, answer: str = "") -> Label | None:
    """Note which side of a pair is correct, a word of views.WORDS, or with None take that back, and
    return what is known of its question. Raises NotFound."""
    stored = store.comparisons.get(pair_id)
    return store.comparisons.judge(stored, judged(stored, word) if word else None, answer)
