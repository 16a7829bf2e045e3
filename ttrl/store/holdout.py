"""The questions that are held out as probes: no run learns from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from ttrl.questions import Question
from ttrl.store.database import Database, chunks
from ttrl.store.draw import drawn, secret
from ttrl.store.questions import QuestionState, StoredQuestion, from_row
from ttrl.store.schema import questions

IN_MEMORY = 1000
"""Rows that are read at a time where all are read."""
_HELD_OUT = sa.select(questions).where(questions.c.probe)


class HoldoutTable:
    """The held-out questions of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def key(self) -> bytes:
        """This store's own key, by which questions become probes and probes have their turns."""
        with self._database.write() as connection:
            return secret(connection)

    def among(self, asked: Sequence[Question], *, share: float) -> frozenset[str]:
        """The hashes of those that are held out, or would be if they were recorded."""
        columns = sa.select(questions.c.hash, questions.c.probe)
        known: dict[str, bool] = {}
        with self._database.write() as connection:
            key = secret(connection)
            for hashes in chunks([question.hash for question in asked]):
                found = connection.execute(columns.where(questions.c.hash.in_(hashes)))
                known |= {row.hash: row.probe for row in found}
        return frozenset(
            question.hash
            for question in asked
            if known.get(question.hash, drawn(question.cluster, key, share))
        )

    def probes(self, limit: int | None = None) -> list[StoredQuestion]:
        """The newest first, without those that tell the model what to say."""
        query = _HELD_OUT.where(questions.c.state != QuestionState.SKIPPED)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(questions.c.id.desc()).limit(limit))
            return [from_row(row) for row in rows]

    def all(self) -> Iterator[Question]:
        """Every one, a part of them in memory at a time."""
        with self._database.read() as connection:
            for row in connection.execution_options(yield_per=IN_MEMORY).execute(_HELD_OUT):
                yield from_row(row).question

    def expose(self, ids: Sequence[int]) -> None:
        """One more gate has asked these."""
        query = questions.update().values(exposures=questions.c.exposures + 1)
        with self._database.write() as connection:
            for some in chunks(ids):
                connection.execute(query.where(questions.c.id.in_(some)))
