"""Forgetting what was recorded: because somebody asks for it, or because it is old.

Who asks to be forgotten is forgotten by what was learned as well (`purge`). What is only old goes
without that (`expire`), and a version that learned from it stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ttrl.evaluation.probes import ProbeOrigin
from ttrl.store.adapters import GONE, AdapterState, Author, present_and_before, want
from ttrl.store.database import Table, change_among, chunks, rows_among
from ttrl.store.questions import QuestionState, in_state
from ttrl.store.runs import ACTIVE, RunState, active
from ttrl.store.schema import (
    adapter_clients,
    adapter_questions,
    adapters,
    answers,
    comparisons,
    feedback,
    measurements,
    mentions,
    observations,
    pinned,
    probes,
    question_clients,
    question_counts,
    questions,
    runs,
    samples,
    verdicts,
    votes,
)

AT_ONCE = 100
"""Old questions that go in one transaction, with thousands of samples: the recorder waits."""
HALVES = (~questions.c.probe, questions.c.probe)
"""The index of when questions were asked begins with this."""
A_YEAR = 365 * 86400.0


@dataclass(frozen=True)
class Doomed:
    """What to purge: ids of questions, of labelled probes and of feedback; `client` if it is all
    that this client asked."""

    questions: Sequence[int] = ()
    probes: Sequence[int] = ()
    feedback: Sequence[int] = ()
    client: str | None = None


@dataclass(frozen=True)
class Purged:
    """What was purged: how many questions and labelled probes, the versions that may no longer
    serve, the run that was ended; the version that is wanted now, None for the base model; and how
    much feedback, or receipts for it, besides that on these questions."""

    questions: int
    probes: int
    adapters: tuple[str, ...]
    run: int | None
    wanted: str | None
    feedback: int = 0

    @property
    def anything(self) -> bool:
        return bool(self.questions or self.probes or self.adapters or self.feedback)


class Forgetting(Table):
    def asked_by(self, client: str) -> list[int]:
        query = sa.select(question_clients.c.question_id).where(question_clients.c.client == client)
        return self.db.scalars(query)

    def asked_before(self, at: float) -> list[int]:
        """Return the questions last asked before then (Unix seconds)."""
        old = sa.select(questions.c.id).where(questions.c.last_seen < at)
        return [key for half in HALVES for key in self.db.scalars(old.where(half))]

    def saying(self, matches: Callable[[str], object], word: str = "") -> Doomed:
        """Return the questions, labelled probes and feedback in which any text matches. All are
        read; a `word` of ASCII letters and digits that each match has in it, in any case, saves
        most of them from being parsed."""
        q, p, f = questions.c, probes.c, feedback.c
        asked = sa.select(q.id, q.body, q.sampling)
        if word:
            stored = [sa.cast(column, sa.Text) for column in (q.body, q.sampling)]
            # Other letters are stored as \\u...; some of them count as one of these.
            parts = [t.icontains(w, autoescape=True) for t in stored for w in (word, "\\u")]
            asked = asked.where(sa.or_(*parts))
        return Doomed(
            self._saying(asked, matches),
            self._saying(sa.select(p.id, p.body, p.answers, p.rejected), matches),
            self._saying(sa.select(f.id, f.correction, f.comment, f.tags), matches),
        )

    def purge(self, doomed: Doomed, *, keep_serving: bool = False, dry: bool = False) -> Purged:
        """Forget questions with their labelled probes, and what was learned from them, in one
        transaction (`dry`: only return what would go).

        A run under way is ended, since it may be learning from them. Versions that learned from
        them, and the descendants of these, are tainted, and no longer wanted unless `keep_serving`.
        """
        theirs = adapter_clients.c.client == doomed.client  # which none is without one
        with self.db.write() as connection:
            c = adapter_questions.c
            query = sa.select(c.adapter).distinct()
            rows = rows_among(connection, query, c.question_id, doomed.questions)
            learned = {row.adapter for row in rows}
            learned |= set(connection.scalars(sa.select(adapter_clients.c.adapter).where(theirs)))

            ended = None
            if doomed.questions or doomed.probes or learned:
                ended = active(connection)
                why = "questions that it may have been training on were purged"
                end = runs.update().where(runs.c.id == ended)
                end = end.values(state=RunState.ABORTED, reason=why, finished=time.time())
                connection.execute(end)  # its process sees that within seconds, and stops
            tainted = _taint(connection, learned, keep_serving=keep_serving)

            said = change_among(connection, feedback.delete(), feedback.c.id, doomed.feedback)
            given = answers.delete().where(answers.c.client.in_([doomed.client or ""]))
            said += connection.execute(given).rowcount
            labelled = _forget_probes(connection, doomed.probes)
            hashes = _hashes(connection, questions, doomed.questions)
            labelled += change_among(connection, probes.delete(), probes.c.hash, hashes)
            count = _forget(connection, doomed.questions)
            connection.execute(adapter_clients.delete().where(theirs))

            present, _ = present_and_before(connection)
            purged = Purged(count, labelled, tuple(tainted), ended, present, said)
            if dry:
                connection.rollback()
        return purged

    def delete(self, ids: Sequence[int] | None) -> int:
        """Forget questions (None: all), their votes and samples, the labels from `ttrl label`, and
        the answers to them that a verdict quotes; return how many there were. Versions that learned
        from them stay."""
        with self.db.write() as connection:
            if ids is None:
                ids = list(connection.scalars(sa.select(questions.c.id)))
            for some in chunks(ids):
                self._remember_whose(connection, some)
            return _forget(connection, ids)

    def delete_probes(self, ids: Sequence[int]) -> int:
        with self.db.write() as connection:
            return _forget_probes(connection, ids)

    def expire(self, before: float | None, most: int | None) -> int:
        """Forget questions last asked before then (Unix seconds), and the oldest of more than
        `most` that are not held out; return how many. What a version is proven by stays as long as
        that version, what was labelled stays, and nothing goes while a run is under way."""
        count = 0
        if before is not None:
            count = sum(self._forget_old(half, questions.c.last_seen < before) for half in HALVES)
        if most is not None:
            c = question_counts.c
            there = self.db.scalar(sa.select(sa.func.sum(c.questions)).where(~c.probe)) or 0
            count += self._forget_old(~questions.c.probe, most=there - most)
        return count

    def shrink(self, most: int) -> int:
        """Forget the oldest samples, then the oldest questions, until the store has at most this
        many bytes; return how many questions. Only where the store can say how large it is."""
        while not self._fits(most) and (run := self._oldest_sampled()):
            self._drop_samples(run.id)
        count = 0
        while not self._fits(most) and (gone := self._forget_old(~questions.c.probe, most=AT_ONCE)):
            count += gone
        return count

    def drop_details(self, before: float) -> int:
        """Forget samples and observations of runs that ended before then (Unix seconds), and what
        was measured a year ago; return of how many runs there were samples. Their votes stay with
        the questions."""
        count = 0
        while (run := self._oldest_sampled()) and run.finished < before:
            self._drop_samples(run.id)
            count += 1
        o, m = observations.c, measurements.c
        # The newest one stays: its id would be used again, and who follows would miss it.
        newest = sa.select(sa.func.max(o.id)).scalar_subquery()
        of_old_run = o.run_id.in_(sa.select(runs.c.id).where(runs.c.finished < before))
        self.db.change(observations.delete().where(of_old_run, o.id < newest))
        latest = sa.select(sa.func.max(m.id)).group_by(m.kind, m.version)
        year_old = m.at < time.time() - A_YEAR
        self.db.change(measurements.delete().where(year_old, m.id.not_in(latest)))
        return count

    def retire(self, names: Sequence[str]) -> list[str]:
        """Mark versions whose files are about to be removed, and return those that were marked:
        none while a run is under way, and none that became wanted or tainted meanwhile."""
        with self.db.write() as connection:
            if active(connection):
                return []
            free = set(names) - {present_and_before(connection)[0]}
            retired = adapters.update().values(state=AdapterState.RETIRED)
            retired = retired.where(adapters.c.name.in_(free), adapters.c.state.not_in(GONE))
            return list(connection.scalars(retired.returning(adapters.c.name)))

    def unpin(self, names: Sequence[str]) -> None:
        """Forget what these versions were to be proven by: their files are gone."""
        self.db.change(pinned.delete().where(pinned.c.adapter.in_(names)))

    def give_back(self) -> bool:
        """Return unused room to the disk, and leave no copy of what was deleted where the database
        lets us; False when a reader kept one, to be tried again."""
        return self.db.backend.give_back()

    def _fits(self, most: int) -> bool:
        size = self.db.backend.size()
        return size is None or size <= most

    def _forget_old(self, *which: sa.ColumnElement[bool], most: int | None = None) -> int:
        """Forget the questions that were asked longest ago, at most so many."""
        oldest = _free().where(*which).order_by(questions.c.last_seen, questions.c.id)
        count = 0
        for some in self.db.in_parts(oldest, AT_ONCE, most):
            with self.db.write() as connection:
                if active(connection):
                    break
                self._remember_whose(connection, some)
                count += _forget(connection, some)
        return count

    def _remember_whose(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        """Note who asked what a version learned from: they may ask to be forgotten later, when the
        question is no longer there."""
        learned, asked = adapter_questions.c, question_clients.c
        whose = sa.select(learned.adapter, asked.client).distinct()
        whose = whose.where(learned.question_id == asked.question_id, learned.question_id.in_(ids))
        insert = self.db.upsert(adapter_clients).from_select(["adapter", "client"], whose)
        connection.execute(insert.on_conflict_do_nothing())

    def _oldest_sampled(self) -> sa.Row[Any] | None:
        """Return the oldest run of which there are samples, if it has ended: runs follow one
        another, and so do their samples."""
        vote_id = self.db.scalar(sa.select(samples.c.vote_id).order_by(samples.c.id).limit(1))
        of_vote = sa.select(votes.c.run_id).where(votes.c.id == vote_id).scalar_subquery()
        run = sa.select(runs.c.id, runs.c.finished).where(runs.c.id == of_vote)
        return self.db.first(run.where(runs.c.state.not_in(ACTIVE)))

    def _drop_samples(self, run_id: int) -> None:
        ids = self.db.scalars(sa.select(votes.c.id).where(votes.c.run_id == run_id))
        for some in chunks(ids, AT_ONCE):
            self.db.change(samples.delete().where(samples.c.vote_id.in_(some)))

    def _saying(self, query: sa.Select[Any], matches: Callable[[str], object]) -> list[int]:
        return [row[0] for row in self.db.stream(query) if any(map(matches, _texts(row[1:])))]


def _free() -> sa.Select[int]:
    """Select the questions that nothing else is to be kept for."""
    proving = sa.select(pinned.c.question_id)
    judged = sa.select(comparisons.c.question_id).where(comparisons.c.judgement.is_not(None))
    corrected = sa.select(questions.c.id).join(probes, probes.c.hash == questions.c.hash)
    corrected = corrected.where(probes.c.origin == ProbeOrigin.FEEDBACK)
    kept = proving.union_all(judged, corrected)
    return sa.select(questions.c.id).where(questions.c.id.not_in(kept))


def _forget(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Forget questions and all that a question leaves besides its own row, but for what the
    operator wrote; return how many there were."""
    hashes = _hashes(connection, questions, ids)
    ours = probes.delete().where(probes.c.origin != ProbeOrigin.OPERATOR)
    change_among(connection, ours, probes.c.hash, hashes)
    change_among(connection, answers.delete(), answers.c.question, hashes)
    _unquote(connection, hashes)
    return change_among(connection, questions.delete(), questions.c.id, ids)


