"""Questions as rows: recorded by the daemon, chosen and marked by runs."""

from __future__ import annotations

import hmac
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.questions.question import Question
from ttrl.questions.regime import Usage
from ttrl.questions.screening import suspicion
from ttrl.store.database import Database, chunks
from ttrl.store.schema import (
    adapter_questions,
    facts,
    question_clients,
    questions,
    runs,
    votes,
)
from ttrl.store.traces import forget, remember_whose

HOLDOUT_KEY = "holdout_key"
BRANCHES = 8
"""Ways in which users go on from the same question, at most: more of them are different questions
after the same worked examples."""


class QuestionState(StrEnum):
    """What became of a question."""

    NEW = "new"
    """Not yet asked by a run."""
    LEARNED_FROM = "learned_from"
    """Its samples went into an update."""
    NO_SIGNAL = "no_signal"
    """Every sample earned the same: there was nothing to learn."""
    NO_LABEL = "no_label"
    """The vote gave no label; the reason says why."""
    REFUSED = "refused"
    """The engine refused it."""
    GUARDED = "guarded"
    """It is like a probe: nothing learns from it."""
    QUARANTINED = "quarantined"
    """A version that learned from it was rolled back, or was worse; not learned from until it is
    released."""
    SKIPPED = "skipped"
    """It tells the model what to say; not learned from until it is released."""


FRESH_FOR_EACH_RETRIED = 4
"""Questions that no run has asked come before each one that had no label when it was: most of those
have none again."""
KEPT_AWAY = (QuestionState.GUARDED, QuestionState.QUARANTINED)
"""No run learns from these, even when it is told to."""
RELEASED = (QuestionState.QUARANTINED, QuestionState.SKIPPED)
"""Those that the operator can let runs learn from."""


class Origin(StrEnum):
    """Where a question came from."""

    TRAFFIC = "traffic"
    FILE = "file"


@dataclass(frozen=True)
class Recorded:
    """A question as it came in, `at` in Unix seconds, from a client known by its key's hash."""

    question: Question
    at: float
    client: str | None = None


@dataclass(frozen=True)
class StoredQuestion:
    """A question with its row's facts; `client` asked it first, `exposures` is how many gates have
    asked it as a probe."""

    id: int
    question: Question
    count: int
    probe: bool
    state: QuestionState
    reason: str | None
    first_seen: float = 0.0
    exposures: int = 0
    client: str | None = None


