"""The store in a database of PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ttrl.store.backend import StoreError, in_use
from ttrl.store.url import shown

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
        return insert(table)

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
                    raise in_use(self._url)
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
