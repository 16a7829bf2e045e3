"""What the store asks of a database, which SQLite and PostgreSQL do differently: how a transaction
begins, and who owns the store.

Both give the same: a writer is alone from its first statement on, a reader sees one moment and
waits for nobody, and one process at a time owns the store.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from ttrl.store.url import shown

PATIENCE_SECONDS = 10.0
"""So long a writer waits for another, unless it has more time than that."""


class StoreError(Exception):
    """The store cannot be opened or used; the message says what to do."""


class StoreDamaged(StoreError):
    """What the store says cannot be trusted: its file has changed in parts, or is gone."""


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


def damaged(url: sa.URL, how: str) -> StoreDamaged:
    """With what to do about it."""
    return StoreDamaged(
        f"the store {shown(url)} is damaged, {how}; `ttrl doctor` says how to mend it"
    )


def gone(url: sa.URL, versions: int) -> StoreDamaged:
    """With what speaks for it."""
    return StoreDamaged(
        f"the store {shown(url)} was lost: it is empty or gone, and there are {versions} versions "
        "that it knew; `ttrl doctor` says how to mend it"
    )


def in_use(url: sa.URL) -> StoreError:
    return StoreError(
        f"the store {shown(url)} is in use by another process; "
        "stop that one, or give this one its own with store.url"
    )
