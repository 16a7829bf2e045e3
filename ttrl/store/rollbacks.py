"""Which versions were taken back: by whom, why and when."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ttrl.store.adapters import TAKEN_BACK
from ttrl.store.database import Database
from ttrl.store.schema import adapters, wanted


@dataclass(frozen=True)
class RollBack:
    """A version that should have served, and does so no more; `at` in Unix seconds."""

    version: str
    author: str
    reason: str
    at: float


class RollBackTable:
    """The roll-backs of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[RollBack]:
        """Of each version that is taken back the last time, the newest first. What is wanted in its
        place says why in the version's own words; what followed it otherwise does not."""
        c = wanted.c
        before = sa.func.lag(c.adapter).over(order_by=c.id).label("version")
        changes = sa.select(before, c.id, c.author, c.reason, c.at).subquery()
        query = (
            sa.select(changes, adapters.c.reason.label("why"))
            .join(adapters, adapters.c.name == changes.c.version)
            .where(adapters.c.state.in_(TAKEN_BACK))
            .order_by(changes.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        found = {
            row.version: RollBack(row.version, row.author, row.why, row.at)
            for row in rows
            if row.reason.endswith(row.why or "")
        }
        return sorted(found.values(), key=lambda each: each.at, reverse=True)

    def newest(self) -> RollBack | None:
        """The last one."""
        return next(iter(self.all()), None)
