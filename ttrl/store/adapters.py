"""Adapters as rows, which one should serve, and which one does."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.faults import Point, reached
from ttrl.proof import Pin, Pinned
from ttrl.store.database import Database
from ttrl.store.questions import QuestionState
from ttrl.store.schema import adapter_questions, adapters, pinned, questions, serving, wanted
from ttrl.store.traces import known


class AdapterState(StrEnum):
    """What the gate or the operator made of a version."""

    APPROVED = "approved"
    """It may serve."""
    HELD = "held"
    """It waits for the operator."""
    ROLLED_BACK = "rolled_back"
    """It served and was taken back; never promoted again by itself."""
    TAINTED = "tainted"
    """It, or a version that it goes on from, learned from what was purged. It is served to nobody
    again, and its files are removed."""
    RETIRED = "retired"
    """It was old and nobody's: its files are removed."""


GONE = (AdapterState.TAINTED, AdapterState.RETIRED)
"""These have no files, or will soon have none."""
TAKEN_BACK = (AdapterState.ROLLED_BACK, AdapterState.TAINTED)


class AdapterGone(Exception):
    """A version has no files any more, or is about to have none, so that it cannot serve."""


class Forgotten(Exception):
    """Questions that a version learned from were forgotten before it was published."""


class Author(StrEnum):
    """Who wanted a version."""

    RUN = "run"
    OPERATOR = "operator"
    LABELS = "labels"
    """A held version that labels given since have proven better."""
    GUARD = "guard"


@dataclass(frozen=True)
class AdapterRow:
    """One published version."""

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
    """Another version was wanted; `back` says that it was for taking the one before it back. `run`
    made the version that this is about: the one taken back, else the one wanted now."""

    id: int
    adapter: str | None
    author: str
    reason: str
    back: bool
    before: str | None
    run: int | None

    @property
    def about(self) -> str | None:
        """The version that was taken back, else the one that is wanted now."""
        return self.before if self.back else self.adapter


