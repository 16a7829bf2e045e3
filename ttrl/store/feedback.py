"""Receipts of answers, and what their clients said of them: kept by the daemon, and turned into
labelled probes where it decides."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.evaluation.probes import Label, ProbeOrigin
from ttrl.feedback import (
    DEFAULT_METRIC,
    HOUR_SECONDS,
    Correction,
    Given,
    Share,
    State,
    bursts,
    screen,
    share,
    voices,
)
from ttrl.questions.question import Question
from ttrl.store.database import Table, change_among
from ttrl.store.probes import probe_row
from ttrl.store.questions import QuestionState, in_state
from ttrl.store.runs import active
from ttrl.store.schema import adapter_questions, answers, feedback, probes, questions

a, f, q = answers.c, feedback.c, questions.c
AT_ONCE = 1_000
"""Old receipts that go in one transaction."""
SCORED = 10_000
"""The newest feedback that says how versions are scored: asked for every few seconds."""
LEARNED = (QuestionState.LEARNED_FROM, QuestionState.QUARANTINED)


class Taken(StrEnum):
    """What became of a request to keep feedback."""

    NEW = "new"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    UNKNOWN = "unknown"  # no such answer of this client
    EXPIRED = "expired"


class FeedbackTable(Table):
    def give(self, answer: str, given: Given, *, since: float) -> Taken:
        """Keep feedback on an answer, known by its receipt's hash, in place of the one before with
        the same metric; only on answers since then (Unix seconds)."""
        values = {**asdict(given), "tags": list(given.tags)}
        mine = (f.answer == answer, f.metric == given.metric)
        with self.db.write() as connection:
            known = connection.execute(sa.select(answers).where(a.hash == answer)).first()
            if known is None or known.at < since:
                return Taken.UNKNOWN if known is None else Taken.EXPIRED
            before = connection.execute(sa.select(feedback).where(*mine)).mappings().first()
            if before and all(before[name] == value for name, value in values.items()):
                return Taken.UNCHANGED
            state = State.SCORED
            if given.correction:
                state = State.NEW if known.question else State.NO_QUESTION
            elif before and before["correction"]:
                _reopen(connection, [known.question])
            row = {**values, "answer": answer, "at": time.time(), "state": state}
            if before:
                connection.execute(feedback.update().where(*mine).values(row))
                return Taken.REPLACED
            connection.execute(feedback.insert().values(row))
            return Taken.NEW

    def quarantine(self, *, since: float) -> None:
        """Use nothing of what was said in bursts since then (Unix seconds)."""
        said = sa.select(f.id, f.state, f.at, a.client, a.question).join_from(feedback, answers)
        rows = [
            (row, (row.client, int(row.at // HOUR_SECONDS)))
            for row in self.db.rows(said.where(f.at >= since))
        ]
        found = bursts(Counter(hour for _, hour in rows))
        new = [row for row, hour in rows if hour in found and row.state != State.BURST]
        if new:
            with self.db.write() as connection:
                burst = feedback.update().values(state=State.BURST)
                change_among(connection, burst, f.id, [row.id for row in new])
                _reopen(connection, [row.question for row in new])

    def unscreened(self) -> list[str]:
        """Return the questions, by their hashes, of which there are corrections to be looked at."""
        new = sa.select(a.question).distinct().join_from(feedback, answers)
        return self.db.scalars(new.where(f.state == State.NEW, a.question.is_not(None)))

    def about(self, asked: str) -> tuple[Question, list[Correction]] | None:
        """Return a question and the corrections of it that count; None if it is gone."""
        row = self.db.first(sa.select(questions).where(q.hash == asked))
        if row is None:
            return None
        newest = sa.select(f.id, a.client).join_from(feedback, answers)
        newest = newest.where(_corrects(asked)).order_by(f.at.desc())
        ids = voices((each.id, each.client) for each in self.db.rows(newest))
        said = sa.select(f.id, a.client, f.correction, f.at).join_from(feedback, answers)
        return Question(row.body, row.hash, row.sampling, row.cluster), [
            Correction(*each) for each in self.db.rows_among(said, f.id, ids)
        ]

    def settle(
        self,
        question: Question,
        corrections: Sequence[Correction],
        canonical: Sequence[str | None],
        *,
        agree: int,
    ) -> None:
        """Note what becomes of the corrections of a question, and make or take back the label that
        they are for. While a run is under way, which may be learning from it, nothing."""
        with self.db.write() as connection:
            if active(connection):
                return
            closed = _closed(connection, question)
            label, states = screen(corrections, canonical, agree=agree, closed=closed)
            others = feedback.update().where(_corrects(question.hash), f.id.not_in(list(states)))
            connection.execute(others.values(state=State.OLDER))
            for each in corrections:  # one that was replaced meanwhile is looked at again
                same = (f.id == each.id, f.at == each.at)
                connection.execute(feedback.update().where(*same).values(state=states[each.id]))
            ours = (probes.c.hash == question.hash, probes.c.origin == ProbeOrigin.FEEDBACK)
            accepted = connection.scalar(sa.select(probes.c.answers).where(*ours))
            if accepted == (label and [label]):
                return
            _take_back(connection, [question.hash])
            if label is not None:
                known = Label(question, (label,), None, ())
                connection.execute(probes.insert().values(probe_row(known, ProbeOrigin.FEEDBACK)))

    def closed(self, question: Question) -> State | None:
        """Return why no correction of a question becomes its label, if so."""
        with self.db.read() as connection:
            return _closed(connection, question)

    def accept(self, feedback_id: int) -> None:
        """Note that the operator made a correction the label."""
        self.db.change(feedback.update().where(f.id == feedback_id).values(state=State.LABEL))

    def correction(self, feedback_id: int) -> tuple[str, Question]:
        """Return a correction and its question. Raises NotFound."""
        query = sa.select(f.correction, q.body, q.hash, q.sampling, q.cluster)
        query = query.join_from(feedback, answers).join(questions, q.hash == a.question)
        missing = (
            f"there is no correction {feedback_id} of a recorded question; see `ttrl feedback list`"
        )
        row = self.db.get(query.where(f.id == feedback_id, f.correction.is_not(None)), missing)
        return row.correction, Question(*row[1:])

    def each(self, state: str | None = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield feedback with its answer's version and its question's id and body, newest first."""
        query = sa.select(feedback, a.version, a.client, q.id.label("question_id"), q.body)
        query = query.join_from(feedback, answers).outerjoin(questions, q.hash == a.question)
        if state is not None:
            query = query.where(f.state == state)
        for row in self.db.stream(query.order_by(f.id.desc()).limit(limit)):
            yield dict(row._mapping)

    def counts(self) -> dict[str, int]:
        return self.db.counts(f.state)

    def shares(self) -> dict[str | None, Share]:
        """Return how the answers of each version (None: the base model) were scored under the
        default metric, but for bursts, by the newest SCORED pieces of feedback."""
        total, squares = sa.func.sum(f.score), sa.func.sum(f.score * f.score)
        who = sa.func.count(sa.func.coalesce(a.client, "").distinct())
        scored = sa.select(a.version, sa.func.count(), total, squares, who)
        scored = scored.join_from(feedback, answers).group_by(a.version)
        such = (f.score.is_not(None), f.metric == DEFAULT_METRIC, f.state != State.BURST)
        newest = sa.select(sa.func.max(f.id)).scalar_subquery()
        query = scored.where(*such, f.id > newest - SCORED)
        return {row[0]: share(*row[1:]) for row in self.db.rows(query)}

    def expire(self, *, unused: float, used: float | None, most: int) -> int:
        """Forget receipts without feedback from before `unused` (Unix seconds), and the oldest of
        more than `most`; those with feedback from before `used`, unless a label rests on it. Return
        how many."""
        said = sa.exists().where(f.answer == a.hash)
        old = sa.select(a.hash).order_by(a.at, a.hash)
        labelled = sa.select(probes.c.hash).where(probes.c.origin == ProbeOrigin.FEEDBACK)
        resting = sa.and_(a.question.is_not(None), a.question.in_(labelled))

        def forget(which: sa.Select[str], most: int | None = None) -> int:
            parts = self.db.in_parts(which, AT_ONCE, most)
            return sum(self.db.change_among(answers.delete(), a.hash, some) for some in parts)

        count = forget(old.where(a.at < unused, ~said))
        if used is not None:
            count += forget(old.where(a.at < used, said, ~resting))
        there = sa.select(sa.func.count()).select_from(answers).where(~said)
        return count + forget(old.where(~said), (self.db.scalar(there) or 0) - most)


