"""Where the store is, opening and migrating it, its two kinds of transaction, and its outages."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_NOTADB
from typing import TYPE_CHECKING, Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ttrl import Closing, ReportedError
from ttrl.config.serving import parse, shown
from ttrl.files import touch
from ttrl.store import migrations
from ttrl.store.backends import Postgresql, Sqlite, StoreDamaged, StoreError, damaged
from ttrl.store.schema import HOLDOUT_KEY, facts

log = logging.getLogger(__name__)

FILE = "store.sqlite"
ADAPTERS = "adapters"
BACKUPS = "backups"
"""Where in the state directory a store is copied to before it is migrated."""
PARAMETERS = 10_000
"""Values in one statement; SQLite takes 32,766."""
OUTAGE = (DBAPIError, PoolTimeout, StoreError, OSError)
"""The store is locked, full, damaged or gone. What was asked of it may well succeed later."""
IN_MEMORY = 1000
"""Rows that are read at a time where all are read."""
PATIENCE_SECONDS = 10.0
"""How long a writer waits for another, unless it is told otherwise."""
T = TypeVar("T")
if TYPE_CHECKING:
    AnySelect = sa.Select[*tuple[Any, ...]]
    AnyRow = sa.Row[*tuple[Any, ...]]


class NotFound(ReportedError):
    """There is no such row; the message says where to look."""


class Database(Closing):
    """One database. A committed row survives the death of any process of ours."""

    backend: Sqlite | Postgresql

    def __init__(
        self, url: sa.URL, patience: float = PATIENCE_SECONDS, *, looking: bool = False
    ) -> None:
        self._url = url
        if url.get_backend_name() == "sqlite":
            self.backend = Sqlite(url, patience, looking=looking)
        else:
            try:
                self.backend = Postgresql(url, patience)
            except ImportError:
                raise StoreError(
                    "a store in PostgreSQL needs psycopg: pip install 'ttrl[postgres]'"
                ) from None

    @classmethod
    def open(
        cls, state_dir: Path, url: str | None = None, patience: float = PATIENCE_SECONDS
    ) -> Self:
        """Open the database at a URL (`store.url`), or else in the state directory, and make or
        migrate it. One that was lost is not made again. Writers wait for others as long as
        `patience`, in seconds. Raises StoreError."""
        exists(state_dir, url)
        database = cls(place(state_dir, url), patience)
        try:
            database.migrate(state_dir / BACKUPS)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def look(cls, state_dir: Path, url: str | None = None) -> Self:
        """Open the database as it is, to be read only: nothing is made, migrated or written. One
        that is not `require_current` lacks tables and columns. Raises StoreError."""
        return cls(place(state_dir, url), looking=True)

    def migrate(self, backups: Path) -> None:
        """Migrate to the newest revision, or leave all as it was. A file is copied to `backups`
        before. Others who open a new one meanwhile wait, as for any writer. Raises StoreError, also
        where another process owns what is to be migrated."""
        try:
            if file := self.backend.file:
                with suppress(OSError):  # the next line says why
                    touch(file)
            newest, before = migrations.known()[0], self.revision()
            if before != newest:  # else no lock is taken
                # Not under a daemon: it is of the version before, and goes by the old schema.
                owned = self.owning() if before else nullcontext()
                with owned, self.backend.migrating() as connection:
                    self._upgrade(connection, newest, backups)
            has_key = sa.select(facts.c.name).where(facts.c.name == HOLDOUT_KEY)
            if not self.scalars(has_key):
                with suppress(IntegrityError):  # another process was faster
                    self.change(facts.insert().values(migrations.new_key()))
        except DBAPIError as error:
            raise self.unusable(error) from error

    def _upgrade(self, connection: sa.Connection, newest: str, backups: Path) -> None:
        before, copy = migrations.revision_of(connection), None
        if before == newest:  # another process was faster
            return
        if before is not None and before not in migrations.known():
            raise _newer(before)
        try:
            if before is not None and (file := self.backend.file):
                # By another connection, which does not see what this one writes.
                copy = migrations.copy_before(file, backups, before, time.time())
                log.info("migrating the store from revision %s; its copy is %s", before, copy)
            migrations.upgrade(connection, newest)
        except Exception as error:  # whatever it is, the operator must know what became of the rows
            raise StoreError(
                f"the store could not be migrated from revision {before} to {newest}, and is "
                f"unchanged ({type(error).__name__}: {getattr(error, 'orig', error)}); keep "
                f"using the previous ttrl" + (f". Its copy is {copy}" if copy else "")
            ) from error

    def require_current(self) -> None:
        """Raise StoreError if the store is empty, or of another revision than ours."""
        try:
            revision, known = self.revision(), migrations.known()
        except DBAPIError as error:
            raise self.unusable(error) from error
        if revision is None:
            raise StoreError(f"there is no ttrl state in {shown(self._url)}")
        if revision not in known:
            raise _newer(revision)
        if revision != known[0]:
            raise StoreError("the store was written by an older ttrl; `ttrl serve` migrates it")

    def revision(self) -> str | None:
        """Return the schema's revision; None before the first."""
        with self.read() as connection:
            return migrations.revision_of(connection)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Begin a consistent view, which never waits for a writer."""
        return self.backend.reading.connect()

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Begin a short transaction that commits at its end; no other writes meanwhile. Raises
        StoreError when we owned the store and another process does now."""
        return self.backend.engine.begin()

    def rows(self, query: AnySelect) -> Sequence[AnyRow]:
        """Return what a query selects, in a transaction of its own."""
        with self.read() as connection:
            return connection.execute(query).all()

    def first(self, query: AnySelect) -> AnyRow | None:
        return next(iter(self.rows(query.limit(1))), None)

    def rows_among(
        self, query: AnySelect, column: sa.ColumnElement[Any], values: Sequence[Any]
    ) -> list[AnyRow]:
        with self.read() as connection:
            return rows_among(connection, query, column, values)

    def get(self, query: AnySelect, missing: str) -> AnyRow:
        """Return the first row that a query selects. Raises NotFound."""
        row = self.first(query)
        if row is None:
            raise NotFound(missing)
        return row

    def stream(self, query: AnySelect) -> Iterator[AnyRow]:
        """Yield what a query selects, a part of it in memory at a time."""
        with self.read() as connection:
            yield from connection.execution_options(yield_per=IN_MEMORY).execute(query)

    def in_parts(
        self, query: sa.Select[T, *tuple[Any, ...]], size: int, most: int | None = None
    ) -> Iterator[list[T]]:
        """Yield what a query selects, so many values at a time, until there are no more or `most`
        were yielded. They are to be deleted, each part before the next is asked for."""
        count = 0
        while most is None or count < most:
            some = self.scalars(query.limit(size if most is None else min(size, most - count)))
            if not some:
                break
            yield some
            count += len(some)

    def scalars(self, query: sa.Select[T, *tuple[Any, ...]]) -> list[T]:
        with self.read() as connection:
            return list(connection.scalars(query))

    def scalar(self, query: sa.Select[T, *tuple[Any, ...]]) -> T | None:
        with self.read() as connection:
            value: T | None = connection.scalar(query)
        return value

    def count(self, *which: sa.ColumnElement[bool]) -> int:
        return self.scalar(sa.select(sa.func.count()).where(*which)) or 0

    def counts(self, kind: sa.ColumnElement[Any], *which: sa.ColumnElement[bool]) -> dict[str, int]:
        # Grouped by its name: PostgreSQL takes two spellings with parameters for two expressions.
        query = sa.select(kind.label("kind"), sa.func.count()).where(*which).group_by("kind")
        return {row[0]: row[1] for row in self.rows(query)}

    def change(self, statement: sa.UpdateBase) -> int:
        """Execute a statement in a transaction of its own; return how many rows it changed."""
        with self.write() as connection:
            return connection.execute(statement).rowcount

    def change_among(
        self, statement: sa.Update | sa.Delete, column: sa.ColumnElement[Any], values: Sequence[Any]
    ) -> int:
        with self.write() as connection:
            return change_among(connection, statement, column, values)

    def check(self, most: int | None = None) -> bool:
        """Read the store to see whether it is whole; of one with more than `most` bytes only the
        small tables. Return whether that was all of it. Raises StoreError."""
        try:
            return self.backend.check(most)
        except DBAPIError as error:
            raise self.unusable(error) from error

    def owning(self) -> AbstractContextManager[None]:
        """Be the store's only owner. Raises StoreError when another process is."""
        return self.backend.owning()

    def present(
        self, connection: sa.Connection, column: sa.ColumnElement[str], texts: Sequence[str]
    ) -> set[str]:
        """Return those of the texts that a row has in an indexed column, however many rows do."""
        listed = self.backend.listed(texts)
        value = sa.type_coerce(listed.c.value, sa.String)
        return set(connection.scalars(sa.select(value).where(sa.exists().where(column == value))))

    def upsert(self, table: sa.Table) -> Any:
        """Return an INSERT with ON CONFLICT, in this database's dialect."""
        return self.backend.insert(table)

    def close(self) -> None:
        self.backend.engine.dispose()

    def unusable(self, error: DBAPIError) -> StoreError:
        """Return what to raise of an error that the store met while it was opened or checked."""
        message = " ".join(str(error.orig).split())
        # Extended codes of SQLite have the plain one in their last byte.
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in (SQLITE_CORRUPT, SQLITE_NOTADB):
            return damaged(self._url, message)
        return StoreError(
            f"the store {shown(self._url)} cannot be used: {message}; `ttrl doctor` says how to "
            f"fix it"
        )


