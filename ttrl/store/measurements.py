"""What was measured of versions and of the traffic, and what the live monitor compared: numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.store.database import Table
from ttrl.store.schema import measurements, shadow

PAIRS_KEPT = 10_000
"""The newest pairs of the live monitor. A detector that begins later than it could has less
evidence, never more."""


class Kind(StrEnum):
    QUALITY = "quality"
    """A version's answers to the probes (ttrl.evaluation.estimates)."""
    POLICY = "policy"
    """How far a version is from others, in nats a token."""
    QUESTIONS = "questions"
    """How far the newest questions are from those before them (ttrl.evaluation.drift)."""


@dataclass(frozen=True)
class Measurement:
    """Numbers `at` a time in Unix seconds; `version` None is the base model, or no version."""

    kind: Kind
    version: str | None
    at: float
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Versions:
    """Which versions are compared, since when (Unix seconds) the first has been wanted; `other`
    None is the base model."""

    live: str
    other: str | None
    since: float


class MeasurementTable(Table):
    def add(self, kind: Kind, version: str | None, numbers: Mapping[str, Any]) -> None:
        known = {  # JSON has no nan, and PostgreSQL refuses it
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in numbers.items()
        }
        row = {"kind": kind, "version": version, "at": time.time(), "numbers": known}
        self.db.change(measurements.insert().values(row))

    def newest(self, kind: Kind, version: str | None = None) -> Measurement | None:
        return next(iter(self.history(kind, version, limit=1)), None)

    def history(
        self, kind: Kind, version: str | None = None, *, limit: int = 100
    ) -> list[Measurement]:
        """Return a version's measurements, the newest first."""
        c = measurements.c
        query = sa.select(measurements).where(
            c.kind == kind, c.version.is_not_distinct_from(version)
        )
        rows = self.db.rows(query.order_by(c.id.desc()).limit(limit))
        return [Measurement(Kind(row.kind), row.version, row.at, row.numbers) for row in rows]


class ShadowTable(Table):
    """Pairs of answers that the live monitor compared."""

    def add(self, versions: Versions, differences: Mapping[str, float]) -> None:
        """Note one pair, and forget the oldest."""
        row = {"live": versions.live, "other": versions.other, "at": time.time()}
        newest = sa.select(sa.func.max(shadow.c.id)).scalar_subquery()
        with self.db.write() as connection:
            connection.execute(shadow.insert().values(**row, differences=dict(differences)))
            connection.execute(shadow.delete().where(shadow.c.id <= newest - PAIRS_KEPT))

    def of(self, versions: Versions) -> list[dict[str, float]]:
        """Return the pairs of these versions since the live one has been wanted, in order."""
        query = sa.select(shadow.c.differences).where(
            shadow.c.live == versions.live,
            shadow.c.other.is_not_distinct_from(versions.other),
            shadow.c.at >= versions.since,
        )
        return self.db.scalars(query.order_by(shadow.c.id))
