"""Opening the store, migrating it, and its two kinds of transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa

BUSY_MS = 10_000


class StoreError(Exception):
    """The store cannot be opened or used; the message says what to do."""


class Database:
    """One database. SQLite is opened in WAL mode with full synchronisation, so that a committed
    row survives the death of any process and of the machine."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    @classmethod
    def in_directory(cls, state_dir: Path) -> Database:
        """The SQLite store of a state directory, migrated. Raises StoreError."""
        database = cls(f"sqlite:///{state_dir / 'store.sqlite'}")
        try:
            database.migrate()
        except sa.exc.DatabaseError as error:
            database.close()
            raise StoreError(
                f"the store {state_dir / 'store.sqlite'} cannot be used: {error.orig}"
            ) from error
        return database

    def migrate(self) -> None:
        """Bring the schema up to date."""
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(resources.files("ttrl.store") / "migrations"))
        with self.write() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreError(
                    "the store was written by a newer ttrl than this one; install that version, "
                    f"or use another state directory ({error})"
                ) from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view; never waits for a writer."""
        with self._engine.connect().execution_options(ttrl_read=True) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A short transaction that commits at its end. It takes SQLite's write lock at once: a
        transaction that reads first and then writes fails despite any busy time-out."""
        with self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def upsert(self, table: sa.Table) -> Any:
        """INSERT with ON CONFLICT, in this database's dialect."""
        from sqlalchemy.dialects import postgresql, sqlite

        return (sqlite if self._engine.dialect.name == "sqlite" else postgresql).insert(table)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("ttrl_read")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
