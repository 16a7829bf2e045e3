"""Opening the store, migrating it, and its two kinds of transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ttrl.store.backends import StoreError, backend
from ttrl.store.url import parse, shown

FILE = "store.sqlite"
PARAMETERS = 10_000
"""Values in one statement; SQLite takes 32,766."""


class Database:
    """One database. A committed row survives the death of any process of ours."""

    def __init__(self, url: sa.URL) -> None:
        self._backend = backend(url)

    @classmethod
    def open(cls, state_dir: Path, url: str | None = None) -> Database:
        """The database at a URL, migrated; SQLite in the state directory when there is none.
        Raises StoreError."""
        place = sa.URL.create("sqlite", database=str(state_dir / FILE))
        if url is not None:
            try:
                place = parse(url)
            except ValueError as error:
                raise StoreError(f"the store cannot be used: {error}") from None
        database = cls(place)
        with ExitStack() as undo:
            undo.callback(database.close)
            try:
                database.migrate()
            except sa.exc.DBAPIError as error:
                said = " ".join(str(error.orig).split())
                raise StoreError(f"the store {shown(place)} cannot be used: {said}") from error
            undo.pop_all()
        return database

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema up to date. Others who open it meanwhile wait, as for any writer."""
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(resources.files("ttrl.store") / "migrations"))
        with self._backend.migrating() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, revision)
            except CommandError as error:
                raise StoreError(
                    "the store was written by a newer ttrl than this one; install that version, "
                    f"or use another state directory or store.url ({error})"
                ) from error

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

    def owning(self) -> AbstractContextManager[None]:
        """Be the only owner. Raises StoreError when there is one already."""
        return self._backend.owning()

    def close(self) -> None:
        """Close every connection."""
        self._backend.engine.dispose()

    def upsert(self, table: sa.Table) -> Any:
        """INSERT with ON CONFLICT, in this database's dialect."""
        return self._backend.insert(table)
