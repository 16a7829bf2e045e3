"""The store: questions, probes, votes, runs, adapters and pointers, in one database.

Import the tables' rooms where they are used: `from ttrl.store import Store`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import sqlalchemy as sa

from ttrl.store.adapters import AdapterTable
from ttrl.store.backend import PATIENCE_SECONDS, StoreDamaged, StoreError
from ttrl.store.comparisons import ComparisonTable
from ttrl.store.database import Database
from ttrl.store.exchange import Exchange
from ttrl.store.forgetting import Forgetting
from ttrl.store.holdout import HoldoutTable
from ttrl.store.measurements import MeasurementTable
from ttrl.store.probes import ProbeTable
from ttrl.store.questions import QuestionTable
from ttrl.store.rollbacks import RollBackTable
from ttrl.store.runs import RunTable
from ttrl.store.schema import facts
from ttrl.store.shadow import ShadowTable
from ttrl.store.votes import VoteTable

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
        self.rollbacks = RollBackTable(database)
        self.shadow = ShadowTable(database)
        self.measurements = MeasurementTable(database)
        self.forgetting = Forgetting(database)
        self.exchange = Exchange(database)

    @classmethod
    def open(
        cls, state_dir: Path, url: str | None = None, patience: float = PATIENCE_SECONDS
    ) -> Store:
        """The store at a URL (`store.url`), or else in the state directory; made when it is not
        there. Writers wait for others as long as `patience`, in seconds. Raises StoreError."""
        return cls(Database.open(state_dir, url, patience))

    @classmethod
    def look(cls, state_dir: Path, url: str | None = None) -> Store:
        """The store as it is, to be read only; one with an older schema lacks tables and columns.
        Raises StoreError."""
        return cls(Database.look(state_dir, url))

    def revision(self) -> str | None:
        """Of its schema; None before the first."""
        return self._database.revision()

    def owning(self) -> AbstractContextManager[None]:
        """Be the store's only owner, whatever the state directory. Raises StoreError when another
        process is."""
        return self._database.owning()

    def check(self) -> None:
        """See whether it is whole, which reads all of it. Raises StoreDamaged."""
        self._database.check()

    def fact(self, name: str) -> str | None:
        """A small fact about the whole, such as `paused`."""
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
