"""Pairs of answers as rows: written by runs, judged by the operator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ttrl.labelling import Judged, Pair, Side
from ttrl.probes import Label, ProbeOrigin
from ttrl.questions import Question
from ttrl.store.database import Database
from ttrl.store.probes import row_of
from ttrl.store.schema import comparisons, probes, questions


@dataclass(frozen=True)
class StoredPair:
    """A pair that `run_id` found, and how it was judged, if it was."""

    id: int
    run_id: int
    question: Question
    pair: Pair
    judged: Judged | None


class ComparisonTable:
    """The pairs of one store. A question has one at most: nobody is asked twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: int, pairs: Sequence[Pair]) -> None:
        """Ask the operator about these; questions that have a pair already are passed over."""
        if not pairs:
            return
        insert = self._database.upsert(comparisons)
        rows = [_row(run_id, pair) for pair in pairs]
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_nothing(), rows)

    def compared(self) -> frozenset[int]:
        """The ids of questions that have a pair."""
        with self._database.read() as connection:
            return frozenset(connection.scalars(sa.select(comparisons.c.question_id)))

    def drawn_since(self, at: float) -> int:
        """How many were drawn at random since then (Unix seconds)."""
        query = sa.select(sa.func.count()).where(
            comparisons.c.at >= at, comparisons.c.origin == ProbeOrigin.RANDOM
        )
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def waiting(self) -> list[StoredPair]:
        """Those not judged yet, the newest first; without questions that have a label."""
        labelled = sa.select(probes.c.hash)
        query = _select().where(comparisons.c.judgement.is_(None), ~questions.c.hash.in_(labelled))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(comparisons.c.id.desc()))
            return [_from_row(row) for row in rows]

    def worth(self, run_id: int) -> list[float]:
        """What the judgements of a run's pairs say of its candidate, each from -1 to 1."""
        query = _select().where(
            comparisons.c.run_id == run_id, comparisons.c.judgement.is_not(None)
        )
        with self._database.read() as connection:
            found = [_from_row(row) for row in connection.execute(query)]
        worth = (each.pair.worth(each.judged) for each in found if each.judged)
        return [value for value in worth if value is not None]

    def get(self, pair_id: int) -> StoredPair:
        """One pair. Raises KeyError."""
        with self._database.read() as connection:
            row = connection.execute(_select().where(comparisons.c.id == pair_id)).one_or_none()
        if row is None:
            raise KeyError(f"there is no pair {pair_id}; `ttrl label --list` names those there are")
        return _from_row(row)

    def judge(self, stored: StoredPair, judged: Judged | None, typed: str = "") -> None:
        """Write down a judgement (None takes it back) in place of the one before, and with it what
        is right for the question; what the operator labelled otherwise stays. Of a question that
        was forgotten meanwhile nothing is kept."""
        values = {"judgement": judged, "judged_at": None if judged is None else time.time()}
        ours = (probes.c.hash == stored.question.hash) & (probes.c.origin != ProbeOrigin.OPERATOR)
        accepted = () if judged is None else stored.pair.accepted(judged, typed)
        with self._database.write() as connection:
            update = comparisons.update().where(comparisons.c.id == stored.id)
            found = connection.execute(update.values(values)).rowcount
            connection.execute(probes.delete().where(ours))
            if found and accepted:
                row = row_of(Label(stored.question, accepted, None, ()), stored.pair.origin)
                insert = self._database.upsert(probes)
                connection.execute(insert.on_conflict_do_nothing(), row)


def _select() -> sa.Select[Any]:
    joined = comparisons.join(questions, comparisons.c.question_id == questions.c.id)
    return sa.select(comparisons, questions.c.hash, questions.c.body).select_from(joined)


def _row(run_id: int, pair: Pair) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "question_id": pair.question_id,
        "origin": pair.origin,
        "text_live": pair.live.text,
        "label_live": pair.live.label,
        "text_candidate": pair.candidate.text,
        "label_candidate": pair.candidate.label,
        "at": time.time(),
    }


def _from_row(row: sa.Row[Any]) -> StoredPair:
    pair = Pair(
        row.question_id,
        ProbeOrigin(row.origin),
        Side(row.text_live, row.label_live),
        Side(row.text_candidate, row.label_candidate),
    )
    judged = None if row.judgement is None else Judged(row.judgement)
    return StoredPair(row.id, row.run_id, Question(row.body, row.hash), pair, judged)
