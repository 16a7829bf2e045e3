"""The store: questions, probes, votes, runs, adapters and pointers, in one database.

Import the tables' rooms where they are used: `from ttrl.store import Store`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import sqlalchemy as sa

from ttrl.store.adapters import AdapterTable
from ttrl.store.backends import PATIENCE_SECONDS, StoreDamaged, StoreError
from ttrl.store.comparisons import ComparisonTable
from ttrl.store.database import Database
from ttrl.store.exchange import Exchange
from ttrl.store.forgetting import Forgetting
from ttrl.store.measurements import MeasurementTable, ShadowTable
from ttrl.store.probes import HoldoutTable, ProbeTable
from ttrl.store.questions import QuestionTable
from ttrl.store.runs import RunTable, VoteTable
from ttrl.store.schema import facts

__all__ = ["Store", "StoreDamaged", "StoreError"]


class Store:
    """What one daemon remembers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.questions = QuestionTable(database)
        self.holdout = HoldoutTable(database)
        self.votes = VoteTable(database)
        self.probes = ProbeTable(database)
        self.comparisons = ComparisonTable(database)
        self.runs = RunTable(database)
        self.adapters = AdapterTable(database)
        self.shadow = ShadowTable(database)
        self.measurements = MeasurementTable(database)
        self.forgetting = Forgetting(database)
        self.exchange = Exchange(database)

    @classmethod
    def open(
        cls, state_dir: Path, url: str | None = None, patience: float = PATIENCE_SECONDS
    ) -> Store:
        """Open the store at a URL (`store.url`), or else in the state directory, and make it when
        it is not there. Writers wait for others as long as `patience`, in seconds. Raises
        StoreError."""
        store = cls(Database.open(state_dir, url, patience))
        store.holdout.key()  # for those who only look, and cannot make one
        return store

    @classmethod
    def look(cls, state_dir: Path, url: str | None = None) -> Store:
        """Open the store as it is, to be read only; one that is not `require_current` lacks tables
        and columns. Raises StoreError."""
        return cls(Database.look(state_dir, url))

    def require_current(self) -> None:
        """Raise StoreError if the store is empty, or of another revision than ours."""
        self._database.require_current()

    def revision(self) -> str | None:
        """Return its schema's revision; None before the first."""
        return self._database.revision()

    def owning(self) -> AbstractContextManager[None]:
        """Be the store's only owner, whatever the state directory. Raises StoreError when another
        process is."""
        return self._database.owning()

    def check(self) -> None:
        """Read all of it to see whether it is whole. Raises StoreDamaged."""
        self._database.check()

    def fact(self, name: str) -> str | None:
        """Return a small fact about the whole, such as `paused`."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(facts.c.value).where(facts.c.name == name))

    def set_fact(self, name: str, value: str | None) -> None:
        """Write a small fact; None forgets it."""
        with self._database.write() as connection:
            connection.execute(facts.delete().where(facts.c.name == name))
            if value is not None:
                connection.execute(facts.insert().values(name=name, value=value))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
