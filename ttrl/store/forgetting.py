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

from ttrl.faults import Point, reached
from ttrl.store.adapters import GONE, AdapterState, Author
from ttrl.store.database import Database, chunks
from ttrl.store.runs import ACTIVE, RunState
from ttrl.store.schema import (
    adapter_clients,
    adapter_questions,
    adapters,
    comparisons,
    measurements,
    observations,
    pinned,
    probes,
    question_clients,
    questions,
    runs,
    samples,
    votes,
    wanted,
)
from ttrl.store.taint import taint
from ttrl.store.traces import forget, remember_whose, unquote

AT_ONCE = 100
"""Old questions that go in one transaction, with thousands of samples: the recorder waits."""
IN_MEMORY = 1000
A_YEAR = 365 * 86400.0


@dataclass(frozen=True)
class Doomed:
    """What is to be purged: ids of questions and of labelled probes; `client` if it is all that
    this one asked."""

    questions: Sequence[int] = ()
    probes: Sequence[int] = ()
    client: str | None = None


@dataclass(frozen=True)
class Purged:
    """What went: questions, labelled probes, the versions that may no longer serve, the run that
    was ended; and which version is wanted now, None for the base model."""

    questions: int
    probes: int
    adapters: tuple[str, ...]
    run: int | None
    wanted: str | None

    @property
    def anything(self) -> bool:
        """Whether anything went at all."""
        return bool(self.questions or self.probes or self.adapters)


