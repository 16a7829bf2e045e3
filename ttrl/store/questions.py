"""Questions as rows: recorded by the daemon, chosen and marked by runs, and on their way out of one
store and into another."""

from __future__ import annotations

import hmac
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ttrl.feedback import Receipt
from ttrl.questions.question import Question
from ttrl.questions.regime import Usage
from ttrl.questions.screening import suspicion
from ttrl.store.database import Database, Table, change_among, chunks, rows_among
from ttrl.store.schema import (
    HELD_OUT,
    HOLDOUT_KEY,
    SAMPLED,
    adapter_questions,
    answers,
    facts,
    question_clients,
    question_counts,
    questions,
    runs,
    votes,
)

c = questions.c
AT_ONCE = 500
"""Questions in memory, or in one statement, where all go out or many come in."""
LOOKED_AT = 8
"""Rows that are looked at for each that is wanted, where only some will do."""
USAGE_OF = 2_000
"""The newest questions, by which it is known how users sample: shares to one point."""
BRANCHES = 8
"""Ways in which users go on from the same question, at most: more of them are different questions
after the same worked examples."""


class QuestionState(StrEnum):
    """What became of a question."""

    NEW = "new"  # not yet asked by a run
    LEARNED_FROM = "learned_from"  # its samples went into an update
    NO_SIGNAL = "no_signal"  # every sample earned the same: there was nothing to learn
    NO_LABEL = "no_label"  # the vote gave no label; the reason says why
    REFUSED = "refused"  # the engine refused it
    FAILED = "failed"  # it could not be sampled, read, scored or stored; kept back until released
    LIKE_PROBE = "like_probe"  # it is like a probe: nothing learns from it
    QUARANTINED = "quarantined"  # what learned from it was worse; kept back until released
    SKIPPED = "skipped"  # it tells the model what to say; kept back until released


FRESH_FOR_EACH_RETRIED = 4
"""Questions that no run has asked come before each one that had no label when it was: most of those
have none again."""
KEPT_AWAY = (QuestionState.LIKE_PROBE, QuestionState.QUARANTINED)
"""No run learns from these, even when it is told to."""
RELEASED = (QuestionState.QUARANTINED, QuestionState.SKIPPED, QuestionState.FAILED)
"""Those that the operator can let runs learn from."""


class Origin(StrEnum):
    TRAFFIC = "traffic"
    FILE = "file"


@dataclass(frozen=True)
class Recorded:
    """A question as it came in, `at` in Unix seconds, from a client known by its key's hash; and
    the receipt of its answer, if one is kept. Of some answers that is all: the question is None."""

    question: Question | None
    at: float
    client: str | None = None
    receipt: Receipt | None = None


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


@dataclass(frozen=True)
class Exported:
    """A question with what is known of its asking, times in Unix seconds; `clients` are all who
    asked it, by their keys' hashes."""

    question: Question
    count: int
    first_seen: float
    last_seen: float
    origin: Origin
    clients: tuple[str, ...] = ()


