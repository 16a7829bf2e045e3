"""Opening the store, migrating it, and its two kinds of transaction."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_NOTADB
from typing import Any, TypeVar

import sqlalchemy as sa

from ttrl.faults import Point, reached
from ttrl.files import touch
from ttrl.store import copies, revisions
from ttrl.store.backend import PATIENCE_SECONDS, Backend, StoreError, damaged, gone
from ttrl.store.postgresql import Postgresql
from ttrl.store.sqlite import Sqlite
from ttrl.store.url import parse, shown

log = logging.getLogger(__name__)

FILE = "store.sqlite"
ADAPTERS = "adapters"
DAMAGE = (SQLITE_CORRUPT, SQLITE_NOTADB)
BACKUPS = "backups"
"""Where in the state directory a store is copied to before it is migrated."""
PARAMETERS = 10_000
"""Values in one statement; SQLite takes 32,766."""
T = TypeVar("T")


class Database:
    """One database. A committed row survives the death of any process of ours."""

    def __init__(
        self, url: sa.URL, patience: float = PATIENCE_SECONDS, *, looking: bool = False
    ) -> None:
        self._place = url
        self._backend = _backend(url, patience, looking=looking)

    @classmethod
    def open(
        cls, state_dir: Path, url: str | None = None, patience: float = PATIENCE_SECONDS
    ) -> Database:
        """The database at a URL, migrated; SQLite in the state directory when there is none. One
        that was lost is not made anew. Raises StoreError."""
        if count := lost(state_dir, url):
            raise gone(place(state_dir, url), count)
        database = cls(place(state_dir, url), patience)
        with ExitStack() as undo:
            undo.callback(database.close)
            database.migrate(backups=state_dir / BACKUPS)
            undo.pop_all()
        return database

    @classmethod
    def look(cls, state_dir: Path, url: str | None = None) -> Database:
        """The database as it is, to be read: nothing is made, migrated or written. Raises
        StoreError."""
        return cls(place(state_dir, url), looking=True)

    def migrate(self, revision: str = "head", *, backups: Path | None = None) -> None:
        """Bring the schema up to date, or leave all as it was. What an SQLite store holds is copied
        to `backups` before. Others who open it meanwhile wait, as for any writer. Raises
        StoreError."""
        try:
            if file := self._backend.file:
                with suppress(OSError):  # the next line says why
                    touch(file)
            to = revisions.known()[0] if revision == "head" else revision
            if self.revision() == to:  # no lock is taken where nothing is to be done
                return
            with self._backend.migrating() as connection:
                self._upgrade(connection, to, backups)
            reached(Point.MIGRATED)
        except sa.exc.DBAPIError as error:
            said = " ".join(str(error.orig).split())
            if _is_damage(error):
                raise damaged(self._place, said) from error
            raise StoreError(
                f"the store {shown(self._place)} cannot be used: {said}; "
                "`ttrl doctor` says how to mend it"
            ) from error

    def revision(self) -> str | None:
        """Of its schema; None before the first."""
        with self.read() as connection:
            return revisions.of(connection)

    def _upgrade(self, connection: sa.Connection, to: str, backups: Path | None) -> None:
        before, known = revisions.of(connection), revisions.known()
        if before == to:
            return
        if before is not None and before not in known:
            raise StoreError(
                "the store was written by a newer ttrl than this one; install that version, or use "
                f"another state directory or store.url (it has revision {before}, the newest here "
                f"is {known[0]})"
            )
        copy = self._copied(connection, before, backups)
        try:
            revisions.upgrade(connection, to)
            reached(Point.MIGRATING)
        except Exception as error:  # whatever it is, the operator must know what became of the rows
            raise StoreError(
                f"the store could not be brought from revision {before} to {to}, and is as it was "
                f"({type(error).__name__}: {getattr(error, 'orig', error)}); go on with the ttrl "
                "that you had" + (f". A copy of it is {copy}" if copy else "")
            ) from error

    def _copied(
        self, connection: sa.Connection, revision: str | None, backups: Path | None
    ) -> Path | None:
        """The copy that was made, by another connection: it does not see what this one writes."""
        file = self._backend.file
        if backups is None or file is None or revision is None or not _holds_rows(connection):
            return None
        try:
            made = copies.before_migration(file, backups, revision, time.time())
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the store has to be migrated, and cannot be copied to {backups} before: {error}"
            ) from error
        log.info("the store is migrated from revision %s; a copy of it is %s", revision, made)
        return made

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view; never waits for a writer."""
        with self._backend.reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A short transaction that commits at its end; no other writes meanwhile. Raises StoreError
        when we owned the store and another process does now."""
        with self._backend.engine.begin() as connection:
            yield connection

    def check(self) -> None:
        """See whether it is whole, which reads all of it. Raises StoreDamaged."""
        try:
            self._backend.check()
        except sa.exc.DBAPIError as error:
            if _is_damage(error):
                raise damaged(self._place, str(error.orig)) from error
            raise StoreError(
                f"the store {shown(self._place)} cannot be read: {error.orig}"
            ) from error

    def owning(self) -> AbstractContextManager[None]:
        """Be the only owner. Raises StoreError when there is one already."""
        return self._backend.owning()

    def size(self) -> int | None:
        """Bytes in use; None where only a server knows."""
        return self._backend.size()

    def give_back(self) -> bool:
        """Return unused room, and leave no copies of what was deleted. False when that has to wait
        for somebody who reads."""
        return self._backend.give_back()

    def close(self) -> None:
        """Close every connection."""
        self._backend.engine.dispose()

    def upsert(self, table: sa.Table) -> Any:
        """INSERT with ON CONFLICT, in this database's dialect."""
        return self._backend.insert(table)


