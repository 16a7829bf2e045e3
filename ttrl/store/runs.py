"""Runs as rows: every run has a state here at every moment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.store.database import Database
from ttrl.store.schema import comparisons, observations, runs, verdicts, votes

STALE_SECONDS = 30.0
"""A run whose heart has not beaten for so long is dead."""


class RunState(StrEnum):
    """Where a run is, or how it ended."""

    QUEUED = "queued"
    SELECTING = "selecting"
    UPDATING = "updating"
    JUDGING = "judging"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    """Ended: its adapter should serve."""
    HELD = "held"
    """Ended: the adapter waits for the operator."""
    REJECTED = "rejected"
    """Ended: the gate or the guard said no."""
    NOTHING = "nothing"
    """Ended: there was nothing to learn."""
    FAILED = "failed"
    """Ended by a fault; the reason says which."""
    ABORTED = "aborted"
    """Ended because somebody stopped it, or it died."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in ACTIVE


ACTIVE = (
    RunState.QUEUED,
    RunState.SELECTING,
    RunState.UPDATING,
    RunState.JUDGING,
    RunState.PUBLISHING,
)


class Trigger(StrEnum):
    """What started a run."""

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
        """Whether it claims to be at work but has fallen silent."""
        since = self.heartbeat or self.created
        return not self.state.ended and now - since > STALE_SECONDS


