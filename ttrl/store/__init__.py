"""The store: questions, probes, votes, runs, adapters and pointers, in one database.

Import the tables' rooms where they are used: `from ttrl.store import Store`.
"""

from __future__ import annotations

import sqlalchemy as sa

from ttrl.store import schema
from ttrl.store.adapters import AdapterTable
from ttrl.store.backends import StoreDamaged, StoreError
from ttrl.store.database import PATIENCE_SECONDS, Database
from ttrl.store.feedback import FeedbackTable
from ttrl.store.forgetting import Forgetting
from ttrl.store.measurements import MeasurementTable, ShadowTable
from ttrl.store.probes import ComparisonTable, HoldoutTable, ProbeTable
from ttrl.store.questions import QuestionTable
from ttrl.store.runs import RunTable, VoteTable
from ttrl.store.schema import facts

__all__ = ["Store", "StoreDamaged", "StoreError"]

_TIMES = (
    schema.questions.c.last_seen,
    schema.runs.c.created,
    schema.adapters.c.created,
    schema.wanted.c.at,
    schema.measurements.c.at,
)


class Store(Database):
    """What one daemon remembers."""

    def __init__(
        self, url: sa.URL, patience: float = PATIENCE_SECONDS, *, looking: bool = False
    ) -> None:
        super().__init__(url, patience, looking=looking)
        self.questions = QuestionTable(self)
        self.holdout = HoldoutTable(self)
        self.votes = VoteTable(self)
        self.probes = ProbeTable(self)
        self.comparisons = ComparisonTable(self)
        self.runs = RunTable(self)
        self.adapters = AdapterTable(self)
        self.shadow = ShadowTable(self)
        self.measurements = MeasurementTable(self)
        self.feedback = FeedbackTable(self)
        self.forgetting = Forgetting(self)

    def newest(self) -> float | None:
        """Return the latest time that any row has, in Unix seconds."""
        with self.read() as connection:
            times = [connection.scalar(sa.select(sa.func.max(column))) for column in _TIMES]
        return max((at for at in times if at is not None), default=None)

    def fact(self, name: str) -> str | None:
        """Return a small fact about the whole, such as `paused`."""
        return self.scalar(sa.select(facts.c.value).where(facts.c.name == name))

    def set_fact(self, name: str, value: str | None) -> None:
        """Write a small fact; None forgets it."""
        with self.write() as connection:
            connection.execute(facts.delete().where(facts.c.name == name))
            if value is not None:
                connection.execute(facts.insert().values(name=name, value=value))
