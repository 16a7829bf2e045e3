"""Everything that can be wrong with one installation, and how to mend it. Nothing is changed, but
that SQLite may leave an empty write-ahead log beside a store that was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import sqlalchemy as sa

from serve.doctor import house, packages, service, store, versions
from serve.doctor.finding import Finding, Outcome, broken
from serve.doctor.service import Daemon
from serve.errors import whereabouts
from serve.state import StateDirError, owner_of
from ttrl.config import Config
from ttrl.store import Store, StoreError, revisions
from ttrl.store.database import Database, sqlite_file

__all__ = ["Finding", "Outcome", "examine"]


def examine(config: Config, now: float) -> Iterator[Finding]:
    """What there is to say, check by check. A running daemon's own settings go before `config`."""
    state_dir = config.state_dir
    try:
        owner = owner_of(state_dir)
    except StateDirError as error:
        yield broken("state directory", str(error), "sudo -u USER ttrl doctor")
        return
    found = service.look(state_dir, owner)
    if owner is not None and found in (Daemon.UNREADY, Daemon.READY):
        config = service.settings(owner) or config
    yield from _safely("packages", lambda: packages.check(config))
    yield from _safely("model", lambda: [service.model(config)])
    if config.gateway.keys is not None:
        file = config.gateway.keys
        yield from _safely("keys", lambda: [service.keys(file)])
    yield from _safely("state directory", lambda: [house.directory(state_dir)])
    yield from _safely("daemon", lambda: [service.daemon(config, found, owner)])
    if not found.owns:
        yield from _safely("addresses", lambda: service.ports(config))
    if not state_dir.is_dir():
        return
    if not found.owns:
        yield from _safely("engine", lambda: service.engine(config))
    yield from _safely("disk", lambda: [house.disk(config)])
    yield from _safely("store", lambda: _rows(config, found, now))
    yield from _safely("backups", lambda: [house.backups(config, now)])


def _rows(config: Config, found: Daemon, now: float) -> Iterator[Finding]:
    """The store, and what is held against its rows."""
    file = sqlite_file(config.state_dir, config.store.url)
    if file is not None and (missing := store.missing(config, file)):
        yield missing
        return
    with closing(Database.look(config.state_dir, config.store.url)) as database:
        try:
            yield from store.check(config, database)
            if database.revision() == revisions.known()[0]:
                yield from _held_against(config, database, found, now)
        except sa.exc.DBAPIError as error:
            yield store.unreadable(config, error)


def _held_against(
    config: Config, database: Database, found: Daemon, now: float
) -> Iterator[Finding]:
    rows = Store(database)
    active = rows.runs.active()
    yield from _safely("runs", lambda: [store.judge_run(active, now, found.owns)])
    yield from _safely("clock", lambda: [store.judge_clock(store.newest_time(database), now)])
    yield from _safely("versions", lambda: versions.check(config, rows))
    if found is Daemon.READY:
        yield from _safely("serving", lambda: [versions.serving(rows)])
    under_way = active.id if active and found.owns else None
    yield from _safely("leftovers", lambda: house.leftovers(config.state_dir, under_way))


def _safely(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What cannot be looked at is a finding, and the next check goes on. What the database refuses
    is for the store's check to say."""
    try:
        yield from look()
    except (OSError, StoreError) as error:
        yield broken(check, f"it cannot be looked at: {error}", "see to that first")
    except sa.exc.DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is damaged, the rest is looked at
        yield broken(
            check,
            f"the check itself failed: {type(error).__name__} at {whereabouts(error)}",
            "what it reads may be damaged; if it is not, please report this",
        )