def _forget_probes(connection: sa.Connection, ids: Sequence[int]) -> int:
    _unquote(connection, _hashes(connection, probes, ids))
    return change_among(connection, probes.delete(), probes.c.id, ids)


def _hashes(connection: sa.Connection, table: sa.Table, ids: Sequence[int]) -> list[str]:
    rows = rows_among(connection, sa.select(table.c.hash), table.c.id, ids)
    return [row.hash for row in rows]


def _unquote(connection: sa.Connection, hashes: Sequence[str]) -> None:
    """Take answers to these questions out of what verdicts quote as the worst changes, and their
    hashes out of what runs were asked for."""
    gone = set(hashes)
    named_in = rows_among(connection, sa.select(mentions.c.run_id), mentions.c.hash, hashes)
    for run_id in {row.run_id for row in named_in}:
        quoting = sa.select(verdicts.c.id, verdicts.c.evidence).where(verdicts.c.run_id == run_id)
        for key, evidence in connection.execute(quoting).all():
            worst = evidence.get("worst", [])
            kept = [change for change in worst if change["probe"] not in gone]
            if len(kept) < len(worst):
                update = verdicts.update().where(verdicts.c.id == key)
                connection.execute(update.values(evidence={**evidence, "worst": kept}))
        request = connection.scalar(sa.select(runs.c.request).where(runs.c.id == run_id)) or {}
        asked = request.get("hashes") or []
        kept = [each for each in asked if each not in gone]
        if len(kept) < len(asked):
            update = runs.update().where(runs.c.id == run_id)
            connection.execute(update.values(request={**request, "hashes": kept}))
    change_among(connection, mentions.delete(), mentions.c.hash, hashes)