class QuestionTable:
    """The questions of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        recorded: Sequence[Recorded],
        *,
        holdout: float,
        origin: Origin = Origin.TRAFFIC,
    ) -> None:
        """Add questions, or count them once more. A `holdout` share becomes probes, chosen by a
        keyed hash of the cluster, so that no user can choose to be one, and near-duplicates and the
        turns of a conversation stay on one side. Traffic that tells the model what to say is
        skipped from the start; a file is the operator's own word."""
        if not recorded:
            return
        asked = [{"asked": r.question.hash, "by": r.client} for r in recorded if r.client]
        insert = self._database.upsert(questions)
        upsert = insert.on_conflict_do_update(
            index_elements=[questions.c.hash],
            set_={
                "count": questions.c.count + 1,
                "last_seen": insert.excluded.last_seen,
                # The newest way wins; a file says nothing of how users ask.
                "sampling": sa.func.coalesce(insert.excluded.sampling, questions.c.sampling),
                "shared": sa.or_(
                    questions.c.shared, questions.c.client.is_distinct_from(insert.excluded.client)
                ),
            },
        )
        # Fingerprints and patterns of long questions take seconds, in which others may write.
        with self._database.read() as connection:
            placed = in_conversations(connection, [each.question for each in recorded])
        rows = [
            to_row(replace(item, question=question), origin)
            for item, question in zip(recorded, placed, strict=True)
        ]
        with self._database.write() as connection:
            hold_out(connection, rows, holdout)
            connection.execute(upsert, rows)
            if asked:
                who = sa.select(questions.c.id, sa.bindparam("by", type_=sa.String(64)))
                who = who.where(questions.c.hash == sa.bindparam("asked"))
                clients = self._database.upsert(question_clients)
                clients = clients.from_select(["question_id", "client"], who)
                connection.execute(clients.on_conflict_do_nothing(), asked)

    def new(
        self,
        limit: int | None,
        *,
        only: Sequence[str] = (),
        again: Sequence[str] = (),
        tries: int = 1,
        parent: str | None = None,
    ) -> list[StoredQuestion]:
        """Return questions that no run has asked yet; those without a label that fewer than `tries`
        runs have asked, and none that started from `parent` (None: the base); and those that the
        versions `again` learned from. With `only`, none that came from other clients than these.

        Clients take turns, each with its questions that others ask as well, then the newest first,
        and near-duplicates last. So who asks a lot, or the same again and again, goes no sooner."""
        turns = _turns(only, again, tries, parent).subquery()
        query = _select().join(turns, turns.c.id == questions.c.id)
        query = query.order_by(turns.c.turn, questions.c.shared.desc(), questions.c.id.desc())
        return self._rows(query.limit(limit))

    def among(self, ids: Sequence[int]) -> list[StoredQuestion]:
        """Return those of these that are no probes."""
        return self._rows(_select().where(questions.c.id.in_(ids), ~questions.c.probe))

    def sole_client(self) -> bool:
        """Return whether all traffic came from one client, or none did; those without a key are
        one."""
        clients = sa.select(questions.c.client).where(questions.c.origin == Origin.TRAFFIC)
        some = clients.distinct().limit(2).subquery()
        with self._database.read() as connection:
            return (connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0) < 2

    def named(self, hashes: Sequence[str]) -> list[StoredQuestion]:
        """Return the given questions that are no probes and not kept away from learning, whatever
        became of them before."""
        usable = _select().where(~questions.c.probe, questions.c.state.not_in(KEPT_AWAY))
        found = []
        for some in chunks(hashes):
            found += self._rows(usable.where(questions.c.hash.in_(some)))
        return sorted(found, key=lambda row: row.id)

    def guard(self, ids: Sequence[int]) -> None:
        """Keep these from being learned from, because they are like probes."""
        query = questions.update().values(state=QuestionState.GUARDED, reason="like a probe")
        with self._database.write() as connection:
            for some in chunks(ids):
                connection.execute(query.where(questions.c.id.in_(some)))

    def unguard(self) -> None:
        """Guard none any more: the next run looks at each again."""
        guarded = questions.update().where(questions.c.state == QuestionState.GUARDED)
        with self._database.write() as connection:
            connection.execute(guarded.values(state=QuestionState.NEW, reason=None))

    def page(
        self, limit: int, *, before: int | None = None, kind: str | None = None
    ) -> list[StoredQuestion]:
        """Return questions, newest first, of one kind (a state, or `probe`) or all; `before` is the
        id of the last one of the page before."""
        query = _select().order_by(questions.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(questions.c.id < before)
        return self._rows(query if kind is None else query.where(_kind() == kind))

    def asked(self, since: float, until: float, *, limit: int) -> list[str]:
        """Return the texts of the newest questions that were asked between two times (Unix
        seconds), or before and after both."""
        query = _select().where(questions.c.first_seen < until, questions.c.last_seen >= since)
        rows = self._rows(query.order_by(questions.c.id.desc()).limit(limit))
        return [row.question.text for row in rows]

    def get(self, question_id: int) -> StoredQuestion:
        """Return one question. Raises KeyError."""
        for row in self._rows(_select().where(questions.c.id == question_id)):
            return row
        raise KeyError(f"there is no question {question_id}; see `ttrl questions list`")

    def mark(self, question_id: int, state: QuestionState, reason: str | None = None) -> None:
        """Note what became of a question. One that is quarantined stays so."""
        query = questions.update().where(
            questions.c.id == question_id, questions.c.state != QuestionState.QUARANTINED
        )
        with self._database.write() as connection:
            connection.execute(query.values(state=state, reason=reason))

    def wait(self, reasons: Mapping[int, str]) -> None:
        """Note why these questions were left out of the newest update and stay new, and forget
        earlier such reasons of others."""
        said = questions.update().where(
            questions.c.state == QuestionState.NEW, questions.c.reason.is_not(None)
        )
        with self._database.write() as connection:
            connection.execute(said.values(reason=None))
            for reason in set(reasons.values()):
                ids = [key for key, why in reasons.items() if why == reason]
                left = questions.update().where(
                    questions.c.id.in_(ids), questions.c.state == QuestionState.NEW
                )
                connection.execute(left.values(reason=reason))

    def quarantined_by(self, run_id: int) -> list[int]:
        """Return those of the questions that a run asked that are quarantined."""
        asked = sa.select(votes.c.question_id).where(votes.c.run_id == run_id)
        query = sa.select(questions.c.id).where(
            questions.c.state == QuestionState.QUARANTINED, questions.c.id.in_(asked)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def release(self, ids: Sequence[int]) -> int:
        """Let runs learn from those of these questions that were quarantined or skipped; return how
        many."""
        query = questions.update().where(questions.c.id.in_(ids), questions.c.state.in_(RELEASED))
        with self._database.write() as connection:
            return connection.execute(query.values(state=QuestionState.NEW, reason=None)).rowcount

    def delete(self, ids: Sequence[int] | None) -> int:
        """Forget questions (None: all), their votes and samples, the labels from `ttrl label`, and
        the answers to them that a verdict quotes; return how many there were."""
        with self._database.write() as connection:
            if ids is None:
                ids = list(connection.scalars(sa.select(questions.c.id)))
            for some in chunks(ids):
                remember_whose(self._database, connection, some)
            return forget(connection, ids)

    def usage(self, least: int) -> Usage:
        """Return how users sample; nothing is said of it where fewer than `least` questions are
        known."""
        way = sa.cast(questions.c.sampling, sa.Text)
        query = sa.select(way.label("way"), sa.func.count()).group_by("way")
        known = (questions.c.origin == Origin.TRAFFIC, questions.c.sampling.is_not(sa.null()))
        with self._database.read() as connection:
            rows = connection.execute(query.where(*known)).all()
        if sum(row[1] for row in rows) < least:
            return Usage()
        return Usage.of((json.loads(row[0]), row[1]) for row in rows)

    def counts(self) -> dict[str, int]:
        """Return how many questions are in each state, with `probe` for the held-out ones."""
        # Grouped by its name: PostgreSQL takes two spellings with parameters for two expressions.
        query = sa.select(_kind().label("kind"), sa.func.count()).group_by("kind")
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def reasons(self) -> dict[str, int]:
        """Return why questions are skipped or wait, and how many."""
        query = sa.select(questions.c.reason, sa.func.count()).where(
            questions.c.state.in_((QuestionState.NEW, QuestionState.SKIPPED)),
            questions.c.reason.is_not(None),
        )
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(questions.c.reason))
            return {row[0]: row[1] for row in rows}

    def fresh(self) -> int:
        """Return how many new questions no cap kept out of the newest update."""
        query = sa.select(sa.func.count()).where(
            questions.c.state == QuestionState.NEW, ~questions.c.probe, questions.c.reason.is_(None)
        )
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def times_asked(self) -> int:
        """Return how often questions came in, repetitions included."""
        with self._database.read() as connection:
            return (
                connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(questions.c.count), 0)))
                or 0
            )

    def _rows(self, query: sa.Select[tuple[object, ...]]) -> list[StoredQuestion]:
        with self._database.read() as connection:
            return [from_row(row) for row in connection.execute(query)]


