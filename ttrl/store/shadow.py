"""What the live guard compared, as rows: numbers only, written by the daemon."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ttrl.detector import Stream
from ttrl.store.database import Database
from ttrl.store.schema import shadow

KEPT = 10_000
"""The newest pairs. A detector that begins later than it could has less evidence, never more."""


@dataclass(frozen=True)
class Versions:
    """Which versions are compared, since when (Unix seconds) the first has been wanted; `other`
    None is the base model."""

    live: str
    other: str | None
    since: float


class ShadowTable:
    """The comparisons of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, versions: Versions, differences: Mapping[Stream, float]) -> None:
        """Write one pair down, and forget the oldest."""
        row = {"live": versions.live, "other": versions.other, "at": time.time()}
        with self._database.write() as connection:
            added = connection.execute(
                shadow.insert().values(**row, differences=dict(differences))
            ).inserted_primary_key
            assert added is not None
            connection.execute(shadow.delete().where(shadow.c.id <= added[0] - KEPT))

    def of(self, versions: Versions) -> list[dict[Stream, float]]:
        """The pairs of these versions since the live one has been wanted, in order."""
        query = sa.select(shadow.c.differences).where(
            shadow.c.live == versions.live,
            shadow.c.other.is_not_distinct_from(versions.other),
            shadow.c.at >= versions.since,
        )
        with self._database.read() as connection:
            rows = connection.scalars(query.order_by(shadow.c.id))
            return [{Stream(name): value for name, value in row.items()} for row in rows]
