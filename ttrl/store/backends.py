"""What SQLite and PostgreSQL do differently: how a transaction begins, and who owns the store.

Both give the same: a writer is alone from its first statement on, a reader sees one moment and
waits for nobody, and one process at a time owns the store.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.dialects import postgresql, sqlite

from ttrl.store.copies import read_only
from ttrl.store.url import shown

PATIENCE_SECONDS = 10.0
"""So long a writer waits for another, unless it has more time than that."""
PAGES = 1000
"""Given back in one transaction: 4 MB."""
CHECKPOINT_MS = 200
WRITER, OWNER = 0x7474726C01, 0x7474726C02
"""PostgreSQL's advisory locks, which are the database's own."""
PATIENCE = {
    "connect_timeout": "10",  # seconds, all of them but the last
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",  # milliseconds
}
"""A server that is gone without a word must not keep us waiting for hours."""


class StoreError(Exception):
    """The store cannot be opened or used; the message says what to do."""


class StoreDamaged(StoreError):
    """What the store says cannot be trusted: parts of its file have changed."""


class Backend(Protocol):
    """`engine` begins transactions that write, `reading` such that only read."""

    engine: sa.Engine
    reading: sa.Engine

    @property
    def file(self) -> Path | None:
        """Where all of it is, if it is in a file."""

    def insert(self, table: sa.Table) -> Any:
        """INSERT that knows ON CONFLICT."""

    def migrating(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes, in which a table can be made anew without losing rows."""

    def owning(self) -> AbstractContextManager[None]:
        """A context in which no other process can own the store. Raises StoreError."""

    def size(self) -> int | None:
        """Bytes that are used; None where only the server knows."""

    def give_back(self) -> bool:
        """Return unused room to the disk, and leave no copies of what was deleted; whether that
        could be done now."""

    def check(self) -> None:
        """Raises StoreDamaged."""


def backend(url: sa.URL, patience: float, *, looking: bool = False) -> Backend:
    """What serves a URL; `patience` is how many seconds a writer waits for another, `looking` is
    for reading only. Raises StoreError when its driver is not installed."""
    if url.get_backend_name() == "sqlite":
        return Sqlite(url, patience, looking=looking)
    try:
        return Postgresql(url, patience)
    except ImportError:
        raise StoreError(
            "a store in PostgreSQL needs psycopg: pip install 'ttrl[postgres]'"
        ) from None


