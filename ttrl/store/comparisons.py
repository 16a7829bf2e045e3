"""Pairs of answers as rows: written by runs, judged by the operator."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ttrl.evaluation.probes import Judged, Label, Pair, ProbeOrigin, Side
from ttrl.questions.question import Question
from ttrl.store.database import Database, chunks
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


@dataclass(frozen=True)
class History:
    """What the operator was asked about one question: why, how often, whether a pair of it waits to
    be judged, and whether one could not be."""

    question_id: int
    origin: ProbeOrigin
    rounds: int
    waiting: bool
    skipped: bool


class ComparisonTable:
    """The pairs of one store. A question has one, and further ones about other answers only while
    nothing but wrong answers to it is known."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: int, pairs: Sequence[Pair]) -> None:
        """Ask the operator about these; a question that has a pair of that round already is
        passed over."""
        if not pairs:
            return
        insert = self._database.upsert(comparisons)
        rows = [_row(run_id, pair) for pair in pairs]
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_nothing(), rows)

    def history(self) -> dict[str, History]:
        """Return the history of every question that has a pair, by its hash."""
        c = comparisons.c
        query = (
            sa.select(
                questions.c.hash,
                c.question_id,
                sa.func.min(c.origin),  # all of a question's are the same
                sa.func.count(),
                sa.func.count().filter(c.judgement.is_(None)),
                sa.func.count().filter(c.judgement == Judged.CANNOT_TELL),
            )
            .select_from(comparisons.join(questions, c.question_id == questions.c.id))
            .group_by(questions.c.hash, c.question_id)
        )
        with self._database.read() as connection:
            return {
                row[0]: History(row[1], ProbeOrigin(row[2]), row[3], row[4] > 0, row[5] > 0)
                for row in connection.execute(query)
            }

    def mark_random(self, question_ids: Collection[int]) -> None:
        """Let these questions and their labels stand for the traffic from now on: they were drawn
        at random now, having a pair already because versions disagreed. One that could not be
        judged becomes a probe of which nothing is known, as if it had been drawn at random at
        first."""
        insert = self._database.upsert(probes).on_conflict_do_nothing()
        with self._database.write() as connection:
            for some in chunks(sorted(question_ids)):
                connection.execute(
                    comparisons.update()
                    .where(comparisons.c.question_id.in_(some))
                    .values(origin=ProbeOrigin.RANDOM, at=time.time())
                )
                hashes = sa.select(questions.c.hash).where(questions.c.id.in_(some))
                connection.execute(
                    probes.update()
                    .where(probes.c.hash.in_(hashes), probes.c.origin == ProbeOrigin.DISAGREEMENT)
                    .values(origin=ProbeOrigin.RANDOM)
                )
                skipped = connection.execute(
                    _select().where(
                        comparisons.c.question_id.in_(some),
                        comparisons.c.judgement == Judged.CANNOT_TELL,
                    )
                ).all()
                for each in map(_from_row, skipped):
                    if known := each.pair.label(each.question, Judged.CANNOT_TELL):
                        connection.execute(insert, row_of(known, each.pair.origin))

    def drawn_since(self, at: float, *, again: bool = False) -> int:
        """Return how many questions were drawn at random since then (Unix seconds), for the first
        time or to be asked about `again`."""
        c = comparisons.c
        query = sa.select(sa.func.count()).where(
            c.at >= at, c.origin == ProbeOrigin.RANDOM, c.round > 0 if again else c.round == 0
        )
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def undecided_right(self) -> tuple[int, int]:
        """Return, of the judged answers that were drawn from the undecided ones, how many are
        right, and how many there are."""
        c = comparisons.c
        query = sa.select(
            sa.func.count().filter(c.judgement != Judged.NEITHER), sa.func.count()
        ).where(c.round > 0, c.judgement.is_not(None), c.judgement != Judged.CANNOT_TELL)
        with self._database.read() as connection:
            right, judged = connection.execute(query).one()
            return right, judged

    def waiting(self) -> list[StoredPair]:
        """Return the pairs not judged yet, the newest first; without questions that the operator
        labelled."""
        labelled = sa.select(probes.c.hash).where(probes.c.origin == ProbeOrigin.OPERATOR)
        query = _select().where(comparisons.c.judgement.is_(None), ~questions.c.hash.in_(labelled))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(comparisons.c.id.desc()))
            return [_from_row(row) for row in rows]

    def first_judged(self, run_id: int) -> float:
        """Return when the operator first judged an answer of a run (Unix seconds); now, if
        never."""
        query = sa.select(sa.func.min(comparisons.c.judged_at)).where(
            comparisons.c.run_id == run_id, comparisons.c.judgement.is_not(None)
        )
        with self._database.read() as connection:
            return connection.scalar(query) or time.time()

    def worth(self, run_id: int) -> list[float]:
        """Return what the judgements of a run's pairs say of its candidate, each from -1 to 1."""
        query = _select().where(
            comparisons.c.run_id == run_id, comparisons.c.judgement.is_not(None)
        )
        with self._database.read() as connection:
            found = [_from_row(row) for row in connection.execute(query)]
        worth = (each.pair.worth(each.judged) for each in found if each.judged)
        return [value for value in worth if value is not None]

    def get(self, pair_id: int) -> StoredPair:
        """Return one pair. Raises KeyError."""
        with self._database.read() as connection:
            row = connection.execute(_select().where(comparisons.c.id == pair_id)).one_or_none()
        if row is None:
            raise KeyError(f"there is no pair {pair_id}; see `ttrl label --list`")
        return _from_row(row)

    def judge(self, stored: StoredPair, judged: Judged | None, typed: str = "") -> Label | None:
        """Note a judgement (None takes it back) in place of the one before, and return what is
        known of the question by all of its judgements, which is noted too. What the operator
        labelled otherwise stays. Of a question that was forgotten meanwhile nothing is kept."""
        c = comparisons.c
        values = {"judgement": judged, "judged_at": None if judged is None else time.time()}
        ours = (probes.c.hash == stored.question.hash) & (probes.c.origin != ProbeOrigin.OPERATOR)
        with self._database.write() as connection:
            accepted = connection.scalar(sa.select(probes.c.answers).where(ours)) or []
            connection.execute(probes.delete().where(ours))
            # Read anew: the question may have been drawn at random since `stored` was read.
            of_question = _select().where(c.question_id == stored.pair.question_id)
            rows = connection.execute(of_question.order_by(c.round)).all()
            pairs = {each.id: each for each in map(_from_row, rows)}
            if stored.id not in pairs:
                return None
            connection.execute(comparisons.update().where(c.id == stored.id).values(values))
            pair = pairs[stored.id].pair
            right, wrong = _of_others(list(pairs.values()), stored.id, accepted)
            if judged is None and not right and not wrong:
                return None
            known = pair.label(
                stored.question, judged or Judged.CANNOT_TELL, typed, right=right, wrong=wrong
            )
            if known is not None:
                insert = self._database.upsert(probes)
                row = row_of(known, pair.origin)
                connection.execute(insert.on_conflict_do_nothing(), row)
            return known