class AdapterTable:
    """The adapters of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(
        self,
        row: AdapterRow,
        question_ids: Iterable[int],
        measured: Iterable[Pinned] = (),
        *,
        author: str,
    ) -> AdapterRow:
        """Add a version and, when it is approved, want it live: one transaction, so that neither
        is ever seen without the other. One that goes on from a version that was rolled back
        meanwhile is held instead. The row as it was written. Raises Forgotten."""
        learned = sorted(set(question_ids))
        with self._database.write() as connection:
            tainted = _state(connection, row.parent) is AdapterState.TAINTED
            if tainted or len(known(connection, learned)) < len(learned):
                raise Forgotten("questions that it learned from were forgotten meanwhile")
            if _state(connection, row.parent) is AdapterState.ROLLED_BACK:
                reason = f"{row.parent}, which it goes on from, was rolled back; {row.reason}"
                row = replace(row, state=AdapterState.HELD, reason=reason)
            connection.execute(adapters.insert().values(**vars(row)))
            lineage = [{"adapter": row.name, "question_id": key} for key in learned]
            if lineage:
                connection.execute(adapter_questions.insert(), lineage)
            for each in measured:
                connection.execute(pinned.insert().values(_pinned_row(row.name, each)))
            if row.state is AdapterState.APPROVED:
                want(connection, row.name, author, row.reason or "")
            reached(Point.PUBLISHING)
        reached(Point.PUBLISHED)
        return row

    def find(self, name: str) -> AdapterRow | None:
        """One version, if there is such a one."""
        query = sa.select(adapters).where(adapters.c.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _from_row(row) if row else None

    def get(self, name: str) -> AdapterRow:
        """One version. Raises KeyError."""
        row = self.find(name)
        if row is None:
            raise KeyError(f"there is no adapter {name}; `ttrl adapters list` names them")
        return row

    def all(self) -> list[AdapterRow]:
        """Every version, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(adapters).order_by(adapters.c.created.desc()))
            return [_from_row(row) for row in rows]

    def digests(self) -> dict[str, str]:
        """The digest of every version that has files, by its name; a store of any revision has
        these."""
        query = sa.select(adapters.c.name, adapters.c.digest).order_by(adapters.c.created)
        query = query.where(adapters.c.state.not_in(GONE))
        with self._database.read() as connection:
            return {row.name: row.digest for row in connection.execute(query)}

    def question_ids(self, name: str, state: QuestionState | None = None) -> list[int]:
        """The questions a version learned from; those in one state, or all."""
        learned = adapter_questions.c
        query = sa.select(learned.question_id).where(learned.adapter == name)
        if state is not None:
            query = query.join(questions).where(questions.c.state == state)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(learned.question_id)))

    def pinned(self, name: str) -> list[Pinned]:
        """What the trainer computed for a version, to prove that it is served."""
        query = sa.select(pinned).where(pinned.c.adapter == name).order_by(pinned.c.id)
        with self._database.read() as connection:
            return [_from_pinned_row(row) for row in connection.execute(query)]

    def next_number(self, lineage: str) -> int:
        """The number of the lineage's next version."""
        query = sa.select(sa.func.max(adapters.c.number)).where(adapters.c.lineage == lineage)
        with self._database.read() as connection:
            return (connection.scalar(query) or 0) + 1

    def want(self, name: str | None, *, author: str, reason: str) -> None:
        """Say which version should serve; None is the base model. Raises AdapterGone."""
        with self._database.write() as connection:
            if (state := _state(connection, name)) in GONE:
                raise AdapterGone(f"{name} is {state}: it cannot serve; choose another version")
            if name is not None:
                update = adapters.update().where(adapters.c.name == name)
                connection.execute(update.values(state=AdapterState.APPROVED, reason=reason))
            want(connection, name, author, reason)

    def roll_back(self, *, author: str, reason: str, only: str | None = None) -> bool:
        """Want the version that was wanted before the present one, which is marked, and quarantine
        what it alone learned from. With `only`: if that is the present one; whether it was."""
        with self._database.write() as connection:
            present, before = present_and_before(connection)
            if only is not None and only != present:
                return False
            if present is not None:
                update = adapters.update().where(
                    adapters.c.name == present, adapters.c.state.not_in(GONE)
                )
                connection.execute(update.values(state=AdapterState.ROLLED_BACK, reason=reason))
                learned = sa.select(adapter_questions.c.question_id)
                suspect = learned.where(adapter_questions.c.adapter == present)
                _quarantine(connection, suspect, f"{present} learned from it and was rolled back")
            want(connection, before, author, reason)
            reached(Point.ROLLING_BACK)
        reached(Point.ROLLED_BACK)
        return True

    def quarantine(self, question_ids: Iterable[int], reason: str) -> None:
        """Learn no more from these questions, for what a version that was not published came to;
        but for those that a trusted version learned from as well."""
        with self._database.write() as connection:
            _quarantine(connection, sorted(question_ids), reason)

    def wanted(self) -> Pointer:
        """Which version should serve."""
        return self._newest(wanted)

    def wanted_at(self, at: float) -> str | None:
        """Which version should have served then (Unix seconds)."""
        query = sa.select(wanted.c.adapter).where(wanted.c.at <= at).order_by(wanted.c.id.desc())
        with self._database.read() as connection:
            return connection.scalars(query.limit(1)).first()

    def wanted_since(self, at: float) -> set[str | None]:
        """Every version that should have served then (Unix seconds) or at any time since."""
        query = sa.select(wanted.c.adapter).where(wanted.c.at > at)
        with self._database.read() as connection:
            return {self.wanted_at(at), *connection.scalars(query)}

    def changes(self, after: int) -> list[Change]:
        """What was wanted after a certain change, in order."""
        columns = (wanted.c.id, wanted.c.adapter, wanted.c.author, wanted.c.reason)
        earlier = sa.select(sa.func.max(wanted.c.id)).where(wanted.c.id <= after).scalar_subquery()
        query = sa.select(*columns).where(wanted.c.id >= sa.func.coalesce(earlier, 0))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(wanted.c.id)).all()
            runs, gone = _made_and_gone(connection)
        found, before = [], None
        for key, adapter, author, reason in rows:
            back = before in gone
            run = runs.get(before if back else adapter)
            found.append(Change(key, adapter, author, reason, back, before, run))
            before = adapter
        return [change for change in found if change.id > after]

    def counts(self) -> dict[str, int]:
        """How many are in each state."""
        query = sa.select(adapters.c.state, sa.func.count()).group_by(adapters.c.state)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def served(self, text: str | None, reason: str) -> None:
        """The daemon's word on which version serves."""
        row = {"adapter": text, "reason": reason, "at": time.time()}
        with self._database.write() as connection:
            connection.execute(serving.insert().values(row))

    def serving(self) -> Pointer:
        """Which version the daemon last said it serves."""
        return self._newest(serving)

    def live_since(self) -> float | None:
        """Since when (Unix seconds) what serves has served, whatever daemon said so; None before
        any."""
        now = self.serving()
        if not now.id:
            return None
        others = sa.select(sa.func.max(serving.c.id)).where(
            serving.c.adapter.is_distinct_from(now.adapter)
        )
        since = sa.select(sa.func.min(serving.c.at)).where(
            serving.c.id > sa.func.coalesce(others.scalar_subquery(), 0)
        )
        with self._database.read() as connection:
            found: float | None = connection.scalar(since)
        return found

    def waiting(self) -> int:
        """How many held versions were made since the wanted one was: those that could follow it."""
        query = sa.select(sa.func.count()).where(
            adapters.c.state == AdapterState.HELD, adapters.c.created >= self.wanted().at
        )
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def previous(self) -> str | None:
        """The version wanted before the present one, kept loaded for an instant roll-back."""
        with self._database.read() as connection:
            return present_and_before(connection)[1]

    def roles(self) -> dict[str | None, str]:
        """Which version is live and which is the previous one; None is the base model."""
        return {self.previous(): "previous", self.serving().adapter: "live"}

    def _newest(self, table: sa.Table) -> Pointer:
        with self._database.read() as connection:
            history = _history(connection, table, limit=1)
        return history[0] if history else Pointer(0, None, "nothing has been learned yet", 0.0)