class Sqlite:
    """WAL mode with full synchronisation: what is committed survives the death of any process and
    of the machine."""

    def __init__(self, url: sa.URL, patience: float, *, looking: bool = False) -> None:
        self._url = url
        self._patience = patience
        self.file = Path(url.database or "")
        if looking:
            url = url.set(database=read_only(self.file), query={"uri": "true"})
        self.engine = sa.create_engine(url, hide_parameters=True)
        self.reading: sa.Engine = self.engine.execution_options(ttrl_read=True)
        sa.event.listen(self.engine, "connect", self._looking if looking else self._connected)
        sa.event.listen(self.engine, "begin", self._begun)

    def insert(self, table: sa.Table) -> Any:
        """See Backend."""
        return sqlite.insert(table)

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """Most changes of a table make it anew in SQLite, and with foreign keys on, dropping the
        old one deletes every row that refers to it. They cannot be turned off once it has begun."""
        with self.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
            finally:
                driver.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def owning(self) -> Iterator[None]:
        """By a lock beside the file: another state directory may name the same one."""
        lock = FileLock(f"{self._url.database}.owner")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _in_use(self._url) from None
        try:
            yield
        finally:
            lock.release()

    def size(self) -> int | None:
        """Pages in use; those that were given free are used again."""
        with self._driver() as driver:
            page, pages, free = (
                driver.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            )
        return int(page * (pages - free))

    def give_back(self) -> bool:
        """A little at a time, so that other writers need not wait; then the write-ahead log, which
        has pages as they were before."""
        with self._driver() as driver:
            try:
                before, free = -1, _unused(driver)
                while free not in (0, before):
                    driver.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
                    before, free = free, _unused(driver)
                # A reader keeps the log, and while we wait for him nobody can write.
                driver.execute(f"PRAGMA busy_timeout = {CHECKPOINT_MS}")
                return not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError:  # another has written for longer than we wait
                return False
            finally:
                driver.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")

    @contextmanager
    def _driver(self) -> Iterator[Any]:
        """A connection that has begun no transaction."""
        with self.engine.connect() as connection:
            yield connection.connection.driver_connection

    def check(self) -> None:
        """Reads every page."""
        with self.reading.connect() as connection:
            said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if said != "ok":
            raise damaged(self._url, "its pages do not fit together")

    def _connected(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")
        if connection.execute("PRAGMA page_count").fetchone() == (0,):
            # Of a new file, before anything else is in it. In others it would be a write each time.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        _use_wal(connection, self._patience)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    def _looking(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")

    @staticmethod
    def _begun(connection: sa.Connection) -> None:
        """The write lock at once: a transaction that reads first and then writes fails despite
        any busy time-out."""
        reading = connection.get_execution_options().get("ttrl_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _unused(driver: Any) -> int:
    """Pages of the file."""
    return int(driver.execute("PRAGMA freelist_count").fetchone()[0])


class Postgresql:
    """Writers take an advisory lock. They read what is committed, not one moment: the moment of a
    transaction that had to wait for the lock would be the one before the other's commit."""

    file = None

    def __init__(self, url: sa.URL, patience: float) -> None:
        self._url = url
        self._patience = patience
        self.engine = sa.create_engine(
            url.set(query={**PATIENCE, **url.query}),
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
        )
        self.reading: sa.Engine = self.engine.execution_options(
            ttrl_read=True, isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._owning = False
        self._owner: sa.Connection | None = None
        self._one_at_a_time = threading.Lock()
        sa.event.listen(self.engine, "connect", self._connected, insert=True)
        sa.event.listen(self.engine, "begin", self._begun)

    def insert(self, table: sa.Table) -> Any:
        """See Backend."""
        return postgresql.insert(table)

    def migrating(self) -> AbstractContextManager[sa.Connection]:
        """See Backend."""
        return self.engine.begin()

    @contextmanager
    def owning(self) -> Iterator[None]:
        """By an advisory lock of a connection that is kept. Should the connection break, the next
        writer takes the lock again, or is refused because another process has it."""
        try:
            self._own()
            self._owning = True
            yield
        finally:
            self._owning = False
            self._disown()

    def size(self) -> int | None:
        """See Backend."""
        return None

    def give_back(self) -> bool:
        """The server's autovacuum does it."""
        return True

    def check(self) -> None:
        """A server looks after its files itself."""

    def _connected(self, connection: Any, _record: Any) -> None:
        if connection.info.parameter_status("server_encoding") != "UTF8":
            connection.close()
            raise StoreError(
                f"the store {shown(self._url)} cannot hold every text; "
                "make the database with ENCODING 'UTF8' TEMPLATE template0"
            )
        for setting in (
            f"lock_timeout = {round(1000 * self._patience)}",
            "tcp_keepalives_idle = 30",  # seconds; else the server keeps a dead owner's lock
            "tcp_keepalives_interval = 10",
            "tcp_keepalives_count = 3",
        ):
            connection.execute(f"SET {setting}")
        connection.commit()

    def _begun(self, connection: sa.Connection) -> None:
        if connection.get_execution_options().get("ttrl_read"):
            return
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER})")
        if self._owning:
            self._own()

    def _own(self) -> None:
        with self._one_at_a_time:
            if self._still_owned():
                return
            engine = self.engine.execution_options(ttrl_read=True, isolation_level="AUTOCOMMIT")
            with ExitStack() as undo:
                connection = undo.enter_context(engine.connect())
                connection.detach()  # the lock is to end with it: never back into the pool
                if not connection.scalar(sa.text(f"SELECT pg_try_advisory_lock({OWNER})")):
                    raise _in_use(self._url)
                undo.pop_all()
            self._owner = connection

    def _still_owned(self) -> bool:
        try:
            return self._owner is not None and self._owner.scalar(sa.text("SELECT 1")) == 1
        except sa.exc.DBAPIError:
            self._disown()
            return False

    def _disown(self) -> None:
        if self._owner is not None:
            self._owner.close()
            self._owner = None


def _use_wal(connection: Any, patience: float) -> None:
    """Two that open a new file at once are in each other's way, and there the busy time-out does
    not hold: the second is refused at once."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def damaged(url: sa.URL, how: str) -> StoreDamaged:
    """With what to do about it."""
    return StoreDamaged(
        f"the store {shown(url)} is damaged, {how}; `ttrl doctor` says how to mend it"
    )


def _in_use(url: sa.URL) -> StoreError:
    return StoreError(
        f"the store {shown(url)} is in use by another process; "
        "stop that one, or give this one its own with store.url"
    )
