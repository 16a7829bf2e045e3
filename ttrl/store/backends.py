"""SQLite and PostgreSQL: how transactions begin, and who owns the store.

Both give the same: a writer is alone from its first statement on, a reader sees one moment and
waits for nobody, and one process at a time owns the store. `engine` begins transactions that write,
`reading` those that only read; `insert` is an INSERT that knows ON CONFLICT, and `listed` a table
whose column `value` has texts, however many these are.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.dialects import postgresql, sqlite

from ttrl import ReportedError
from ttrl.config.serving import shown
from ttrl.files import fsync, touch


class StoreError(ReportedError):
    """The store cannot be opened or used; the message says what to do."""


class StoreDamaged(StoreError):
    """The store's rows cannot be trusted: its file has changed in parts, or is gone."""


def damaged(url: sa.URL, how: str) -> StoreDamaged:
    return StoreDamaged(
        f"the store {shown(url)} is damaged, {how}; `ttrl doctor` says how to fix it"
    )


def in_use(url: sa.URL) -> StoreError:
    return StoreError(
        f"the store {shown(url)} is in use by another process, perhaps of another version of ttrl; "
        "stop that one, or choose another store with store.url"
    )


PAGES = 1000
"""Given back in one transaction: 4 MB."""
CHECKPOINT_MS = 200
LARGE = frozenset({"questions", "question_clients", "votes", "samples"})
"""Tables that take long to read, and do not say which version should serve."""
ROOM = 1024**2
"""Bytes that a disk must have left for the files that SQLite makes beside a store."""