def _corrects(asked: str) -> sa.ColumnElement[bool]:
    """Say that feedback corrects a question and is in no burst."""
    of_it = sa.select(a.hash).where(a.question == asked)
    return sa.and_(f.correction.is_not(None), f.state != State.BURST, f.answer.in_(of_it))


def _reopen(connection: sa.Connection, asked: Sequence[str | None]) -> None:
    """Take labels of these questions back, and let what is left of their corrections be looked at
    again."""
    hashes = sorted({each for each in asked if each is not None})
    _take_back(connection, hashes)
    for each in hashes:
        connection.execute(feedback.update().where(_corrects(each)).values(state=State.NEW))


def _take_back(connection: sa.Connection, hashes: Sequence[str]) -> None:
    """Forget the labels that feedback made; what is like these questions can be learned from."""
    ours = probes.delete().where(probes.c.origin == ProbeOrigin.FEEDBACK)
    if change_among(connection, ours, probes.c.hash, hashes):
        like = questions.update().where(q.state == QuestionState.LIKE_PROBE)
        connection.execute(like.values(state=QuestionState.NEW, reason=None))


def _closed(connection: sa.Connection, question: Question) -> State | None:
    this = sa.select(q.cluster, q.state).where(q.hash == question.hash)
    row = connection.execute(this).first()
    if row is None:
        return State.NO_QUESTION
    alike = sa.select(q.id).where(q.cluster == row.cluster)
    learned = sa.or_(in_state(*LEARNED), q.id.in_(sa.select(adapter_questions.c.question_id)))
    if connection.scalar(alike.where(learned).limit(1)) is not None:
        return State.TRAINED
    others = (probes.c.hash == question.hash, probes.c.origin != ProbeOrigin.FEEDBACK)
    if connection.scalar(sa.select(probes.c.id).where(*others)) is not None:
        return State.LABELLED
    return State.WAITING if row.state == QuestionState.SKIPPED else None
