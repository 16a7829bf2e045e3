"""Adapters as rows, which one should serve, and which one does."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl import ReportedError
from ttrl.engine.proof import Pin, Pinned
from ttrl.store.database import Table, change_among, rows_among
from ttrl.store.questions import QuestionState
from ttrl.store.runs import RunState
from ttrl.store.schema import (
    adapter_questions,
    adapters,
    pinned,
    questions,
    runs,
    serving,
    wanted,
)


class AdapterState(StrEnum):
    """What the gate or the operator made of a version."""

    APPROVED = "approved"  # it may serve
    HELD = "held"  # it waits for the operator
    ROLLED_BACK = "rolled_back"  # it served and was taken back; never promoted again by itself
    TAINTED = "tainted"  # it or an ancestor learned from what was purged: its files are removed
    RETIRED = "retired"  # it was old and nobody's: its files are removed


GONE = (AdapterState.TAINTED, AdapterState.RETIRED)
"""These have no files, or will soon have none."""
OVER = (RunState.FAILED, RunState.ABORTED)
"""Runs that were given up."""
TAKEN_BACK = (AdapterState.ROLLED_BACK, AdapterState.TAINTED)


class AdapterGone(ReportedError):
    """A version has no files, or will soon have none, and cannot serve."""


class Forgotten(ReportedError):
    """Questions that a version learned from were forgotten before it was published."""


class RunOver(ReportedError):
    """A run was ended, by an operator or as dead, and is not to publish any more."""


class Author(StrEnum):
    """Who wanted a version."""

    RUN = "run"
    OPERATOR = "operator"
    LABELS = "labels"  # a held version that labels given since have proven better
    LIVE_MONITOR = "live_monitor"


@dataclass(frozen=True)
class AdapterRow:
    name: str
    lineage: str
    number: int
    digest: str
    parent: str | None
    base_model: str
    run_id: int | None
    rank: int
    state: AdapterState
    reason: str | None
    created: float


@dataclass(frozen=True)
class Pointer:
    """Which adapter should serve, or does; `adapter` None is the base model."""

    id: int
    adapter: str | None
    reason: str
    at: float


@dataclass(frozen=True)
class Change:
    """Another version was wanted; `back` if the one `before` it was taken back. `run` made the
    version that it is `about`."""

    id: int
    adapter: str | None
    author: str
    reason: str
    at: float
    back: bool
    before: str | None
    run: int | None

    @property
    def about(self) -> str | None:
        return self.before if self.back else self.adapter


@dataclass(frozen=True)
class RollBack:
    """A version that should have served, and does so no more; `at` in Unix seconds."""

    version: str
    author: str
    reason: str
    at: float


class AdapterTable(Table):
    def publish(
        self,
        row: AdapterRow,
        question_ids: Iterable[int],
        measured: Iterable[Pinned] = (),
        *,
        author: str,
    ) -> AdapterRow:
        """Add a version, mark what it learned from, and, when it is approved, want it live: one
        transaction, so that none is ever seen without the others. Return the row as it was written:
        held if its parent was rolled back meanwhile. Raises Forgotten, RunOver."""
        learned = sorted(set(question_ids))
        known = sa.select(questions.c.id)
        with self.db.write() as connection:
            run = sa.select(runs.c.state).where(runs.c.id == row.run_id)
            if connection.scalar(run) in OVER:
                raise RunOver(f"run {row.run_id} was ended before it could publish")
            parent = _state(connection, row.parent)
            there = rows_among(connection, known, questions.c.id, learned)
            if parent is AdapterState.TAINTED or len(there) < len(learned):
                raise Forgotten("questions that it was trained on were deleted meanwhile")
            if parent is AdapterState.ROLLED_BACK:
                reason = f"its parent {row.parent} was rolled back; {row.reason}"
                row = replace(row, state=AdapterState.HELD, reason=reason)
            connection.execute(adapters.insert().values(**vars(row)))
            if learned:
                lineage = [{"adapter": row.name, "question_id": key} for key in learned]
                connection.execute(adapter_questions.insert(), lineage)
                free = questions.update().where(questions.c.state != QuestionState.QUARANTINED)
                used = free.values(state=QuestionState.LEARNED_FROM, reason=None)
                change_among(connection, used, questions.c.id, learned)
            for each in measured:
                values = {
                    "adapter": row.name, "question_id": each.pin.question_id, "dtype": each.dtype,
                    "start": each.pin.start, "token_ids": array("i", each.pin.token_ids).tobytes(),
                    "own": _bytes(each.own), "base": _bytes(each.base),
                    "parent": None if each.parent is None else _bytes(each.parent),
                }  # fmt: skip
                connection.execute(pinned.insert().values(values))
            if row.state is AdapterState.APPROVED:
                want(connection, row.name, author, row.reason or "")
        return row

    def find(self, name: str) -> AdapterRow | None:
        row = self.db.first(sa.select(adapters).where(adapters.c.name == name))
        return None if row is None else _from_row(row)

    def get(self, name: str) -> AdapterRow:
        """Raises NotFound."""
        missing = f"there is no version {name}; see `ttrl adapters list`"
        return _from_row(self.db.get(sa.select(adapters).where(adapters.c.name == name), missing))

    def all(self) -> list[AdapterRow]:
        """Return them newest first."""
        query = sa.select(adapters).order_by(adapters.c.created.desc())
        return [_from_row(row) for row in self.db.rows(query)]

    def digests(self) -> dict[str, str]:
        """Return the digest of every version that has files, by its name. It must work on a store
        of any revision: backups use it."""
        query = sa.select(adapters.c.name, adapters.c.digest).where(adapters.c.state.not_in(GONE))
        rows = self.db.rows(query.order_by(adapters.c.created))
        return {row.name: row.digest for row in rows}

    def question_ids(self, name: str, state: QuestionState | None = None) -> list[int]:
        """Return the questions that a version learned from; those in one state, or all."""
        learned = adapter_questions.c
        query = sa.select(learned.question_id).where(learned.adapter == name)
        if state is not None:
            query = query.join(questions).where(questions.c.state == state)
        return self.db.scalars(query.order_by(learned.question_id))

    def pinned(self, name: str) -> list[Pinned]:
        query = sa.select(pinned).where(pinned.c.adapter == name).order_by(pinned.c.id)
        found = []
        for row in self.db.rows(query):
            pin = Pin(row.question_id, tuple(array("i", row.token_ids)), row.start)
            parent = None if row.parent is None else _floats(row.parent)
            found.append(Pinned(pin, row.dtype, _floats(row.own), _floats(row.base), parent))
        return found

    def next_number(self, lineage: str) -> int:
        query = sa.select(sa.func.max(adapters.c.number)).where(adapters.c.lineage == lineage)
        return (self.db.scalar(query) or 0) + 1

    def want(self, name: str | None, *, author: str, reason: str) -> None:
        """Say which version should serve; None is the base model. Raises AdapterGone."""
        with self.db.write() as connection:
            if (state := _state(connection, name)) in GONE:
                raise AdapterGone(f"{name} is {state} and cannot be served; choose another version")
            _mark(connection, name, AdapterState.APPROVED, reason)
            want(connection, name, author, reason)

    def roll_back(self, *, author: str, reason: str, only: str | None = None) -> bool:
        """Want the version before the wanted one again, and quarantine what only the latter
        learned from. Return whether it was done: with `only`, if that is the wanted one."""
        with self.db.write() as connection:
            present, before = present_and_before(connection)
            if only is not None and only != present:
                return False
            _mark(connection, present, AdapterState.ROLLED_BACK, reason)
            learned = sa.select(adapter_questions.c.question_id)
            suspect = learned.where(adapter_questions.c.adapter == present)
            _quarantine(connection, suspect, f"{present} was trained on it and was rolled back")
            want(connection, before, author, reason)
        return True

    def quarantine(self, question_ids: Iterable[int], reason: str) -> None:
        """Keep runs from learning from these questions, except from those that a trusted version
        learned from as well: a candidate that learned from them was rejected."""
        with self.db.write() as connection:
            _quarantine(connection, sorted(question_ids), reason)

    def wanted(self) -> Pointer:
        return self._newest(wanted)

    def wanted_at(self, at: float) -> str | None:
        """Return which version should have served then (Unix seconds)."""
        query = sa.select(wanted.c.adapter).where(wanted.c.at <= at).order_by(wanted.c.id.desc())
        return self.db.scalar(query.limit(1))

    def wanted_since(self, at: float) -> set[str | None]:
        """Return every version that should have served then (Unix seconds) or at any time since."""
        query = sa.select(wanted.c.adapter).where(wanted.c.at > at)
        return {self.wanted_at(at), *self.db.scalars(query)}

    def changes(self, after: int = 0) -> list[Change]:
        """Return what was wanted after a certain change, in order."""
        with self.db.read() as connection:
            rows = connection.execute(sa.select(wanted).order_by(wanted.c.id)).all()
            versions = {row.name: row for row in connection.execute(sa.select(adapters))}
        changes, before = [], None
        for row in rows:
            back = before in versions and versions[before].state in TAKEN_BACK
            about = versions.get(before if back else row.adapter)
            run = None if about is None else about.run_id
            changes.append(Change(**row._mapping, back=back, before=before, run=run))
            before = row.adapter
        return [change for change in changes if change.id > after]

    def counts(self) -> dict[str, int]:
        return self.db.counts(adapters.c.state)

    def served(self, text: str | None, reason: str) -> None:
        row = {"adapter": text, "reason": reason, "at": time.time()}
        self.db.change(serving.insert().values(row))

    def serving(self) -> Pointer:
        """Return which version the daemon last said that it serves."""
        return self._newest(serving)

    def live_since(self) -> float | None:
        """Return since when (Unix seconds) the live version has served; None before any."""
        other = serving.c.adapter.is_distinct_from(self.serving().adapter)
        last_other = sa.select(sa.func.max(serving.c.id)).where(other).scalar_subquery()
        since = serving.c.id > sa.func.coalesce(last_other, 0)
        return self.db.scalar(sa.select(sa.func.min(serving.c.at)).where(since))

    def waiting(self) -> int:
        """Return how many held versions could follow the wanted one: those made since it was."""
        since = self.wanted().at
        return self.db.count(adapters.c.state == AdapterState.HELD, adapters.c.created >= since)

    def previous(self) -> str | None:
        """Return the version wanted before the present one, kept loaded for a roll-back."""
        with self.db.read() as connection:
            return present_and_before(connection)[1]

    def roll_backs(self) -> list[RollBack]:
        """Return the last roll-back of each version that is taken back, the newest first."""
        why, found = {row.name: row.reason or "" for row in self.all()}, {}
        for change in self.changes():
            name = change.before
            # What is wanted in its place gives the version's own reason; what followed it otherwise
            # does not.
            if change.back and name and change.reason.endswith(why[name]):
                found[name] = RollBack(name, change.author, why[name], change.at)
        return sorted(found.values(), key=lambda each: each.at, reverse=True)

    def roles(self) -> dict[str | None, str]:
        """Return which version is live and which is the previous one; None is the base model."""
        return {self.previous(): "previous", self.serving().adapter: "live"}

    def _newest(self, table: sa.Table) -> Pointer:
        query = sa.select(table.c.id, table.c.adapter, table.c.reason, table.c.at)
        row = self.db.first(query.order_by(table.c.id.desc()))
        return Pointer(*row) if row else Pointer(0, None, "there are no versions yet", 0.0)


def present_and_before(connection: sa.Connection) -> tuple[str | None, str | None]:
    """Return the version that should serve, and the newest other one that should have and was not
    taken back; None is the base model."""
    query = sa.select(wanted.c.adapter).order_by(wanted.c.id.desc())
    present, *earlier = connection.scalars(query).all() or [None]
    for version in earlier:
        usable = version is None or _state(connection, version) is AdapterState.APPROVED
        if version != present and usable:
            return present, version
    return present, None


def _state(connection: sa.Connection, name: str | None) -> AdapterState | None:
    state = connection.scalar(sa.select(adapters.c.state).where(adapters.c.name == name))
    return None if state is None else AdapterState(state)


def _mark(connection: sa.Connection, name: str | None, state: AdapterState, reason: str) -> None:
    update = adapters.update().where(adapters.c.name == name, adapters.c.state.not_in(GONE))
    connection.execute(update.values(state=state, reason=reason))


def _quarantine(
    connection: sa.Connection, suspect: sa.Select[tuple[int]] | Sequence[int], reason: str
) -> None:
    """Learn no more from these questions, but for those that a version that served and was not
    rolled back learned from as well."""
    served = sa.select(serving.c.adapter).where(serving.c.adapter.is_not(None))
    trusted = adapters.c.state.in_((AdapterState.APPROVED, AdapterState.RETIRED))
    proven = sa.select(adapter_questions.c.question_id).join(adapters)
    proven = proven.where(trusted, adapters.c.name.in_(served))
    update = questions.update().where(questions.c.id.in_(suspect), questions.c.id.not_in(proven))
    connection.execute(update.values(state=QuestionState.QUARANTINED, reason=reason))


def want(connection: sa.Connection, name: str | None, author: str, reason: str) -> None:
    row = {"adapter": name, "author": author, "reason": reason, "at": time.time()}
    connection.execute(wanted.insert().values(row))


def _from_row(row: sa.Row[Any]) -> AdapterRow:
    return AdapterRow(**{**row._mapping, "state": AdapterState(row.state)})


def _bytes(numbers: Sequence[float]) -> bytes:
    return array("f", numbers).tobytes()


def _floats(stored: bytes) -> tuple[float, ...]:
    return tuple(array("f", stored))