class Sqlite:
    """A file in WAL mode with full synchronisation: a committed row survives the death of any
    process and of the machine."""

    insert = staticmethod(sqlite.insert)

    def __init__(self, url: sa.URL, patience: float, *, looking: bool = False) -> None:
        self._url = url
        self._patience_ms = round(1000 * patience)
        self._looking = looking
        self.file = Path(url.database or "")
        if looking:
            url = url.set(database=read_only(self.file), query={"uri": "true"})
        self.engine = sa.create_engine(url, hide_parameters=True)
        self.reading: sa.Engine = self.engine.execution_options(ttrl_read=True)
        sa.event.listen(self.engine, "connect", self._connected)
        sa.event.listen(self.engine, "begin", self._begun)

    @staticmethod
    def listed(texts: Sequence[str]) -> sa.TableValuedAlias:
        return sa.func.json_each(json.dumps(texts)).table_valued("value", name="listed")

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """Begin a transaction in which a table can be made again without losing rows."""
        # Most changes of a table make it anew in SQLite. With foreign keys on, dropping the old
        # table deletes every row that refers to it, and a transaction cannot turn them off.
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
            finally:
                driver.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Be the only process that owns the store. Raises StoreError."""
        # The lock is beside the file: another state directory may name the same store.
        try:
            lock = FileLock(f"{self.file}.owner").acquire(timeout=0)
        except Timeout:
            raise in_use(self._url) from None
        with lock:
            yield

    def size(self) -> int | None:
        """Return the bytes in use; None where only the server knows."""
        query = """SELECT page_size * (page_count - freelist_count)
            FROM pragma_page_size, pragma_page_count, pragma_freelist_count"""
        with self.reading.connect() as connection:
            return int(connection.exec_driver_sql(query).scalar_one())

    def give_back(self) -> bool:
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection  # it has begun no transaction
            try:
                (free,) = driver.execute("PRAGMA freelist_count").fetchone()
                for _ in range(0, free, PAGES):  # a little at a time: other writers wait for it
                    # `execute` would stop at the first page.
                    driver.executescript(f"PRAGMA incremental_vacuum({PAGES})")
                # The write-ahead log has pages as they were before. A reader keeps it, and while
                # we wait for the reader nobody can write.
                driver.execute(f"PRAGMA busy_timeout = {CHECKPOINT_MS}")
                return not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError:  # another has written for longer than we wait
                return False
            finally:
                driver.execute(f"PRAGMA busy_timeout = {self._patience_ms}")

    def check(self, most: int | None = None) -> bool:
        """Do what `Database.check` says."""
        whole = most is None or (self.size() or 0) <= most
        with self.reading.connect() as connection:
            names = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
            some = [f"'{name}'" for name in names.scalars() if name not in LARGE]
            for what in ["1"] if whole else some:
                result = connection.exec_driver_sql(f"PRAGMA quick_check({what})").scalar()
                if result != "ok":
                    raise damaged(self._url, "its pages are inconsistent")
        return whole

    def _connected(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute(f"PRAGMA busy_timeout = {self._patience_ms}")
        if self._looking:
            return
        if connection.execute("PRAGMA page_count").fetchone() == (0,):
            # Of a new file, before anything else is in it. In others it would be a write each time.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        self._use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    def _use_wal(self, connection: Any) -> None:
        # When two processes open a new file at once, the second is refused despite its time-out.
        deadline = time.monotonic() + self._patience_ms / 1000
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    @staticmethod
    def _begun(connection: sa.Connection) -> None:
        # The write lock at once: a transaction that reads first and then writes fails despite any
        # busy time-out.
        reading = connection.get_execution_options().get("ttrl_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def read_only(file: Path) -> str:
    """Return the name by which SQLite opens a file that is never to be written."""
    # Readers and writers meet in files beside it. Where these cannot be made, on a read-only or
    # full disk, and are not there, nobody writes.
    writable = os.access(file.parent, os.W_OK) and disk_usage(file.parent).free > ROOM
    alone = not writable and not file.with_name(f"{file.name}-wal").exists()
    return f"file:{quote(str(file))}?mode=ro" + ("&immutable=1" if alone else "")


def copy_file(source: Path, target: Path) -> None:
    """Write the committed rows of the store `source` to the new file `target`, and to the disk.

    VACUUM INTO rather than the online backup: it is one read transaction, which a busy writer
    neither waits for nor makes begin anew; it reads every row, and so fails where a page is damaged
    rather than copying it; and what was deleted is not in the copy. Raises sqlite3.Error.
    """
    touch(target)
    try:
        with closing(sqlite3.connect(read_only(source), uri=True, isolation_level=None)) as reader:
            reader.execute("VACUUM INTO ?", (str(target),))
        fsync(target)
    except BaseException:
        target.unlink()
        raise


WRITER, OWNER = 0x7474726C01, 0x7474726C02
"""PostgreSQL's advisory locks, which are the database's own."""
KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
PATIENCE = {"connect_timeout": "10", **KEEPALIVES, "tcp_user_timeout": "30000"}
"""A server that is gone without a word must not keep us waiting for hours. In seconds, the last in
milliseconds."""


class Postgresql:
    """A database of a server. Writers take an advisory lock. They read what is committed, not one
    moment: the moment of a transaction that had to wait for the lock would be the one before the
    other's commit."""

    insert = staticmethod(postgresql.insert)
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

    @staticmethod
    def listed(texts: Sequence[str]) -> sa.TableValuedAlias:
        text = sa.cast(json.dumps(texts), sa.Text)
        values = sa.func.json_array_elements_text(sa.cast(text, sa.JSON(none_as_null=True)))
        return values.table_valued("value", name="listed")

    def migrating(self) -> AbstractContextManager[sa.Connection]:
        return self.engine.begin()

    @contextmanager
    def owning(self) -> Iterator[None]:
        # An advisory lock of a connection that is kept. Should the connection break, the next
        # writer takes the lock again, or is refused because another process has it.
        try:
            self._own()
            self._owning = True
            yield
        finally:
            self._owning = False
            self._disown()

    def size(self) -> int | None:
        return None

    def give_back(self) -> bool:
        return True  # the server's autovacuum does it

    def check(self, most: int | None = None) -> bool:
        """Leave the files to the server."""
        return True

    def _connected(self, connection: Any, _record: Any) -> None:
        if connection.info.parameter_status("server_encoding") != "UTF8":
            connection.close()
            raise StoreError(
                f"the store {shown(self._url)} cannot store all of Unicode; create the database "
                f"with ENCODING 'UTF8' TEMPLATE template0"
            )
        connection.execute(f"SET lock_timeout = {round(1000 * self._patience)}")
        for name, value in KEEPALIVES.items():  # else the server keeps a dead owner's lock
            connection.execute(f"SET tcp_{name} = {value}")
        connection.commit()

    def _begun(self, connection: sa.Connection) -> None:
        if connection.get_execution_options().get("ttrl_read"):
            return
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER})")
        if self._owning:
            self._own()

    def _own(self) -> None:
        with self._one_at_a_time:
            try:
                if self._owner is not None and self._owner.scalar(sa.text("SELECT 1")) == 1:
                    return
            except sa.exc.DBAPIError:
                self._disown()
            engine = self.engine.execution_options(ttrl_read=True, isolation_level="AUTOCOMMIT")
            with ExitStack() as undo:
                connection = undo.enter_context(engine.connect())
                connection.detach()  # the lock is to end with it: never back into the pool
                if not connection.scalar(sa.text(f"SELECT pg_try_advisory_lock({OWNER})")):
                    raise in_use(self._url)
                undo.pop_all()
            self._owner = connection

    def _disown(self) -> None:
        if self._owner is not None:
            if not self._owner.invalidated:  # the server notices later that one was closed
                with suppress(sa.exc.DBAPIError):
                    self._owner.execute(sa.text(f"SELECT pg_advisory_unlock({OWNER})"))
            self._owner.close()
            self._owner = None
