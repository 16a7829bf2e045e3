"""Runs, with their votes, verdicts and observations. A run has a state at every moment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl import ReportedError
from ttrl.answers.layers import END, EXAMPLES, UNREAD
from ttrl.evaluation.gate import Judgement, Verdict
from ttrl.questions.question import Question
from ttrl.store import shapes
from ttrl.store.database import Table, rows_among
from ttrl.store.schema import (
    comparisons,
    mentions,
    observations,
    questions,
    runs,
    samples,
    verdicts,
    votes,
)

STALE_SECONDS = 30.0
"""A run whose heart has not beaten for so long is dead."""


class RunState(StrEnum):
    """Where a run is, or how it ended."""

    QUEUED = "queued"
    SELECTING = "selecting"
    UPDATING = "updating"
    JUDGING = "judging"
    PUBLISHING = "publishing"
    PUBLISHED = "published"  # ended: its adapter should serve
    HELD = "held"  # ended: the adapter waits for the operator
    REJECTED = "rejected"  # ended: the gate or the run monitor said no
    NOTHING = "nothing"  # ended: there was nothing to learn
    FAILED = "failed"  # ended by a fault; the reason says which
    ABORTED = "aborted"  # ended because somebody stopped it, or it died

    @property
    def ended(self) -> bool:
        return self not in ACTIVE


ACTIVE = (
    RunState.QUEUED,
    RunState.SELECTING,
    RunState.UPDATING,
    RunState.JUDGING,
    RunState.PUBLISHING,
)
JUDGED = (RunState.PUBLISHED, RunState.HELD, RunState.REJECTED)


class Trigger(StrEnum):
    SCHEDULE = "schedule"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Run:
    """One pass of adaptation; times in Unix seconds. `adapter` is the version that it published, or
    is about to."""

    id: int
    trigger: Trigger
    state: RunState
    reason: str | None
    created: float
    started: float | None
    finished: float | None
    heartbeat: float | None
    pid: int | None
    request: Mapping[str, Any]
    parent: str | None
    begins: str | None
    adapter: str | None
    steps: int
    questions: int
    samples: int
    tokens: int

    def stale(self, now: float) -> bool:
        """Return whether it claims to be at work but its heartbeat stopped."""
        since = self.heartbeat or self.created
        return not self.state.ended and now - since > STALE_SECONDS


@dataclass(frozen=True)
class Observation:
    """An event of a run as it is stored; ttrl.events reads it."""

    id: int
    run_id: int
    kind: str
    at: float
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class StoredVerdict:
    """What the gate said of a candidate, or who judged its answers by hand; `at` in Unix
    seconds."""

    id: int
    run_id: int
    adapter: str | None
    against: str
    verdict: Verdict
    evidence: Judgement
    at: float


@dataclass(frozen=True)
class PastVote:
    """What a vote says of how much its question may teach."""

    question_id: int
    cluster: str
    run_id: int
    outcome: str
    share: float


class RunBusy(ReportedError):
    """A run is already under way; wait for it or stop it."""


class RunTable(Table):
    def create(self, trigger: Trigger, request: Mapping[str, Any]) -> Run:
        """Queue a new run. One at a time: raises RunBusy."""
        with self.db.write() as connection:
            if (busy := active(connection)) is not None:
                raise RunBusy(f"run {busy} is already in progress; wait for it or stop it")
            values = {
                "trigger": trigger, "state": RunState.QUEUED, "created": time.time(),
                "request": dict(request), "steps": 0, "questions": 0, "samples": 0, "tokens": 0,
            }  # fmt: skip
            made = connection.execute(runs.insert().values(values).returning(*runs.c)).one()
            _mention(connection, made.id, set(request.get("hashes") or []))
        return _from_row(made)

    def get(self, run_id: int) -> Run:
        """Raises NotFound."""
        query = sa.select(runs).where(runs.c.id == run_id)
        return _from_row(self.db.get(query, f"there is no run {run_id}"))

    def newest(self, limit: int = 1) -> list[Run]:
        return self._select(sa.select(runs).order_by(runs.c.id.desc()).limit(limit))

    def last_judged(self) -> Run | None:
        """Return the newest run that came to a candidate, whatever the gate said of it."""
        query = sa.select(runs).where(runs.c.state.in_(JUDGED)).order_by(runs.c.id.desc())
        return next(iter(self._select(query.limit(1))), None)

    def active(self) -> Run | None:
        return next(iter(self._select(sa.select(runs).where(runs.c.state.in_(ACTIVE)))), None)

    def start(self, run_id: int, *, parent: str | None, begins: str | None = None) -> None:
        """Note that the run's process is at work, and starts from `parent` or why it begins a new
        lineage. Raises RunBusy if the run has ended or was started."""
        now = time.time()
        claimed = {"state": RunState.SELECTING, "started": now, "heartbeat": now}
        claimed |= {"pid": os.getpid(), "parent": parent, "begins": begins}
        queued = runs.update().where(runs.c.id == run_id, runs.c.state == RunState.QUEUED)
        if not self.db.change(queued.values(claimed)):
            raise RunBusy(f"run {run_id} has already been claimed")

    def enter(self, run_id: int, state: RunState) -> None:
        self.note(run_id, state=state, heartbeat=time.time())

    def beat(self, run_id: int) -> bool:
        """Note that the run lives. False when somebody ended it meanwhile."""
        return self.note(run_id, heartbeat=time.time())

    def end(self, run_id: int, state: RunState, reason: str, *, adapter: str | None = None) -> bool:
        """End a run, once: False when it had ended already."""
        return self.note(run_id, state=state, reason=reason, finished=time.time(), adapter=adapter)

    def note(self, run_id: int, **columns: Any) -> bool:
        """Write columns of a run, unless it has ended: False. `adapter`, the version that it is
        about to put in its place, comes before that: its files are known should the run die."""
        update = runs.update().where(runs.c.id == run_id, runs.c.state.in_(ACTIVE))
        return bool(self.db.change(update.values(columns)))

    def observe(self, run_id: int, kind: str, numbers: Mapping[str, Any]) -> None:
        row = {"run_id": run_id, "kind": kind, "at": time.time(), "numbers": dict(numbers)}
        self.db.change(observations.insert().values(row))

    def observed(self, *, after: int = 0, run_id: int | None = None) -> list[Observation]:
        """Return what was observed after a certain observation, in order."""
        query = sa.select(observations).where(observations.c.id > after)
        if run_id is not None:
            query = query.where(observations.c.run_id == run_id)
        return self._observations(query)

    def newest_observed(self) -> list[Observation]:
        """Return the newest observation of each kind, in order."""
        newest = sa.select(sa.func.max(observations.c.id)).group_by(observations.c.kind)
        return self._observations(sa.select(observations).where(observations.c.id.in_(newest)))

    def _observations(self, query: sa.Select[Any]) -> list[Observation]:
        rows = self.db.rows(query.order_by(observations.c.id))
        return [Observation(**row._mapping) for row in rows]

    def add_verdict(
        self, run_id: int, adapter: str | None, against: str, judgement: Judgement
    ) -> None:
        """Note what the gate said. Of a run that was stopped meanwhile nothing is kept: its
        questions may have been purged."""
        row = {
            "run_id": run_id, "adapter": adapter, "against": against, "at": time.time(),
            "verdict": judgement.verdict, "evidence": shapes.dump(judgement),
        }  # fmt: skip
        stopped = runs.c.state == RunState.ABORTED, runs.c.id == run_id
        with self.db.write() as connection:
            if connection.scalar(sa.select(runs.c.id).where(*stopped)) is None:
                connection.execute(verdicts.insert().values(row))
                _mention(connection, run_id, {change.probe for change in judgement.worst})

    def verdicts(self, run_id: int | None = None) -> list[StoredVerdict]:
        """Return the gate's verdicts of a run, or of all; of each after the first, those by what
        was judged by hand."""
        query = sa.select(verdicts).order_by(verdicts.c.id)
        if run_id is not None:
            query = query.where(verdicts.c.run_id == run_id)
        found = []
        for row in self.db.rows(query):
            values = row._mapping
            if evidence := shapes.load(Judgement, {"verdict": row.verdict, **row.evidence}):
                found.append(
                    StoredVerdict(**{**values, "verdict": evidence.verdict, "evidence": evidence})
                )
        return found

    def verdict(self, run_id: int) -> StoredVerdict | None:
        """Return the gate's verdict of a run, before anything was judged by hand."""
        return next(iter(self.verdicts(run_id)), None)

    def labelled_gates(self) -> list[float]:
        """Return when evidence of labels was looked at (Unix seconds): by each gate that had some,
        and when the operator first judged answers of a run, which is a test of its own."""
        judged = (
            sa.select(sa.func.min(comparisons.c.judged_at))
            .where(comparisons.c.judgement.is_not(None))
            .group_by(comparisons.c.run_id)
        )
        c = verdicts.c
        looked: dict[int, float | None] = {}
        # Also of evidence that this release cannot read: it was looked at.
        for row in self.db.rows(sa.select(c.run_id, c.at, c.evidence).order_by(c.id)):
            looked.setdefault(row.run_id, row.at if row.evidence.get("certainty") else None)
        by_hand = self.db.scalars(judged)
        return sorted([at for at in looked.values() if at is not None] + by_hand)

    def _select(self, query: sa.Select[Any]) -> list[Run]:
        return [_from_row(row) for row in self.db.rows(query)]


