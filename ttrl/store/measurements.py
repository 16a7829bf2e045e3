"""What was measured of versions and of the traffic, and what the live monitor compared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import sqlalchemy as sa

from ttrl.evaluation.drift import Drift, Shift
from ttrl.evaluation.estimates import Quality, Reliability
from ttrl.store import shapes
from ttrl.store.database import Table
from ttrl.store.schema import measurements, shadow

PAIRS_KEPT = 10_000
"""The newest pairs of the live monitor. A detector that begins later than it could has less
evidence, never more."""


class Kind(StrEnum):
    QUALITY = "quality"
    POLICY = "policy"
    QUESTIONS = "questions"
    CHECKS = "checks"


KINDS: Mapping[type, Kind] = {
    Quality: Kind.QUALITY, Drift: Kind.POLICY, Shift: Kind.QUESTIONS, Reliability: Kind.CHECKS,
}  # fmt: skip
T = TypeVar("T", Quality, Drift, Shift, Reliability)


@dataclass(frozen=True)
class Measurement(Generic[T]):
    """What was measured, and when (Unix seconds)."""

    found: T
    at: float


@dataclass(frozen=True)
class Versions:
    """Which versions are compared, since when (Unix seconds) the first has been wanted; `other`
    None is the base model."""

    live: str
    other: str | None
    since: float


class MeasurementTable(Table):
    """Measurements of a version; None is the base model, or no version."""

    def add(self, version: str | None, found: Quality | Drift | Shift | Reliability) -> None:
        row = {
            "kind": KINDS[type(found)],
            "version": version,
            "at": time.time(),
            "numbers": shapes.dump(found),
        }
        self.db.change(measurements.insert().values(row))

    def newest(self, shape: type[T], version: str | None = None) -> Measurement[T] | None:
        c = measurements.c
        of_version = c.version.is_not_distinct_from(version)
        query = sa.select(measurements).where(c.kind == KINDS[shape], of_version)
        for row in self.db.rows(query.order_by(c.id.desc()).limit(1)):
            if found := shapes.load(shape, row.numbers):
                return Measurement(found, row.at)
        return None


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