class Table:
    """One kind of rows in a database."""

    def __init__(self, database: Database) -> None:
        self.db = database


def place(state_dir: Path, url: str | None) -> sa.URL:
    """Return the URL of the store. Raises StoreError."""
    if url is None:
        return sa.URL.create("sqlite", database=str(state_dir / FILE))
    try:
        return parse(url)
    except ValueError as error:
        raise StoreError(f"the store cannot be used: {error}") from None


def sqlite_file(state_dir: Path, url: str | None) -> Path | None:
    """Return the file that the store is; None where it is in PostgreSQL. Raises StoreError."""
    found = place(state_dir, url)
    return Path(found.database or "") if found.get_backend_name() == "sqlite" else None


def exists(state_dir: Path, url: str | None) -> bool:
    """Return whether there may be a store; only a server can tell where it is in PostgreSQL.
    Raises StoreError, also if it was lost."""
    if versions := lost(state_dir, url):
        raise StoreDamaged(
            f"the store {shown(place(state_dir, url))} was lost: it is empty or missing, but "
            f"there are {versions} versions on disk; `ttrl doctor` says how to fix it"
        )
    file = sqlite_file(state_dir, url)
    return file is None or file.exists()


def lost(state_dir: Path, url: str | None) -> int:
    """Return how many versions there are whose store's file is gone, or empty; 0 also where only a
    server can tell. Raises StoreError."""
    file = sqlite_file(state_dir, url)
    if file is None or (file.exists() and file.stat().st_size):
        return 0
    return sum(1 for _ in (state_dir / ADAPTERS).glob("[!.]*"))