@dataclass(frozen=True)
class Observation:
    """Numbers that a run saw, to be read once by the daemon and followed by the command line."""

    id: int
    run_id: int
    kind: str
    at: float
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class StoredVerdict:
    """What a gate said, `at` in Unix seconds, and its numbers as JSON has them."""

    at: float
    against: str
    verdict: str
    evidence: Mapping[str, Any]

    @property
    def e(self) -> float:
        """The e-value of its labels; without labels, what an empty hand is worth."""
        certainty = self.evidence["certainty"]
        return float(certainty["e"]) if certainty else 1.0

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome of each check but those of single tags."""
        return {c["rule"]: c["outcome"] for c in self.evidence["checks"] if not c["tag"]}


class RunBusy(Exception):
    """A run is already under way; wait for it or stop it."""


class RunTable:
    """The runs of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, trigger: Trigger, request: Mapping[str, Any]) -> Run:
        """A new run, queued. One at a time: raises RunBusy."""
        with self._database.write() as connection:
            busy = connection.scalar(sa.select(runs.c.id).where(runs.c.state.in_(ACTIVE)))
            if busy is not None:
                raise RunBusy(f"run {busy} is already under way; wait for it or stop it")
            values = {
                "trigger": trigger, "state": RunState.QUEUED, "created": time.time(),
                "request": dict(request), "steps": 0, "questions": 0, "samples": 0, "tokens": 0,
            }  # fmt: skip
            made = connection.execute(runs.insert().values(values).returning(*runs.c)).one()
        return _from_row(made)

    def get(self, run_id: int) -> Run:
        """One run. Raises KeyError."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
        if row is None:
            raise KeyError(f"there is no run {run_id}")
        return _from_row(row)

    def newest(self, limit: int = 1) -> list[Run]:
        """The newest runs first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(runs).order_by(runs.c.id.desc()).limit(limit))
            return [_from_row(row) for row in rows]

    def active(self) -> Run | None:
        """The run under way."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.state.in_(ACTIVE))).first()
        return _from_row(row) if row else None

    def last_scheduled(self) -> float | None:
        """When the schedule last started a run."""
        query = sa.select(sa.func.max(runs.c.created)).where(runs.c.trigger == Trigger.SCHEDULE)
        with self._database.read() as connection:
            found: float | None = connection.scalar(query)
        return found

    def start(self, run_id: int, *, parent: str | None, begins: str | None = None) -> None:
        """Its process is at work, and goes on from `parent`, or says why it begins a new lineage. A
        run that has ended cannot start: raises RunBusy."""
        now = time.time()
        values = {
            "started": now,
            "heartbeat": now,
            "pid": os.getpid(),
            "parent": parent,
            "begins": begins,
        }
        query = runs.update().where(runs.c.id == run_id, runs.c.state == RunState.QUEUED)
        with self._database.write() as connection:
            if not connection.execute(query.values(state=RunState.SELECTING, **values)).rowcount:
                raise RunBusy(f"run {run_id} has already been taken up")

    def enter(self, run_id: int, state: RunState) -> None:
        """Go on to the next stage."""
        self._update_active(run_id, state=state, heartbeat=time.time())

    def intend(self, run_id: int, adapter: str) -> None:
        """It is about to put this version in its place: should it die, its files are known."""
        self._update_active(run_id, adapter=adapter)

    def beat(self, run_id: int) -> bool:
        """Still alive; False when somebody ended the run meanwhile."""
        return self._update_active(run_id, heartbeat=time.time())

    def count(self, run_id: int, *, steps: int, questions: int, samples: int, tokens: int) -> None:
        """What has been spent so far."""
        self._update_active(
            run_id, steps=steps, questions=questions, samples=samples, tokens=tokens
        )

    def end(self, run_id: int, state: RunState, reason: str, *, adapter: str | None = None) -> bool:
        """The end, once: False when it had ended already."""
        return self._update_active(
            run_id, state=state, reason=reason, finished=time.time(), adapter=adapter
        )

    def bury(self, run_id: int) -> None:
        """Drop votes, samples and observations of a run that left nothing to keep."""
        with self._database.write() as connection:
            for table in (votes, observations):
                connection.execute(table.delete().where(table.c.run_id == run_id))

    def observe(self, run_id: int, kind: str, numbers: Mapping[str, Any]) -> None:
        """Write down numbers for whoever follows."""
        row = {"run_id": run_id, "kind": kind, "at": time.time(), "numbers": dict(numbers)}
        with self._database.write() as connection:
            connection.execute(observations.insert().values(row))

    def observed(self, *, after: int = 0, run_id: int | None = None) -> list[Observation]:
        """What was observed after a certain observation, in order."""
        query = sa.select(observations).where(observations.c.id > after)
        if run_id is not None:
            query = query.where(observations.c.run_id == run_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(observations.c.id))
            return [Observation(row.id, row.run_id, row.kind, row.at, row.numbers) for row in rows]

    def newest_observed(self) -> list[Observation]:
        """The newest observation of each kind, in order."""
        newest = sa.select(sa.func.max(observations.c.id)).group_by(observations.c.kind)
        query = sa.select(observations).where(observations.c.id.in_(newest))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(observations.c.id))
            return [Observation(row.id, row.run_id, row.kind, row.at, row.numbers) for row in rows]

    def add_verdict(self, row: Mapping[str, Any]) -> None:
        """What the gate said; of a run that was stopped meanwhile, nothing: what it was asked may
        have been purged."""
        stopped = runs.c.state == RunState.ABORTED, runs.c.id == row["run_id"]
        with self._database.write() as connection:
            if connection.scalar(sa.select(runs.c.id).where(*stopped)) is None:
                connection.execute(verdicts.insert().values({**row, "at": time.time()}))

    def verdicts(self, run_id: int) -> list[dict[str, Any]]:
        """What the gate said in a run."""
        query = sa.select(verdicts).where(verdicts.c.run_id == run_id).order_by(verdicts.c.id)
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def verdict(self, run_id: int) -> StoredVerdict | None:
        """What the gate said in the run, before anything was judged by hand."""
        query = sa.select(verdicts).where(verdicts.c.run_id == run_id).order_by(verdicts.c.id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return StoredVerdict(row.at, row.against, row.verdict, row.evidence)

    def labelled_gates(self) -> list[tuple[float, bool]]:
        """Every gate so far that looked at labels, its own or those given since: when, and whether
        it said `better`."""
        judged = sa.select(comparisons.c.run_id).where(comparisons.c.judgement.is_not(None))
        columns = (verdicts.c.run_id, verdicts.c.at, verdicts.c.verdict, verdicts.c.evidence)
        gates: dict[int, tuple[float, bool]] = {}
        with self._database.read() as connection:
            by_hand = set(connection.scalars(judged))
            for run_id, at, said, why in connection.execute(
                sa.select(*columns).order_by(verdicts.c.id)
            ):
                if why.get("certainty") or run_id in by_hand:
                    first, better = gates.get(run_id, (at, False))
                    gates[run_id] = (first, better or said == "better")
        return list(gates.values())

    def _update_active(self, run_id: int, **values: Any) -> bool:
        query = runs.update().where(runs.c.id == run_id, runs.c.state.in_(ACTIVE))
        with self._database.write() as connection:
            return bool(connection.execute(query.values(values)).rowcount)


def _from_row(row: sa.Row[Any]) -> Run:
    values = dict(row._mapping)
    values["trigger"], values["state"] = Trigger(row.trigger), RunState(row.state)
    return Run(**values)