class VoteTable(Table):
    def add(self, rows: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> None:
        """Add votes with their samples, all or none, but for questions forgotten meanwhile."""
        ids = [vote["question_id"] for vote, _ in rows]
        with self.db.write() as connection:
            there = rows_among(connection, sa.select(questions.c.id), questions.c.id, ids)
            known = {row.id for row in there}
            for vote, drawn in rows:
                if vote["question_id"] in known:
                    insert = votes.insert().values(dict(vote)).returning(votes.c.id)
                    of_vote = {"vote_id": connection.scalar(insert)}
                    connection.execute(
                        samples.insert(), [{**sample, **of_vote} for sample in drawn]
                    )

    def newest(self, question_id: int, limit: int = 5) -> list[dict[str, Any]]:
        """Return the newest votes on a question, as JSON has them; `layers` counts their samples by
        how they were read."""
        query = sa.select(votes).where(votes.c.question_id == question_id)
        rows = self.db.rows(query.order_by(votes.c.id.desc()).limit(limit))
        return [{**row._mapping, "layers": self._layers(votes.c.id == row.id)} for row in rows]

    def recent(self, limit: int) -> list[PastVote]:
        """Return the newest votes on all questions, the newest first."""
        columns = votes.c.question_id, questions.c.cluster, votes.c.run_id
        query = sa.select(*columns, votes.c.outcome, votes.c.share).join(questions)
        rows = self.db.rows(query.order_by(votes.c.id.desc()).limit(limit))
        return [PastVote(**row._mapping) for row in rows]

    def layers(self, run_id: int) -> dict[str, int]:
        """Count a run's samples by the layer by which they were read, or why they were not."""
        return self._layers(votes.c.run_id == run_id)

    def _layers(self, which: sa.ColumnElement[bool]) -> dict[str, int]:
        c = samples.c
        query = sa.select(c.layer, sa.func.count().label("samples")).join(votes)
        query = query.where(which, c.layer.is_not(None))
        return {row.layer: row.samples for row in self.db.rows(query.group_by(c.layer))}

    def unread(self, run_id: int) -> list[dict[str, Any]]:
        """Return the end of a sample without an answer of the questions of a run that have most of
        them: `question`, `layer` and `text`."""
        c = samples.c
        each = sa.select(sa.func.max(c.id)).join(votes)
        each = each.where(votes.c.run_id == run_id, c.layer.in_(UNREAD)).limit(EXAMPLES)
        each = each.group_by(votes.c.question_id).order_by(sa.func.count().desc())
        query = sa.select(votes.c.question_id.label("question"), c.layer, c.text)
        query = query.join_from(samples, votes).order_by(c.id)
        rows = self.db.rows_among(query, c.id, self.db.scalars(each))
        return [{**row._mapping, "text": row.text[-END:]} for row in rows]

    def instructions(self, run_id: int) -> dict[str | None, int]:
        """Return how many votes of a run were asked with each instruction; None is without."""
        instruction, number = votes.c.instruction, sa.func.count().label("number")
        of_run = sa.select(instruction, number).where(votes.c.run_id == run_id)
        return {row.instruction: row.number for row in self.db.rows(of_run.group_by(instruction))}

    def texts(self, limit: int) -> Iterator[tuple[Question, str, str | None]]:
        """Yield the newest samples of runs, each with its question and its answer as it was read
        (None: it was not)."""
        asked = questions.c.body, questions.c.hash, questions.c.cluster
        query = sa.select(*asked, samples.c.text, samples.c.answer)
        query = query.join_from(samples, votes).join(questions)
        for row in self.db.stream(query.order_by(samples.c.id.desc()).limit(limit)):
            yield Question(row.body, row.hash, recorded_in=row.cluster), row.text, row.answer

    def samples(self, vote_id: int) -> list[dict[str, Any]]:
        """Return the samples of a vote, in their order, as JSON has them; without token ids."""
        c = samples.c
        columns = sa.select(c.text, c.answer, c.layer, c.finish, c.reward, c.kept)
        query = columns.where(c.vote_id == vote_id).order_by(c.position)
        return [dict(row._mapping) for row in self.db.rows(query)]


def active(connection: sa.Connection) -> int | None:
    return connection.scalar(sa.select(runs.c.id).where(runs.c.state.in_(ACTIVE)))


def _mention(connection: sa.Connection, run_id: int, hashes: set[str]) -> None:
    """Note that a run names these questions, so that they can be forgotten there."""
    known = sa.select(mentions.c.hash).where(mentions.c.run_id == run_id)
    if fresh := hashes - set(connection.scalars(known)):
        rows = [{"hash": each, "run_id": run_id} for each in sorted(fresh)]
        connection.execute(mentions.insert(), rows)


def _from_row(row: sa.Row[Any]) -> Run:
    values = {**row._mapping, "trigger": Trigger(row.trigger), "state": RunState(row.state)}
    return Run(**values)