def present_and_before(connection: sa.Connection) -> tuple[str | None, str | None]:
    """The version that should serve, and the newest other one that should have and was not taken
    back; None is the base model."""
    history = _history(connection, wanted, limit=None)
    present = history[0].adapter if history else None
    return present, next((p.adapter for p in history[1:] if _usable(connection, p, present)), None)


def _history(connection: sa.Connection, table: sa.Table, *, limit: int | None) -> list[Pointer]:
    query = sa.select(table.c.id, table.c.adapter, table.c.reason, table.c.at)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit))
    return [Pointer(*row) for row in rows]


def _usable(connection: sa.Connection, pointer: Pointer, present: str | None) -> bool:
    """Whether to go back there: another version, and none that was itself taken back."""
    if pointer.adapter is None:
        return present is not None
    state = _state(connection, pointer.adapter)
    return pointer.adapter != present and state is AdapterState.APPROVED


def _state(connection: sa.Connection, name: str | None) -> AdapterState | None:
    state = connection.scalar(sa.select(adapters.c.state).where(adapters.c.name == name))
    return None if state is None else AdapterState(state)


def _quarantine(
    connection: sa.Connection, suspect: sa.Select[tuple[int]] | Sequence[int], reason: str
) -> None:
    """Learn no more from these questions, but for those that a version that served and was not
    rolled back learned from as well."""
    served = sa.select(serving.c.adapter).where(serving.c.adapter.is_not(None))
    trusted = sa.select(adapters.c.name).where(
        adapters.c.state.in_((AdapterState.APPROVED, AdapterState.RETIRED)),
        adapters.c.name.in_(served),
    )
    proven = sa.select(adapter_questions.c.question_id).where(
        adapter_questions.c.adapter.in_(trusted)
    )
    connection.execute(
        questions.update()
        .where(questions.c.id.in_(suspect), questions.c.id.not_in(proven))
        .values(state=QuestionState.QUARANTINED, reason=reason)
    )


def want(connection: sa.Connection, name: str | None, author: str, reason: str) -> None:
    """Write down which version should serve."""
    row = {"adapter": name, "author": author, "reason": reason, "at": time.time()}
    connection.execute(wanted.insert().values(row))


def _made_and_gone(connection: sa.Connection) -> tuple[dict[str | None, int | None], set[str]]:
    """The run of each version, and which were taken back."""
    query = sa.select(adapters.c.name, adapters.c.run_id, adapters.c.state)
    rows = connection.execute(query).all()
    return {name: run for name, run, _ in rows}, {
        row.name for row in rows if row.state in TAKEN_BACK
    }


def _from_row(row: sa.Row[Any]) -> AdapterRow:
    return AdapterRow(**{**row._mapping, "state": AdapterState(row.state)})


def _pinned_row(name: str, each: Pinned) -> dict[str, Any]:
    return {
        "adapter": name,
        "question_id": each.pin.question_id,
        "dtype": each.dtype,
        "start": each.pin.start,
        "token_ids": array("i", each.pin.token_ids).tobytes(),
        "own": array("f", each.own).tobytes(),
        "base": array("f", each.base).tobytes(),
        "parent": None if each.parent is None else array("f", each.parent).tobytes(),
    }


def _from_pinned_row(row: sa.Row[Any]) -> Pinned:
    pin = Pin(row.question_id, tuple(array("i", row.token_ids)), row.start)
    parent = None if row.parent is None else tuple(array("f", row.parent))
    return Pinned(pin, row.dtype, tuple(array("f", row.own)), tuple(array("f", row.base)), parent)
