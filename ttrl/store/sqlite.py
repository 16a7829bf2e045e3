"""The store in a file of SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.dialects.sqlite import insert

from ttrl.store.backend import damaged, in_use
from ttrl.store.copies import read_only

PAGES = 1000
"""Given back in one transaction: 4 MB."""
CHECKPOINT_MS = 200


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
        return insert(table)

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
            raise in_use(self._url) from None
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