def _of_others(
    pairs: Sequence[StoredPair], pair_id: int, accepted: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return right and wrong answers by the judgements of a question's pairs, in order of their
    rounds, except for one pair; `accepted` are the right ones by all of them."""
    right: list[str] = []
    wrong: list[str] = []
    for each in pairs:
        if each.id != pair_id and each.judged is not None:
            known = each.pair.label(each.question, each.judged)
            right += known.accepted if known else ()
            wrong += known.rejected if known else ()
    neither = [each.id for each in pairs if each.judged is Judged.NEITHER]
    if neither and neither[-1] != pair_id:
        # Typed with the last of them: once a right answer is known there is no further round.
        shown = {side.label for each in pairs for side in (each.pair.live, each.pair.candidate)}
        right += [answer for answer in accepted if answer not in shown]
    return right, wrong


def _select() -> sa.Select[Any]:
    joined = comparisons.join(questions, comparisons.c.question_id == questions.c.id)
    columns = (questions.c.hash, questions.c.body, questions.c.cluster)
    return sa.select(comparisons, *columns).select_from(joined)


def _row(run_id: int, pair: Pair) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "question_id": pair.question_id,
        "round": pair.round,
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
        row.round,
    )
    judged = None if row.judgement is None else Judged(row.judgement)
    question = Question(row.body, row.hash, recorded_in=row.cluster)
    return StoredPair(row.id, row.run_id, question, pair, judged)
