"""What SQLite and PostgreSQL do differently: how a transaction begins, and who owns the store.

Both give the same: a writer is alone from its first statement on, a reader sees one moment and
waits for nobody, and one process at a time owns the store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.dialects import postgresql, sqlite

from ttrl.store.url import shown

BUSY_MS = 10_000
"""So long a writer waits for another."""
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


class Backend(Protocol):
    """`engine` begins transactions that write, `reading` such that only read."""

    engine: sa.Engine
    reading: sa.Engine

    def insert(self, table: sa.Table) -> Any:
        """INSERT that knows ON CONFLICT."""

    def migrating(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes, in which a table can be made anew without losing rows."""

    def owning(self) -> AbstractContextManager[None]:
        """A context in which no other process can own the store. Raises StoreError."""


def backend(url: sa.URL) -> Backend:
    """What serves a URL. Raises StoreError when its driver is not installed."""
    if url.get_backend_name() == "sqlite":
        return Sqlite(url)
    try:
        return Postgresql(url)
    except ImportError:
        raise StoreError(
            "a store in PostgreSQL needs psycopg: pip install 'ttrl[postgres]'"
        ) from None


class Sqlite:
    """WAL mode with full synchronisation: what is committed survives the death of any process and
    of the machine."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.engine = sa.create_engine(url, hide_parameters=True)
        self.reading: sa.Engine = self.engine.execution_options(ttrl_read=True)
        sa.event.listen(self.engine, "connect", self._connected)
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

    @staticmethod
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in (
            f"busy_timeout = {BUSY_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @staticmethod
    def _begun(connection: sa.Connection) -> None:
        """The write lock at once: a transaction that reads first and then writes fails despite
        any busy time-out."""
        reading = connection.get_execution_options().get("ttrl_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


class Postgresql:
    """Writers take an advisory lock. They read what is committed, not one moment: the moment of a
    transaction that had to wait for the lock would be the one before the other's commit."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
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

    def _connected(self, connection: Any, _record: Any) -> None:
        if connection.info.parameter_status("server_encoding") != "UTF8":
            connection.close()
            raise StoreError(
                f"the store {shown(self._url)} cannot hold every text; "
                "make the database with ENCODING 'UTF8' TEMPLATE template0"
            )
        for setting in (
            f"lock_timeout = {BUSY_MS}",
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


def _in_use(url: sa.URL) -> StoreError:
    return StoreError(
        f"the store {shown(url)} is in use by another process; "
        "stop that one, or give this one its own with store.url"
    )