class QuestionTable(Table):
    def record(
        self, recorded: Sequence[Recorded], *, holdout: float, origin: Origin = Origin.TRAFFIC
    ) -> None:
        """Add questions, or count them once more. A `holdout` share becomes probes, chosen by a
        keyed hash of the cluster, so that no user can choose to be one, and near-duplicates and the
        turns of a conversation stay on one side. Traffic that tells the model what to say is
        skipped from the start; a file is the operator's own word."""
        new = self.db.upsert(questions).excluded
        merged = {
            "count": c.count + 1,
            "last_seen": new.last_seen,
            # The newest way wins; a file says nothing of how users ask.
            "sampling": sa.func.coalesce(new.sampling, c.sampling),
        }
        once, receipts = [], []
        for each in recorded:
            clients = (each.client,) if each.client else ()
            if asked := each.question:
                once.append(Exported(asked, 1, each.at, each.at, origin, clients))
            if each.receipt:
                named = asked.hash if asked else None
                receipts.append({**vars(each.receipt), "question": named, "at": each.at})
        self._write(once, holdout, merged, receipts)

    def take_in(self, exported: Sequence[Exported], *, holdout: float) -> int:
        """Add what is not there yet, all or none; return how much that is. Of what is there, the
        larger count, the wider times and the newer sampling stay, so that taking in the same twice
        does no harm."""
        new = self.db.upsert(questions).excluded

        def kept(ours_if: sa.ColumnElement[bool], name: str) -> sa.ColumnElement[Any]:
            return sa.case((ours_if, c[name]), else_=new[name])

        merged = {
            "count": kept(c.count > new.count, "count"),
            "first_seen": kept(c.first_seen < new.first_seen, "first_seen"),
            "last_seen": kept(c.last_seen > new.last_seen, "last_seen"),
            "sampling": sa.case(
                (c.last_seen > new.last_seen, sa.func.coalesce(c.sampling, new.sampling)),
                else_=sa.func.coalesce(new.sampling, c.sampling),
            ),
        }
        hashes = {each.question.hash for each in exported}
        known = self.db.rows_among(sa.select(c.hash), c.hash, sorted(hashes))
        self._write(exported, holdout, merged)
        return len(hashes) - len(known)

    def export(self, state: str | None = None) -> Iterator[Exported]:
        """Yield every question, or those in one state, the oldest first."""
        query = sa.select(questions).order_by(c.id)
        if state is not None:
            query = query.where(c.state == state, ~c.probe)
        who = sa.select(question_clients.c.client).order_by(question_clients.c.client)
        with self.db.read() as connection:
            for row in connection.execution_options(yield_per=AT_ONCE).execute(query):
                clients = connection.scalars(who.where(question_clients.c.question_id == row.id))
                yield Exported(
                    Question(row.body, row.hash, row.sampling),
                    row._mapping["count"],
                    row.first_seen,
                    row.last_seen,
                    Origin(row.origin),
                    tuple(clients),
                )

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
        and near-duplicates of earlier ones last. So who asks a lot, or the same again and again,
        goes no sooner. Of the questions without a label each client's newest are looked at, some
        times as many as are wanted."""
        with self.db.read() as connection:
            fresh = _Lanes(connection, QuestionState.NEW, only)
            rows = [*fresh.in_turn(limit), *_replayed(connection, again, only)]
            if tries > 1:
                unlabelled = _Lanes(connection, QuestionState.NO_LABEL, only).newest(limit)
                ids = [row.id for row in unlabelled]
                again_now = {
                    row.id for row in rows_among(connection, _retried(tries, parent), c.id, ids)
                }
                rows += [row for row in unlabelled if row.id in again_now]
            places = {key: place for place, key in enumerate(in_turns(rows)[:limit])}
            found = rows_among(connection, sa.select(questions), c.id, list(places))
        return [from_row(row) for row in sorted(found, key=lambda row: places[row.id])]

    def among(self, ids: Sequence[int], only: Sequence[str] = ()) -> list[StoredQuestion]:
        """Return those that are no probes; with `only`, none of other clients than these."""
        rows = self.db.rows_among(sa.select(questions), c.id, ids)
        if only:
            rows = [row for row in rows if row.origin == Origin.FILE or row.client in only]
        return [from_row(row) for row in rows if not row.probe]

    def sole_client(self) -> bool:
        """Return whether all traffic came from at most one client; those without a key are one."""
        kinds = {(row.state, row.probe) for row in self._counted()}
        with self.db.read() as connection:
            traffic = (_clients(connection, *kind, Origin.TRAFFIC, 2) for kind in kinds)
            return len({client for some in traffic for client in some}) < 2

    def named(self, hashes: Sequence[str]) -> list[StoredQuestion]:
        """Return the given questions that are no probes and not kept away from learning, whatever
        became of them before."""
        usable = sa.select(questions).where(~c.probe, c.state.not_in(KEPT_AWAY))
        rows = self.db.rows_among(usable, c.hash, hashes)
        return sorted(map(from_row, rows), key=lambda row: row.id)

    def set_apart(self, ids: Sequence[int]) -> None:
        """Keep these from being learned from, because they are like probes."""
        values = {"state": QuestionState.LIKE_PROBE, "reason": "too similar to a probe"}
        self.db.change_among(questions.update().values(values), c.id, ids)

    def reconsider(self) -> None:
        """Set none apart any more: the next run looks at each again."""
        self._move(QuestionState.NEW, None, c.state == QuestionState.LIKE_PROBE)

    def page(
        self, limit: int, *, before: int | None = None, kind: str | None = None
    ) -> list[StoredQuestion]:
        """Return questions, newest first, of one kind (a state, or `probe`) or all; `before` is the
        id of the last one of the page before."""
        query = sa.select(questions).order_by(c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(c.id < before)
        if kind is not None:
            query = query.where(*_of_kind(kind))
        return [from_row(row) for row in self.db.rows(query)]

    def each(self, kind: str) -> Iterator[StoredQuestion]:
        """Yield every question of one kind, a part of them in memory at a time."""
        return map(from_row, self.db.stream(sa.select(questions).where(*_of_kind(kind))))

    def asked(self, since: float, until: float, *, limit: int) -> list[str]:
        """Return the texts of the newest questions that were asked between two times (Unix
        seconds), or before and after both; not many more than those are looked at."""
        seen = sa.select(c.id, c.last_seen).where(c.first_seen < until)
        newest = self.db.rows(seen.order_by(c.first_seen.desc()).limit(LOOKED_AT * limit))
        ids = [row.id for row in newest if row.last_seen >= since][:limit]
        rows = self.db.rows_among(sa.select(questions), c.id, ids)
        return [from_row(row).question.text for row in rows]

    def get(self, question_id: int) -> StoredQuestion:
        """Raises NotFound."""
        missing = f"there is no question {question_id}; see `ttrl questions list`"
        return from_row(self.db.get(sa.select(questions).where(c.id == question_id), missing))

    def mark(self, question_id: int, state: QuestionState, reason: str | None = None) -> None:
        """Note what became of a question. One that is quarantined stays so."""
        self._move(state, reason, c.id == question_id, c.state != QuestionState.QUARANTINED)

    def wait(self, reasons: Mapping[int, str]) -> None:
        """Note why these questions, and no others, were left out of the newest update."""
        # A comparison, for which there is an index: SQLite would find by the state alone.
        said = questions.update().where(c.state == QuestionState.NEW, c.reason > "")
        with self.db.write() as connection:
            connection.execute(said.values(reason=None))
            for reason in set(reasons.values()):
                ids = [key for key, why in reasons.items() if why == reason]
                left = questions.update().where(in_state(QuestionState.NEW))
                change_among(connection, left.values(reason=reason), c.id, ids)

    def quarantined_by(self, run_id: int) -> list[int]:
        """Return those of the questions that a run asked that are quarantined."""
        asked = sa.select(votes.c.question_id).where(votes.c.run_id == run_id)
        query = sa.select(c.id).where(in_state(QuestionState.QUARANTINED), c.id.in_(asked))
        return self.db.scalars(query)

    def release(self, ids: Sequence[int]) -> int:
        """Let runs learn from those that were kept back; return how many."""
        return self._move(QuestionState.NEW, None, c.id.in_(ids), in_state(*RELEASED))

    def usage(self, least: int) -> Usage:
        """Return how users sample, by the newest questions, if that is known of at least as
        many."""
        newest = sa.select(sa.cast(c.sampling, sa.Text)).where(sa.text(SAMPLED))
        ways = Counter(self.db.scalars(newest.order_by(c.id.desc()).limit(max(USAGE_OF, least))))
        if ways.total() < least:
            return Usage()
        return Usage.of((json.loads(way), count) for way, count in ways.items())

    def counts(self) -> dict[str, int]:
        """Return how many questions are in each state, with `probe` for the held-out ones."""
        counts = Counter[str]()
        for row in self._counted():
            counts["probe" if row.probe else row.state] += row.questions
        return dict(counts)

    def reasons(self) -> dict[str, int]:
        """Return why questions are skipped or wait, and how many."""
        counts = Counter[str]()
        for row in self._counted():
            counts[row.reason] += row.questions
        del counts[""]
        return dict(counts)

    def fresh(self) -> int:
        """Return how many new questions no cap kept out of the newest update."""
        return sum(
            row.questions
            for row in self._counted()
            if row.state == QuestionState.NEW and not (row.probe or row.reason)
        )

    def times_asked(self) -> int:
        return sum(row.asked for row in self._counted())

    def _counted(self) -> Sequence[sa.Row[Any]]:
        return self.db.rows(sa.select(question_counts).where(question_counts.c.questions > 0))

    def _move(
        self, state: QuestionState, reason: str | None, *which: sa.ColumnElement[bool]
    ) -> int:
        return self.db.change(questions.update().where(*which).values(state=state, reason=reason))

    def _write(
        self,
        items: Sequence[Exported],
        holdout: float,
        merged: Mapping[str, Any],
        receipts: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Add questions and who asked them, or put the columns `merged` in the place of those of
        questions that are there."""
        # Fingerprints and patterns of long questions take seconds, in which others may write.
        with self.db.read() as connection:
            placed = in_conversations(connection, [item.question for item in items])
        key, rows = secret(self.db), list[dict[str, Any]]()
        for item, (question, follows) in zip(items, placed, strict=True):
            doubt = suspicion(question) if item.origin is Origin.TRAFFIC else None
            row: dict[str, Any] = {
                "hash": question.hash,
                "cluster": question.cluster,
                "follows": follows,
                "body": dict(question.body),
                "count": item.count,
                "first_seen": item.first_seen,
                "last_seen": item.last_seen,
                "client": item.clients[0] if item.clients else None,
                "shared": len(item.clients) > 1,
                "origin": item.origin,
                "probe": drawn(question.cluster, key, holdout),
                "state": QuestionState.SKIPPED if doubt else QuestionState.NEW,
                "reason": doubt,
                "sampling": None if question.sampling is None else dict(question.sampling),
            }
            rows.append(row)
        insert = self.db.upsert(questions)
        new = insert.excluded
        shared = sa.or_(c.shared, new.shared, c.client.is_distinct_from(new.client))
        upsert = insert.on_conflict_do_update(
            index_elements=[c.hash], set_={**merged, "shared": shared}
        ).returning(c.id, c.hash)
        clients = self.db.upsert(question_clients).on_conflict_do_nothing()
        with self.db.write() as connection:
            ids: dict[str, int] = {}
            for some in chunks(rows, AT_ONCE):
                known = self.db.present(connection, c.cluster, [row["cluster"] for row in some])
                for row in some:
                    row["novel"] = row["cluster"] not in known
                    known.add(row["cluster"])
                for wave in _waves(some):
                    ids |= {row.hash: row.id for row in connection.execute(upsert, wave)}
            asked = {(ids[item.question.hash], by) for item in items for by in item.clients}
            if asked:
                names = ("question_id", "client")
                connection.execute(clients, [dict(zip(names, each, strict=True)) for each in asked])
            # Clients can choose ids. Of one that two questions have nobody knows which is meant.
            upsert, a = self.db.upsert(answers), answers.c
            newer = upsert.excluded
            same = sa.case((a.question == newer.question, a.question), else_=None)
            values = {"question": same, "version": newer.version, "at": newer.at}
            upsert = upsert.on_conflict_do_update(index_elements=[a.hash], set_=values)
            for wave in _waves(receipts):
                connection.execute(upsert, wave)


