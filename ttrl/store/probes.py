"""Labelled probes as rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ttrl.probes import Label, LabelledProbe, ProbeOrigin
from ttrl.questions import Question
from ttrl.store.database import Database, chunks
from ttrl.store.schema import probes
from ttrl.store.traces import unquote


class ProbeTable:
    """The labelled probes of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, labels: Sequence[Label]) -> int:
        """Add what the operator wrote, all or none; what was said of a question before is replaced.
        How many there are more than before."""
        insert = self._database.upsert(probes)
        changed = ("answers", "refuse", "tags", "origin")
        upsert = insert.on_conflict_do_update(
            index_elements=[probes.c.hash],
            set_={name: insert.excluded[name] for name in changed},
        )
        with self._database.write() as connection:
            before = _count(connection)
            connection.execute(upsert, [row_of(each, ProbeOrigin.OPERATOR) for each in labels])
            return _count(connection) - before

    def labelled(self) -> list[LabelledProbe]:
        """All of them, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(probes).order_by(probes.c.id))
            return [_from_row(row) for row in rows]

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """What those of these questions ask that are probes."""
        query = sa.select(probes).where(probes.c.hash.in_(hashes))
        with self._database.read() as connection:
            found = [_from_row(row) for row in connection.execute(query)]
        return {probe.question.hash: probe.question.text for probe in found}

    def expose(self, ids: Sequence[int]) -> None:
        """One more gate has seen these."""
        query = probes.update().values(exposures=probes.c.exposures + 1)
        with self._database.write() as connection:
            for some in chunks(ids):
                connection.execute(query.where(probes.c.id.in_(some)))

    def remove(self, ids: Sequence[int]) -> int:
        """Forget these; how many there were."""
        removed = 0
        with self._database.write() as connection:
            for some in chunks(ids):
                among = probes.c.id.in_(some)
                unquote(connection, set(connection.scalars(sa.select(probes.c.hash).where(among))))
                removed += connection.execute(probes.delete().where(among)).rowcount
        return removed


def row_of(label: Label, origin: ProbeOrigin) -> dict[str, Any]:
    """A label as it is stored."""
    return {
        "hash": label.question.hash,
        "body": dict(label.question.body),
        "answers": list(label.accepted),
        "refuse": label.refuse,
        "tags": list(label.tags),
        "cluster": label.question.cluster,
        "origin": origin,
        "added": time.time(),
        "exposures": 0,
    }


def _from_row(row: sa.Row[Any]) -> LabelledProbe:
    return LabelledProbe(
        question=Question(row.body, row.hash),
        accepted=tuple(row.answers),
        refuse=row.refuse,
        tags=tuple(row.tags),
        id=row.id,
        cluster=row.cluster,
        origin=ProbeOrigin(row.origin),
        added=row.added,
        exposures=row.exposures,
    )


def _count(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(probes)) or 0