def _kind() -> sa.Case[str]:
    """Return a question's state, but `probe` for one that is held out."""
    return sa.case((questions.c.probe, "probe"), else_=questions.c.state)


def _select() -> sa.Select[tuple[object, ...]]:
    return sa.select(questions)


def _turns(
    only: Sequence[str], again: Sequence[str], tries: int, parent: str | None
) -> sa.Select[tuple[int, int]]:
    """Select the questions that a run may learn from, and the turn in which each one comes."""
    c = questions.c
    learned = sa.select(adapter_questions.c.question_id)
    replayed = sa.and_(
        c.state == QuestionState.LEARNED_FROM,
        c.id.in_(learned.where(adapter_questions.c.adapter.in_(again))),
    )
    asked = sa.select(sa.func.count(votes.c.run_id.distinct())).where(votes.c.question_id == c.id)
    asked_of_parent = sa.exists().where(
        votes.c.question_id == c.id,
        votes.c.run_id == runs.c.id,
        runs.c.parent.is_not_distinct_from(parent),
    )
    retried = sa.and_(
        c.state == QuestionState.NO_LABEL, asked.scalar_subquery() < tries, ~asked_of_parent
    )
    twin = sa.func.row_number().over(partition_by=c.cluster, order_by=(c.shared.desc(), c.id))
    among = sa.select(c.id, c.client, c.state, c.shared, twin.label("twin"))
    usable = [c.state == QuestionState.NEW, replayed, *([retried] if tries > 1 else [])]
    among = among.where(~c.probe, sa.or_(*usable))
    if only:
        among = among.where(sa.or_(c.client.in_(only), c.origin == Origin.FILE))
    a = among.subquery().c
    turn = sa.func.row_number().over(
        partition_by=(a.client, a.state), order_by=(a.twin, a.shared.desc(), a.id.desc())
    )
    seldom = sa.case((a.state == QuestionState.NO_LABEL, FRESH_FOR_EACH_RETRIED), else_=1)
    return sa.select(a.id, (turn * seldom).label("turn"))