def _waves(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Part rows so that one statement has a question once, and their order stays."""
    waves: list[list[dict[str, Any]]] = []
    times: Counter[str] = Counter()
    for row in rows:
        if times[row["hash"]] == len(waves):
            waves.append([])
        waves[times[row["hash"]]].append(row)
        times[row["hash"]] += 1
    return waves


def in_state(*states: QuestionState) -> sa.ColumnElement[bool]:
    """Say that a question is in one of these states, where it is found by something else: SQLite
    would rather look at all in a state."""
    return (c.state + "").in_(states)


def _of_kind(kind: str) -> tuple[sa.ColumnElement[bool], ...]:
    """What is true of the questions in a state, or of held-out ones (`probe`)."""
    if kind == "probe":
        return (sa.literal_column(HELD_OUT),)
    return (c.state == kind, ~c.probe)


def _clients(
    connection: sa.Connection, state: str, probe: bool, origin: Origin, most: int | None = None
) -> list[str | None]:
    """Return who asked such questions first, `most` of them; None stands for those without a key.
    From one client to the next by the index, however much each asks."""
    such = (c.state == state, c.probe if probe else ~c.probe, c.origin == origin)
    here = sa.select(sa.func.min(c.client).label("client")).where(*such).cte(recursive=True)
    after = sa.select(sa.func.min(c.client)).where(*such, c.client > here.c.client)
    following = sa.select(after.scalar_subquery()).where(here.c.client.is_not(None))
    here = here.union_all(following)
    named = sa.select(here.c.client).where(here.c.client.is_not(None)).limit(most)
    unnamed = sa.select(c.id).where(*such, c.client.is_(None)).limit(1)
    without_key = connection.scalar(unnamed) is not None
    return [*connection.scalars(named), *([None] if without_key else [])]


class _Lanes:
    """The questions of one state that a run may train on, by who asked them."""

    def __init__(
        self, connection: sa.Connection, state: QuestionState, only: Sequence[str]
    ) -> None:
        self._connection, self._state = connection, state
        of = {
            Origin.TRAFFIC: only or _clients(connection, state, False, Origin.TRAFFIC),
            Origin.FILE: _clients(connection, state, False, Origin.FILE),
        }
        self._lanes = [(origin, client) for origin, clients in of.items() for client in clients]

    def in_turn(self, limit: int | None) -> list[sa.Row[Any]]:
        """Return the first questions of each client, as many of each as it takes for so many in
        turns."""
        share, left = self._share(limit), list(self._lanes)
        found: dict[tuple[Origin, str | None], Sequence[sa.Row[Any]]] = {}
        while left:
            found |= {lane: self._first(lane, share) for lane in left}
            left = [lane for lane in left if len(found[lane]) == share]
            if limit is not None and sum(map(len, found.values())) >= limit:
                break
            share = share and 2 * share
        return [row for rows in found.values() for row in rows]

    def newest(self, limit: int | None) -> list[sa.Row[Any]]:
        share = self._share(limit)
        most = share and LOOKED_AT * share
        return [row for lane in self._lanes for row in self._first(lane, most)]

    def _share(self, limit: int | None) -> int | None:
        return None if limit is None else -(-limit // max(1, len(self._lanes)))

    def _first(self, lane: tuple[Origin, str | None], limit: int | None) -> Sequence[sa.Row[Any]]:
        origin, client = lane
        query = _COLUMNS.where(c.state == self._state, ~c.probe, c.origin == origin)
        query = query.where(c.client.is_(None) if client is None else c.client == client)
        # By all columns of the index: PostgreSQL does not see that one that is null is the same.
        order = (c.client.desc(), c.novel.desc(), c.shared.desc(), c.id.desc())
        return self._connection.execute(query.order_by(*order).limit(limit)).all()


_COLUMNS: sa.Select[Any] = sa.select(c.id, c.client, c.state, c.cluster, c.shared, c.novel, c.probe)


def _replayed(
    connection: sa.Connection, versions: Sequence[str], only: Sequence[str]
) -> Sequence[sa.Row[Any]]:
    learned = sa.select(adapter_questions.c.question_id)
    learned = learned.where(adapter_questions.c.adapter.in_(versions))
    query = _COLUMNS.where(c.id.in_(learned), in_state(QuestionState.LEARNED_FROM))
    if only:
        query = query.where(sa.or_(c.client.in_(only), c.origin == Origin.FILE))
    rows = connection.execute(query).all() if versions else []
    return [row for row in rows if not row.probe]


def _retried(tries: int, parent: str | None) -> sa.Select[int]:
    """Select questions that fewer than `tries` runs have asked, and none that began there."""
    of_it = votes.c.question_id == c.id
    asked = sa.select(sa.func.count(votes.c.run_id.distinct())).where(of_it).scalar_subquery()
    of_parent = runs.c.parent.is_not_distinct_from(parent)
    asked_of_parent = sa.exists().where(of_it, votes.c.run_id == runs.c.id, of_parent)
    return sa.select(c.id).where(asked < tries, ~asked_of_parent)


def in_turns(rows: Iterable[Any]) -> list[int]:
    """Return the ids of questions (`id`, `client`, `state`, `cluster`, `shared`, `novel`) in the
    order in which clients take turns."""
    of_cluster, twins = Counter[str](), dict[int, int]()
    for row in sorted(rows := list(rows), key=lambda row: (not row.shared, row.id)):
        twins[row.id] = of_cluster[row.cluster]
        of_cluster[row.cluster] += 1
    turns, order = Counter[tuple[str | None, str]](), list[tuple[int, bool, int]]()
    for row in sorted(
        rows, key=lambda row: (twins[row.id], not row.novel, not row.shared, -row.id)
    ):
        turns[row.client, row.state] += 1
        seldom = FRESH_FOR_EACH_RETRIED if row.state == QuestionState.NO_LABEL else 1
        order.append((turns[row.client, row.state] * seldom, not row.shared, -row.id))
    return [-place[-1] for place in sorted(order)]


def in_conversations(
    connection: sa.Connection, asked: Sequence[Question]
) -> list[tuple[Question, str | None]]:
    """Return the same questions; each that goes on from a recorded one in that one's cluster, with
    its hash, unless so many do that what comes before is no conversation but an application's
    worked examples."""
    before = [earlier.hash if earlier else "" for earlier in (q.goes_on_from for q in asked)]
    hashes = sorted(set(before) - {""})
    found = rows_among(connection, sa.select(c.hash, c.cluster), c.hash, hashes)
    clusters: dict[str, str] = {row.hash: row.cluster for row in found}
    follow = sa.select(c.follows, sa.func.count().label("number")).group_by(c.follows)
    branches = Counter[str](
        {row.follows: row.number for row in rows_among(connection, follow, c.follows, hashes)}
    )
    placed: list[tuple[Question, str | None]] = []
    for question, earlier in zip(asked, before, strict=True):
        here, follows = question, None
        if earlier and (cluster := clusters.get(earlier)):
            branches[earlier] += 1
            if branches[earlier] <= BRANCHES:
                here, follows = replace(question, recorded_in=cluster), earlier
        clusters.setdefault(here.hash, here.cluster)
        placed.append((here, follows))
    return placed


def secret(database: Database) -> bytes:
    (key,) = database.scalars(sa.select(facts.c.value).where(facts.c.name == HOLDOUT_KEY))
    return bytes.fromhex(key)


def drawn(cluster: str, key: bytes, share: float) -> bool:
    """Return whether a cluster is among the share of them that is held out."""
    keyed = hmac.digest(key, cluster.encode(), "sha256")
    return int.from_bytes(keyed[:8]) < share * 2**64


def from_row(row: sa.Row[Any]) -> StoredQuestion:
    return StoredQuestion(
        row.id,
        Question(row.body, row.hash, row.sampling, row.cluster),
        row._mapping["count"],  # a row is a tuple, which has a method of this name
        row.probe,
        QuestionState(row.state),
        row.reason,
        row.first_seen,
        row.exposures,
        row.client,
    )