class Forgetting:
    """What is forgotten of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def asked_by(self, client: str) -> list[int]:
        """All that a client asked, whoever else asked it."""
        query = sa.select(question_clients.c.question_id).where(question_clients.c.client == client)
        return self._ids(query)

    def asked_before(self, at: float) -> list[int]:
        """What was last asked before then (Unix seconds)."""
        return self._ids(sa.select(questions.c.id).where(questions.c.last_seen < at))

    def saying(self, matches: Callable[[str], object]) -> Doomed:
        """The questions and the labelled probes with a text that matches, wherever it stands in
        them."""
        return Doomed(
            self._saying(sa.select(questions.c.id, questions.c.body), matches),
            self._saying(sa.select(probes.c.id, probes.c.body, probes.c.answers), matches),
        )

    def purge(self, doomed: Doomed, *, keep_serving: bool = False, dry: bool = False) -> Purged:
        """Forget all of this, in one transaction (`dry`: only say what would go): with it, its
        labelled probes. If there is any, a run under way may be learning from it, and is ended.
        Versions that learned from it, or go on from one that did, are tainted, and no longer wanted
        unless `keep_serving` says so."""
        with self._database.write() as connection:
            learned = _learned(connection, doomed)
            found = doomed.questions or doomed.probes or learned
            ended = _end_run(connection) if found else None
            tainted = taint(connection, learned, author=Author.OPERATOR, keep_serving=keep_serving)
            labelled = _delete_probes(connection, doomed)
            count = forget(connection, doomed.questions)
            if doomed.client:
                whose = adapter_clients.c.client == doomed.client
                connection.execute(adapter_clients.delete().where(whose))
            purged = Purged(count, labelled, tuple(tainted), ended, _wanted(connection))
            if dry:
                connection.rollback()
            else:
                reached(Point.PURGING)
        return purged

    def expire(self, before: float | None, most: int | None) -> int:
        """Forget what was last asked before then (Unix seconds), and the oldest of more than
        `most` that are not held out; how many. What a version is proven by stays as long as that
        version, what was labelled stays, and nothing goes while a run is under way."""
        old = [] if before is None else self._ids(_free().where(questions.c.last_seen < before))
        if most is not None:
            old = list(dict.fromkeys([*old, *self._beyond(most)]))
        return self._forget_old(old)

    def shrink(self, most: int) -> int:
        """Forget the oldest samples, then the oldest questions, until the store has no more bytes
        than this; how many questions. Only where the store can say how large it is."""
        count = 0
        for run_id in self._with_samples(sa.true()):
            if self._fits(most):
                return 0
            self._drop_samples(run_id)
        while not self._fits(most) and (gone := self._forget_old(self._oldest(AT_ONCE))):
            count += gone
        return count

    def drop_details(self, before: float) -> int:
        """Forget samples and observations of runs that ended before then (Unix seconds), and what
        was measured a year ago; of how many runs there were samples. Their votes stay with the
        questions."""
        ended = self._with_samples(runs.c.finished < before)
        for run_id in ended:
            self._drop_samples(run_id)
        newest = sa.select(sa.func.max(observations.c.id)).scalar_subquery()
        old_runs = sa.select(runs.c.id).where(runs.c.finished < before)
        latest = sa.select(sa.func.max(measurements.c.id)).group_by(
            measurements.c.kind, measurements.c.version
        )
        with self._database.write() as connection:
            # The newest one stays: its id would be used again, and who follows would miss it.
            connection.execute(
                observations.delete().where(
                    observations.c.run_id.in_(old_runs), observations.c.id < newest
                )
            )
            connection.execute(
                measurements.delete().where(
                    measurements.c.at < time.time() - A_YEAR, measurements.c.id.not_in(latest)
                )
            )
        return len(ended)

    def retire(self, names: Sequence[str]) -> list[str]:
        """Say of versions that their files go; those that it was said of: none while a run is under
        way, and none that became wanted or tainted meanwhile."""
        with self._database.write() as connection:
            if _active(connection):
                return []
            free = set(names) - {_wanted(connection)}
            update = adapters.update().where(
                adapters.c.name.in_(free), adapters.c.state.not_in(GONE)
            )
            retired = update.values(state=AdapterState.RETIRED).returning(adapters.c.name)
            return list(connection.execute(retired).scalars())

    def unpin(self, names: Sequence[str]) -> None:
        """Forget what these versions were to be proven by: their files are gone."""
        with self._database.write() as connection:
            connection.execute(pinned.delete().where(pinned.c.adapter.in_(names)))

    def give_back(self) -> bool:
        """Give room that is no longer used back to the disk, and leave no copy of what was deleted
        where the database lets us; False when a reader kept one, to be tried again."""
        return self._database.give_back()

    def _fits(self, most: int) -> bool:
        size = self._database.size()
        return size is None or size <= most

    def _forget_old(self, ids: Sequence[int]) -> int:
        count = 0
        for some in chunks(ids, AT_ONCE):
            with self._database.write() as connection:
                if _active(connection):
                    break
                remember_whose(self._database, connection, some)
                count += forget(connection, some)
        return count

    def _beyond(self, most: int) -> list[int]:
        learnable = sa.select(sa.func.count()).select_from(questions).where(~questions.c.probe)
        with self._database.read() as connection:
            extra = (connection.scalar(learnable) or 0) - most
        return self._oldest(extra) if extra > 0 else []

    def _oldest(self, count: int) -> list[int]:
        query = _free().where(~questions.c.probe).order_by(questions.c.last_seen, questions.c.id)
        return self._ids(query.limit(count))

    def _with_samples(self, which: sa.ColumnElement[bool]) -> list[int]:
        """The ended runs of which there are samples, the oldest first."""
        drawn = sa.select(votes.c.id).join(samples).where(votes.c.run_id == runs.c.id)
        query = sa.select(runs.c.id).where(which, runs.c.state.not_in(ACTIVE), drawn.exists())
        return self._ids(query.order_by(runs.c.id))

    def _drop_samples(self, run_id: int) -> None:
        of_run = sa.select(votes.c.id).where(votes.c.run_id == run_id)
        with self._database.write() as connection:
            connection.execute(samples.delete().where(samples.c.vote_id.in_(of_run)))

    def _ids(self, query: sa.Select[tuple[int]]) -> list[int]:
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def _saying(self, query: sa.Select[Any], matches: Callable[[str], object]) -> list[int]:
        with self._database.read() as connection:
            rows = connection.execution_options(yield_per=IN_MEMORY).execute(query)
            return [row[0] for row in rows if any(map(matches, _texts(row[1:])))]


def _free() -> sa.Select[tuple[int]]:
    """Questions that nothing else is to be kept for."""
    proving = sa.select(pinned.c.question_id)
    judged = sa.select(comparisons.c.question_id).where(comparisons.c.judgement.is_not(None))
    return sa.select(questions.c.id).where(
        questions.c.id.not_in(proving), questions.c.id.not_in(judged)
    )


def _learned(connection: sa.Connection, doomed: Doomed) -> set[str]:
    """The versions that learned from it themselves."""
    c = adapter_questions.c
    found: set[str] = set()
    for some in chunks(doomed.questions):
        found |= set(connection.scalars(sa.select(c.adapter).where(c.question_id.in_(some))))
    if doomed.client:
        whose = adapter_clients.c.client == doomed.client
        found |= set(connection.scalars(sa.select(adapter_clients.c.adapter).where(whose)))
    return found


def _end_run(connection: sa.Connection) -> int | None:
    """It stops within seconds of seeing that it was ended."""
    active = _active(connection)
    values = {
        "state": RunState.ABORTED,
        "reason": "questions were purged that it may have been learning from",
        "finished": time.time(),
    }
    connection.execute(runs.update().where(runs.c.id == active).values(values))
    return active


def _delete_probes(connection: sa.Connection, doomed: Doomed) -> int:
    count = 0
    for some in chunks(doomed.probes):
        chosen = probes.c.id.in_(some)
        unquote(connection, set(connection.scalars(sa.select(probes.c.hash).where(chosen))))
        count += connection.execute(probes.delete().where(chosen)).rowcount
    for some in chunks(doomed.questions):
        same = sa.select(questions.c.hash).where(questions.c.id.in_(some))
        count += connection.execute(probes.delete().where(probes.c.hash.in_(same))).rowcount
    return count


def _active(connection: sa.Connection) -> int | None:
    return connection.scalar(sa.select(runs.c.id).where(runs.c.state.in_(ACTIVE)))


def _wanted(connection: sa.Connection) -> str | None:
    return connection.scalar(sa.select(wanted.c.adapter).order_by(wanted.c.id.desc()).limit(1))


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence | sa.Row):
        for item in value:
            yield from _texts(item)
