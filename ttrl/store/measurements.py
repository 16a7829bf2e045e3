"""What was measured of versions and of the traffic, as rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.store.database import Database
from ttrl.store.schema import measurements


class Kind(StrEnum):
    """What was measured."""

    QUALITY = "quality"
    """A version's answers to the probes (ttrl.quality)."""
    POLICY = "policy"
    """How far a version is from others, in nats a token."""
    QUESTIONS = "questions"
    """How far the newest questions are from those before them (ttrl.psi)."""


@dataclass(frozen=True)
class Measurement:
    """Numbers `at` a time in Unix seconds; `version` None is the base model, or no version."""

    kind: Kind
    version: str | None
    at: float
    numbers: Mapping[str, Any]


class MeasurementTable:
    """The measurements of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: Kind, version: str | None, numbers: Mapping[str, Any]) -> None:
        """Write one down, as of now."""
        row = {"kind": kind, "version": version, "at": time.time(), "numbers": dict(numbers)}
        with self._database.write() as connection:
            connection.execute(measurements.insert().values(row))

    def newest(self, kind: Kind, version: str | None = None) -> Measurement | None:
        """The last one of a version."""
        found = self.history(kind, version, limit=1)
        return found[0] if found else None

    def history(
        self, kind: Kind, version: str | None = None, *, limit: int = 100
    ) -> list[Measurement]:
        """Those of a version, the newest first."""
        c = measurements.c
        query = sa.select(measurements).where(
            c.kind == kind, c.version.is_not_distinct_from(version)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(c.id.desc()).limit(limit))
            return [Measurement(Kind(row.kind), row.version, row.at, row.numbers) for row in rows]
