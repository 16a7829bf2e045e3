"""Votes as rows, each whole with its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ttrl.faults import Point, reached
from ttrl.store.database import Database
from ttrl.store.schema import samples, votes
from ttrl.store.traces import known


class VoteTable:
    """The votes of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> None:
        """Whole votes with their samples, all or none; but for questions forgotten meanwhile."""
        with self._database.write() as connection:
            there = known(connection, [vote["question_id"] for vote, _ in rows])
            for vote, drawn in rows:
                if vote["question_id"] not in there:
                    continue
                key = connection.execute(votes.insert().values(dict(vote))).inserted_primary_key
                assert key is not None
                connection.execute(
                    samples.insert(), [{**sample, "vote_id": key[0]} for sample in drawn]
                )
            reached(Point.VOTING)

    def newest(self, question_id: int, limit: int = 5) -> list[dict[str, Any]]:
        """The newest votes on a question, as JSON has them."""
        query = sa.select(votes).where(votes.c.question_id == question_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(votes.c.id.desc()).limit(limit))
            return [dict(row._mapping) for row in rows]

    def samples(self, vote_id: int) -> list[dict[str, Any]]:
        """The samples of a vote, in their order, as JSON has them; without token ids."""
        c = samples.c
        columns = sa.select(c.text, c.answer, c.finish, c.reward, c.kept)
        query = columns.where(c.vote_id == vote_id).order_by(c.position)
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]
