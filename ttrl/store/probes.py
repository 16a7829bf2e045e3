"""Probes, from which no run learns: labelled ones, and questions held out of the traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ttrl.evaluation.probes import Label, LabelledProbe, ProbeOrigin
from ttrl.questions.question import Question
from ttrl.store.database import Database, chunks
from ttrl.store.questions import (
    QuestionState,
    StoredQuestion,
    drawn,
    from_row,
    known_secret,
    secret,
)
from ttrl.store.schema import probes, questions
from ttrl.store.traces import unquote

IN_MEMORY = 1000
"""Rows that are read at a time where all are read."""
_HELD_OUT = sa.select(questions).where(questions.c.probe)


class ProbeTable:
    """The labelled probes of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, labels: Sequence[Label]) -> int:
        """Add what the operator wrote, all or none, in place of what was said of a question before.
        Return how many probes there are more than before."""
        insert = self._database.upsert(probes)
        changed = ("answers", "rejected", "refuse", "tags", "origin")
        upsert = insert.on_conflict_do_update(
            index_elements=[probes.c.hash],
            set_={name: insert.excluded[name] for name in changed},
        )
        rows = [row_of(each, ProbeOrigin.OPERATOR) for each in labels]
        with self._database.write() as connection:
            before = _count(connection)
            connection.execute(upsert, rows)
            return _count(connection) - before

    def labelled(self) -> list[LabelledProbe]:
        """Return all of them, the oldest first; those that users asked as well with how these
        sampled."""
        asked = probes.outerjoin(questions, questions.c.hash == probes.c.hash)
        query = sa.select(probes, questions.c.sampling).select_from(asked).order_by(probes.c.id)
        with self._database.read() as connection:
            return [_from_row(row, row.sampling) for row in connection.execute(query)]

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Return the texts of those of these questions that are labelled probes, by hash."""
        query = sa.select(probes).where(probes.c.hash.in_(hashes))
        with self._database.read() as connection:
            found = [_from_row(row) for row in connection.execute(query)]
        return {probe.question.hash: probe.question.text for probe in found}

    def expose(self, ids: Sequence[int]) -> None:
        """Count one more gate that has asked these."""
        query = probes.update().values(exposures=probes.c.exposures + 1)
        with self._database.write() as connection:
            for some in chunks(ids):
                connection.execute(query.where(probes.c.id.in_(some)))

    def remove(self, ids: Sequence[int]) -> int:
        """Forget these; return how many there were."""
        removed = 0
        with self._database.write() as connection:
            for some in chunks(ids):
                among = probes.c.id.in_(some)
                unquote(connection, set(connection.scalars(sa.select(probes.c.hash).where(among))))
                removed += connection.execute(probes.delete().where(among)).rowcount
        return removed


class HoldoutTable:
    """The held-out questions of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def key(self) -> bytes:
        """Return this store's own key, by which questions become probes and probes have their
        turns."""
        with self._database.read() as connection:
            found = known_secret(connection)
        if found is not None:
            return found
        with self._database.write() as connection:
            return secret(connection)

    def among(self, asked: Sequence[Question], *, share: float) -> frozenset[str]:
        """Return the hashes of those that are held out, or would be if they were recorded."""
        columns = sa.select(questions.c.hash, questions.c.probe)
        known: dict[str, bool] = {}
        key = self.key()
        with self._database.read() as connection:
            for hashes in chunks([question.hash for question in asked]):
                found = connection.execute(columns.where(questions.c.hash.in_(hashes)))
                known |= {row.hash: row.probe for row in found}
        return frozenset(
            question.hash
            for question in asked
            if known.get(question.hash, drawn(question.cluster, key, share))
        )

    def probes(self, limit: int | None = None) -> list[StoredQuestion]:
        """Return the newest first, without those that tell the model what to say."""
        query = _HELD_OUT.where(questions.c.state != QuestionState.SKIPPED)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(questions.c.id.desc()).limit(limit))
            return [from_row(row) for row in rows]

    def all(self) -> Iterator[Question]:
        """Yield every held-out question, a part of them in memory at a time."""
        with self._database.read() as connection:
            for row in connection.execution_options(yield_per=IN_MEMORY).execute(_HELD_OUT):
                yield from_row(row).question

    def expose(self, ids: Sequence[int]) -> None:
        """Count one more gate that has asked these."""
        query = questions.update().values(exposures=questions.c.exposures + 1)
        with self._database.write() as connection:
            for some in chunks(ids):
                connection.execute(query.where(questions.c.id.in_(some)))


def row_of(label: Label, origin: ProbeOrigin) -> dict[str, Any]:
    """Return a label as it is stored."""
    return {
        "hash": label.question.hash,
        "body": dict(label.question.body),
        "answers": list(label.accepted),
        "rejected": list(label.rejected),
        "refuse": label.refuse,
        "tags": list(label.tags),
        "cluster": label.question.cluster,
        "origin": origin,
        "added": time.time(),
        "exposures": 0,
    }


def _from_row(row: sa.Row[Any], sampling: Mapping[str, Any] | None = None) -> LabelledProbe:
    return LabelledProbe(
        question=Question(row.body, row.hash, sampling, row.cluster),
        accepted=tuple(row.answers),
        rejected=tuple(row.rejected),
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