def _taint(connection: sa.Connection, learned: set[str], *, keep_serving: bool) -> list[str]:
    """Mark these versions and their descendants, and return the names of those not marked before.

    Runs may learn again from the rest of what only tainted versions learned from. If a tainted
    version is wanted, the newest other one is wanted in its place, unless it is to `keep_serving`
    until a run has made another.
    """
    rows = connection.execute(sa.select(adapters.c.name, adapters.c.parent, adapters.c.state)).all()
    tainted = learned & {row.name for row in rows}
    while children := {row.name for row in rows if row.parent in tainted} - tainted:
        tainted |= children
    reasons = dict.fromkeys(tainted, "an ancestor of it was trained on purged questions")
    reasons |= dict.fromkeys(learned & tainted, "it was trained on purged questions")
    fresh = [row.name for row in rows if row.name in tainted and row.state != AdapterState.TAINTED]
    for name in fresh:
        update = adapters.update().where(adapters.c.name == name)
        connection.execute(update.values(state=AdapterState.TAINTED, reason=reasons[name]))

    learning = sa.select(adapter_questions.c.question_id).join(adapters)
    again = questions.update().where(
        in_state(QuestionState.LEARNED_FROM),
        questions.c.id.in_(learning.where(adapters.c.state == AdapterState.TAINTED)),
        questions.c.id.not_in(learning.where(adapters.c.state != AdapterState.TAINTED)),
    )
    connection.execute(again.values(state=QuestionState.NEW, reason=None))

    present, before = present_and_before(connection)
    if present is not None and present in tainted and not keep_serving:
        reason = f"{present} {AdapterState.TAINTED}: {reasons[present]}"
        want(connection, before, Author.OPERATOR, reason)
    return fresh


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence | sa.Row):
        for item in value:
            yield from _texts(item)