def cause(error: Exception) -> str:
    """Return what failed, without the statement and its parameters, which are users' words."""
    inner = error.orig if isinstance(error, DBAPIError) and error.orig else error
    detail = getattr(inner, "sqlite_errorname", None) or getattr(inner, "strerror", None)
    return f"{type(inner).__name__} ({detail})" if detail else type(inner).__name__


def is_outage(error: Exception) -> bool:
    """Return whether the store cannot be used at all, rather than cannot hold what it was given."""
    return isinstance(error, OUTAGE) and not isinstance(error, DataError | IntegrityError)


def chunks(values: Sequence[T], size: int = PARAMETERS) -> Iterator[Sequence[T]]:
    """Yield as many values at a time as one statement takes."""
    return (values[start : start + size] for start in range(0, len(values), size))


def rows_among(
    connection: sa.Connection,
    query: AnySelect,
    column: sa.ColumnElement[Any],
    values: Sequence[Any],
) -> list[AnyRow]:
    """Return what a query selects of the rows with one of these values, however many these are."""
    parts = (query.where(column.in_(some)) for some in chunks(values))
    return [row for part in parts for row in connection.execute(part)]


def change_among(
    connection: sa.Connection,
    statement: sa.Update | sa.Delete,
    column: sa.ColumnElement[Any],
    values: Sequence[Any],
) -> int:
    """Change the rows with one of these values, however many these are; return how many rows."""
    parts = (statement.where(column.in_(some)) for some in chunks(values))
    return sum(connection.execute(part).rowcount for part in parts)


def _newer(revision: str) -> StoreError:
    return StoreError(
        f"the store has revision {revision}, which this ttrl does not know (the newest here is "
        f"{migrations.known()[0]}): it was written by a newer ttrl, or before the first release; "
        "install that version, or use another state directory or store.url"
    )