def in_conversations(connection: sa.Connection, asked: Sequence[Question]) -> list[Question]:
    """Return the same questions; each that goes on from a recorded one is in that one's cluster,
    unless so many do that what comes before is no conversation but an application's worked
    examples."""
    before = [question.goes_on_from for question in asked]
    clusters: dict[str, str] = {}
    columns = sa.select(questions.c.hash, questions.c.cluster)
    for hashes in chunks([each.hash for each in before if each is not None]):
        found = connection.execute(columns.where(questions.c.hash.in_(hashes)))
        clusters |= {row.hash: row.cluster for row in found}
    placed, newly = [], Counter[str]()
    for question, earlier in zip(asked, before, strict=True):
        here = question
        if earlier and (cluster := clusters.get(earlier.hash)):
            newly[earlier.hash] += 1
            newest = _select().where(questions.c.cluster == cluster).order_by(questions.c.id.desc())
            rows = map(from_row, connection.execute(newest.limit(2 * BRANCHES)))
            branches = sum(row.question.goes_on_from == earlier for row in rows)
            if newly[earlier.hash] + branches <= BRANCHES:
                here = replace(question, recorded_in=cluster)
        clusters.setdefault(here.hash, here.cluster)
        placed.append(here)
    return placed


def to_row(item: Recorded, origin: Origin) -> dict[str, Any]:
    """Return a question as it is stored, but for `probe`, which `hold_out` adds. May take a while:
    it looks for prompt injection."""
    doubt = suspicion(item.question) if origin is Origin.TRAFFIC else None
    return {
        "hash": item.question.hash,
        "cluster": item.question.cluster,
        "body": dict(item.question.body),
        "count": 1,
        "first_seen": item.at,
        "last_seen": item.at,
        "client": item.client,
        "shared": False,
        "origin": origin,
        "state": QuestionState.SKIPPED if doubt else QuestionState.NEW,
        "reason": doubt,
        "sampling": None if item.question.sampling is None else dict(item.question.sampling),
    }


def hold_out(connection: sa.Connection, rows: Sequence[dict[str, Any]], share: float) -> None:
    """Make this share of the clusters probes."""
    key = secret(connection)
    for row in rows:
        row["probe"] = drawn(row["cluster"], key, share)


def secret(connection: sa.Connection) -> bytes:
    """Return this store's own key, made at first use, by which questions become probes: no user can
    choose."""
    found = known_secret(connection)
    if found is None:
        found = secrets.token_bytes(32)
        connection.execute(facts.insert().values(name=HOLDOUT_KEY, value=found.hex()))
    return found


def known_secret(connection: sa.Connection) -> bytes | None:
    """Return the same key, if it was made."""
    found = connection.scalar(sa.select(facts.c.value).where(facts.c.name == HOLDOUT_KEY))
    return None if found is None else bytes.fromhex(found)


def drawn(cluster: str, key: bytes, share: float) -> bool:
    """Return whether a cluster is among the share of them that is held out."""
    keyed = hmac.digest(key, cluster.encode(), "sha256")
    return int.from_bytes(keyed[:8]) < share * 2**64


def from_row(row: sa.Row[tuple[object, ...]]) -> StoredQuestion:
    """Return the question of a whole row."""
    values = row._mapping
    return StoredQuestion(
        values["id"],
        Question(values["body"], values["hash"], values["sampling"], values["cluster"]),
        values["count"],
        values["probe"],
        QuestionState(values["state"]),
        values["reason"],
        values["first_seen"],
        values["exposures"],
        values["client"],
    )
