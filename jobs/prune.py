"""Lets go of what is old: questions, what runs wrote about them, logs, and versions that nobody
needs.

Two parts. `run` writes in the store and deletes logs; `remove_files` deletes versions, and is for
one who knows what the engine has loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from jobs.probes import WEEK_SECONDS
from ttrl import versions
from ttrl.config import Config
from ttrl.feedback import DAY_SECONDS
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterRow, AdapterState
from ttrl.versions import AdapterDamaged

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """How much went: questions, runs' samples, runs' logs, the names of retired versions, and
    receipts of answers."""

    questions: int = 0
    runs: int = 0
    logs: int = 0
    retired: tuple[str, ...] = ()
    answers: int = 0


def run(config: Config, store: Store) -> Pruned:
    """Forget what is old by `keep.*`. Nothing while a run is under way: it may need any of it."""
    if store.runs.active() is not None:
        return Pruned()
    keep, now = config.keep, time.time()

    def ago(span: timedelta | None) -> float | None:
        return None if span is None else now - span.total_seconds()

    questions = store.forgetting.expire(ago(keep.questions_for), keep.questions)
    ended = ago(keep.runs_for)
    runs = 0 if ended is None else store.forgetting.drop_details(ended)
    days = config.feedback.days * DAY_SECONDS
    # Kept for twice as long, so that who comes too late is told so.
    answers = store.feedback.expire(
        unused=now - 2 * days, used=ago(keep.questions_for), most=config.feedback.answers
    )
    if keep.bytes is not None:
        questions += store.forgetting.shrink(keep.bytes)
    retired = store.forgetting.retire(to_retire(store.adapters.all(), needed(store), keep.adapters))
    logs = 0
    if ended is not None:
        for log_file in (config.state_dir / "logs").glob("run-*.log"):
            if log_file.stat().st_mtime < ended:
                log_file.unlink()
                logs += 1
    if not store.forgetting.give_back():
        log.info("the store's write-ahead log is in use; it will be emptied later")
    return Pruned(questions, runs, logs, tuple(retired), answers)


def needed(store: Store) -> set[str]:
    """Versions that serve, should, may be gone back to, or are what a run compares with."""
    table = store.adapters
    names = (table.wanted().adapter, table.serving().adapter, table.previous())
    # A run compares its candidate with what was live a week ago: what is live now will be that.
    week = table.wanted_since(time.time() - WEEK_SECONDS)
    return {name for name in (*names, *week) if name is not None}


def to_retire(rows: Iterable[AdapterRow], needed: AbstractSet[str], newest: int) -> list[str]:
    """The versions whose files may go. Held ones are counted apart: however many wait, they do not
    drive out what has served, nor fill the disk."""
    by_age = sorted(rows, key=lambda row: row.created, reverse=True)
    there = [row for row in by_age if row.state not in GONE]
    held = [row.name for row in there if row.state is AdapterState.HELD]
    others = [row.name for row in there if row.state is not AdapterState.HELD]
    return [name for name in (*others[newest:], *held[newest:]) if name not in needed]


def remove_files(config: Config, store: Store, loaded: AbstractSet[str]) -> list[str]:
    """Delete the files of versions that are gone, and name these: none that is loaded, or that
    should serve until another does. What no row knows is not touched: the store may be another."""
    root, stay = config.state_dir / "adapters", loaded | {store.adapters.wanted().adapter}
    gone = [row.name for row in store.adapters.all() if row.state in GONE]
    doomed = []
    for name in gone:
        try:
            if name not in stay and versions.place(root, name).is_dir():
                versions.remove(root, name)
                doomed.append(name)
        except (AdapterDamaged, OSError) as error:  # the others go all the same
            log.warning("cannot delete %s: %s", name, error)
    store.forgetting.unpin([name for name in gone if not (root / name).exists()])
    return doomed