def _backend(url: sa.URL, patience: float, *, looking: bool) -> Backend:
    """What serves a URL. Raises StoreError when its driver is not installed."""
    if url.get_backend_name() == "sqlite":
        return Sqlite(url, patience, looking=looking)
    try:
        return Postgresql(url, patience)
    except ImportError:
        raise StoreError(
            "a store in PostgreSQL needs psycopg: pip install 'ttrl[postgres]'"
        ) from None


def chunks(values: Sequence[T], size: int = PARAMETERS) -> Iterator[Sequence[T]]:
    """As many at a time as one statement takes."""
    return (values[start : start + size] for start in range(0, len(values), size))


def place(state_dir: Path, url: str | None) -> sa.URL:
    """Where the store is. Raises StoreError."""
    if url is None:
        return sa.URL.create("sqlite", database=str(state_dir / FILE))
    try:
        return parse(url)
    except ValueError as error:
        raise StoreError(f"the store cannot be used: {error}") from None


def sqlite_file(state_dir: Path, url: str | None) -> Path | None:
    """The file that the store is; None where it is in PostgreSQL. Raises StoreError."""
    found = place(state_dir, url)
    return Path(found.database or "") if found.get_backend_name() == "sqlite" else None


def lost(state_dir: Path, url: str | None) -> int:
    """How many versions are there whose store is not: its file is gone, or empty. 0 also where only
    a server can tell. Raises StoreError."""
    file = sqlite_file(state_dir, url)
    if file is None or (file.exists() and file.stat().st_size):
        return 0
    return sum(1 for _ in (state_dir / ADAPTERS).glob("[!.]*"))


def _holds_rows(connection: sa.Connection) -> bool:
    tables = set(sa.inspect(connection).get_table_names()) - {revisions.TABLE.name}
    some = (sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1) for name in tables)
    return any(connection.scalar(each) for each in some)


def _is_damage(error: sa.exc.DBAPIError) -> bool:
    """Extended codes of SQLite have the plain one in their last byte."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in DAMAGE
