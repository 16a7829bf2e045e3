"""Recorded questions on their way out of one store and into another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ttrl.questions.question import Question
from ttrl.store.database import Database, chunks
from ttrl.store.questions import Origin, Recorded, hold_out, in_conversations, to_row
from ttrl.store.schema import question_clients, questions

AT_ONCE = 500


@dataclass(frozen=True)
class Exported:
    """A question with what is known of its asking, times in Unix seconds; `clients` are all who
    asked it, by their keys' hashes."""

    question: Question
    count: int
    first_seen: float
    last_seen: float
    origin: Origin
    clients: tuple[str, ...] = ()


class Exchange:
    """What goes out of one store, and what comes in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def out(self, state: str | None = None) -> Iterator[Exported]:
        """Yield every question, or those in one state, the oldest first; a part in memory at a
        time."""
        query = sa.select(questions).order_by(questions.c.id)
        if state is not None:
            query = query.where(questions.c.state == state, ~questions.c.probe)
        who = sa.select(question_clients.c.client).order_by(question_clients.c.client)
        with self._database.read() as connection:
            rows = connection.execution_options(yield_per=AT_ONCE).execute(query)
            for row in rows:
                asked = who.where(question_clients.c.question_id == row.id)
                clients = tuple(connection.scalars(asked))
                yield Exported(
                    Question(row.body, row.hash, row.sampling),
                    row._mapping["count"],
                    row.first_seen,
                    row.last_seen,
                    Origin(row.origin),
                    clients,
                )

    def take_in(self, exported: Sequence[Exported], *, holdout: float) -> int:
        """Add what is not there yet, all or none; return how much that is. Of what is there, the
        larger count, the wider times and the newer sampling stay, so that taking in the same twice
        does no harm."""
        insert = self._database.upsert(questions)
        c, new = questions.c, insert.excluded
        upsert = insert.on_conflict_do_update(
            index_elements=[c.hash],
            set_={
                "count": _larger(c.count, new.count),
                "first_seen": sa.case(
                    (c.first_seen < new.first_seen, c.first_seen), else_=new.first_seen
                ),
                "last_seen": _larger(c.last_seen, new.last_seen),
                "sampling": sa.case(
                    (c.last_seen > new.last_seen, sa.func.coalesce(c.sampling, new.sampling)),
                    else_=sa.func.coalesce(new.sampling, c.sampling),
                ),
                "shared": sa.or_(c.shared, new.shared, c.client.is_distinct_from(new.client)),
            },
        )
        with self._database.read() as connection:
            placed = in_conversations(connection, [each.question for each in exported])
        rows = [
            _row(replace(each, question=question))
            for each, question in zip(exported, placed, strict=True)
        ]
        with self._database.write() as connection:
            before = _count(connection)
            hold_out(connection, rows, holdout)
            for some in chunks(rows, AT_ONCE):
                connection.execute(upsert, some)
            for each in chunks(exported, AT_ONCE):
                self._who_asked(connection, each)
            return _count(connection) - before

    def _who_asked(self, connection: sa.Connection, exported: Sequence[Exported]) -> None:
        ids: dict[str, int] = {}
        hashes = [each.question.hash for each in exported if each.clients]
        found = sa.select(questions.c.hash, questions.c.id).where(questions.c.hash.in_(hashes))
        ids |= {row.hash: row.id for row in connection.execute(found)}
        rows = [
            {"question_id": ids[each.question.hash], "client": client}
            for each in exported
            for client in each.clients
        ]
        insert = self._database.upsert(question_clients).on_conflict_do_nothing()
        for some in chunks(rows):
            connection.execute(insert, some)


def _row(each: Exported) -> dict[str, Any]:
    client = each.clients[0] if each.clients else None
    recorded = Recorded(each.question, each.last_seen, client)
    return {
        **to_row(recorded, each.origin),
        "count": each.count,
        "first_seen": each.first_seen,
        "shared": len(each.clients) > 1,
    }


def _larger(one: sa.ColumnElement[Any], other: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((one > other, one), else_=other)


def _count(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(questions)) or 0
