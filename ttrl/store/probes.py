"""Probes, from which no run learns: labelled ones, and questions held out of the traffic; and the
pairs of answers that runs find and the operator judges, which is how the latter become labelled."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ttrl.evaluation.probes import Judged, Label, LabelledProbe, Pair, ProbeOrigin, Side
from ttrl.questions.question import Question
from ttrl.store.database import Table, change_among, rows_among
from ttrl.store.questions import StoredQuestion, drawn, from_row, secret
from ttrl.store.schema import EVALUABLE, EVALUATED, HELD_OUT, comparisons, probes, questions

c, q = comparisons.c, questions.c


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
    """What the operator was asked about one question: why, how often, how many pairs of it wait to
    be judged, and how many could not be."""

    question_id: int
    origin: ProbeOrigin
    rounds: int
    waiting: int
    skipped: int


class ProbeTable(Table):
    def add(self, labels: Sequence[Label]) -> int:
        """Add what the operator wrote, all or none, in place of what was said of a question before.
        Return how many probes there are more than before."""
        insert = self.db.upsert(probes)
        changed = ("answers", "rejected", "refuse", "tags", "origin")
        upsert = insert.on_conflict_do_update(
            index_elements=[probes.c.hash],
            set_={name: insert.excluded[name] for name in changed},
        )
        rows = [probe_row(each, ProbeOrigin.OPERATOR) for each in labels]
        total = sa.select(sa.func.count()).select_from(probes)
        with self.db.write() as connection:
            before = connection.scalar(total) or 0
            connection.execute(upsert, rows)
            return (connection.scalar(total) or 0) - before

    def labelled(self) -> list[LabelledProbe]:
        """Return all, the oldest first; those that users asked as well with their sampling."""
        asked = probes.outerjoin(questions, questions.c.hash == probes.c.hash)
        query = sa.select(probes, questions.c.sampling).select_from(asked).order_by(probes.c.id)
        return [_probe(row, row.sampling) for row in self.db.rows(query)]

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Return the texts of those of these questions that are labelled probes, by hash."""
        rows = self.db.rows(sa.select(probes).where(probes.c.hash.in_(hashes)))
        return {row.hash: _probe(row).question.text for row in rows}

    def expose(self, ids: Sequence[int]) -> None:
        """Count one more gate that has asked these."""
        exposed = probes.update().values(exposures=probes.c.exposures + 1)
        self.db.change_among(exposed, probes.c.id, ids)


class HoldoutTable(Table):
    def key(self) -> bytes:
        """Return the store's own key, by which probes have their turns."""
        return secret(self.db)

    def among(self, asked: Sequence[Question], *, share: float) -> frozenset[str]:
        """Return the hashes of those that are held out, or would be if they were recorded."""
        key, columns = self.key(), sa.select(questions.c.hash, questions.c.probe)
        rows = self.db.rows_among(columns, questions.c.hash, [each.hash for each in asked])
        known: dict[str, bool] = {row.hash: row.probe for row in rows}
        return frozenset(
            each.hash for each in asked if known.get(each.hash, drawn(each.cluster, key, share))
        )

    def probes(
        self, limit: int | None = None, *, before: float | None = None
    ) -> list[StoredQuestion]:
        """Return the newest first, those first asked before a time (Unix seconds) or all, without
        near-duplicates of earlier questions and without those that tell the model what to say."""
        query = _questions(EVALUABLE).order_by(q.first_seen.desc(), q.id.desc())
        return self._select(
            (query if before is None else query.where(q.first_seen < before)).limit(limit)
        )

    def oldest(self, limit: int) -> list[StoredQuestion]:
        """Return the oldest of the same."""
        return self._select(_questions(EVALUABLE).order_by(q.first_seen, q.id).limit(limit))

    def evaluated(self) -> list[StoredQuestion]:
        """Return those of the same that a gate has asked."""
        return self._select(_questions(EVALUATED))

    def clusters(self, clusters: Sequence[str]) -> set[str]:
        """Return those of these clusters in which a question is held out."""
        held_out = sa.select(q.cluster).where(sa.text(HELD_OUT)).distinct()
        return {row.cluster for row in self.db.rows_among(held_out, q.cluster, clusters)}

    def expose(self, ids: Sequence[int]) -> None:
        self.db.change_among(questions.update().values(exposures=q.exposures + 1), q.id, ids)

    def _select(self, query: sa.Select[Any]) -> list[StoredQuestion]:
        return [from_row(row) for row in self.db.rows(query)]


def _questions(which: str) -> sa.Select[Any]:
    return sa.select(questions).where(sa.text(which))


class ComparisonTable(Table):
    """The pairs of one store. A question has one, and further ones about other answers only while
    nothing but wrong answers to it is known."""

    def add(self, run_id: int, pairs: Sequence[Pair]) -> None:
        """Ask the operator about these, except where a question has a pair of that round."""
        if not pairs:
            return
        insert = self.db.upsert(comparisons)
        rows = []
        for pair in pairs:
            row = {
                "run_id": run_id, "question_id": pair.question_id, "round": pair.round,
                "origin": pair.origin, "at": time.time(),
                "text_live": pair.live.text, "label_live": pair.live.label,
                "text_candidate": pair.candidate.text, "label_candidate": pair.candidate.label,
            }  # fmt: skip
            rows.append(row)
        with self.db.write() as connection:
            connection.execute(insert.on_conflict_do_nothing(), rows)

    def history(self) -> dict[str, History]:
        """Return the history of every question that has a pair, by its hash."""
        unjudged = sa.func.count().filter(c.judgement.is_(None))
        skipped = sa.func.count().filter(c.judgement == Judged.CANNOT_TELL)
        origin = sa.func.min(c.origin)  # all of a question's are the same
        query = sa.select(
            questions.c.hash, c.question_id, origin, sa.func.count(), unjudged, skipped
        )
        query = query.join(comparisons).group_by(questions.c.hash, c.question_id)
        return {
            row[0]: History(row[1], ProbeOrigin(row[2]), *row[3:]) for row in self.db.rows(query)
        }

    def mark_random(self, question_ids: Collection[int]) -> None:
        """Let these questions and their labels stand for the traffic: they had a pair because
        versions disagreed, and were drawn at random now. One that could not be judged becomes a
        probe of which nothing is known, as if it had been drawn at random at first."""
        ids = sorted(question_ids)
        insert = self.db.upsert(probes).on_conflict_do_nothing()
        drawn_now = comparisons.update().values(origin=ProbeOrigin.RANDOM, at=time.time())
        relabelled = probes.update().where(probes.c.origin == ProbeOrigin.DISAGREEMENT)
        relabelled = relabelled.values(origin=ProbeOrigin.RANDOM)
        with self.db.write() as connection:
            change_among(connection, drawn_now, c.question_id, ids)
            rows = rows_among(connection, sa.select(questions.c.hash), questions.c.id, ids)
            change_among(connection, relabelled, probes.c.hash, [row.hash for row in rows])
            skipped = _pairs().where(c.judgement == Judged.CANNOT_TELL)
            for each in map(_pair, rows_among(connection, skipped, c.question_id, ids)):
                if known := each.pair.label(each.question, Judged.CANNOT_TELL):
                    connection.execute(insert, probe_row(known, each.pair.origin))

    def drawn_since(self, at: float, *, again: bool = False) -> int:
        """Return how many questions were drawn at random since then (Unix seconds), for the first
        time or to be asked about `again`."""
        turn = c.round > 0 if again else c.round == 0
        return self.db.count(c.at >= at, c.origin == ProbeOrigin.RANDOM, turn)

    def undecided_right(self) -> tuple[int, int]:
        """Return, of the judged answers that were drawn from the undecided ones, how many are
        right, and how many there are."""
        judged = (c.round > 0, c.judgement != Judged.CANNOT_TELL)  # which null is not, either
        return self.db.count(*judged, c.judgement != Judged.NEITHER), self.db.count(*judged)

    def waiting(self) -> list[StoredPair]:
        """Return the pairs to be judged, the newest first, of questions without a label."""
        labelled = sa.select(probes.c.hash).where(probes.c.origin == ProbeOrigin.OPERATOR)
        unjudged = _pairs().where(c.judgement.is_(None))
        query = unjudged.where(~questions.c.hash.in_(labelled)).order_by(c.id.desc())
        return [_pair(row) for row in self.db.rows(query)]

    def first_judged(self, run_id: int) -> float:
        """Return when an answer of a run was first judged (Unix seconds); now, if never."""
        first = sa.select(sa.func.min(c.judged_at)).where(c.run_id == run_id)
        return self.db.scalar(first) or time.time()

    def worth(self, run_id: int) -> list[float]:
        """Return what the judgements of a run's pairs say of its candidate, each from -1 to 1."""
        query = _pairs().where(c.run_id == run_id, c.judgement.is_not(None))
        judged = map(_pair, self.db.rows(query))
        worth = (each.pair.worth(each.judged) for each in judged if each.judged)
        return [value for value in worth if value is not None]

    def judged(self) -> list[StoredPair]:
        """Return the pairs of which the operator could tell what is right."""
        told = c.judgement.is_not(None), c.judgement != Judged.CANNOT_TELL
        return [_pair(row) for row in self.db.rows(_pairs().where(*told).order_by(c.id))]

    def get(self, pair_id: int) -> StoredPair:
        """Raises NotFound."""
        missing = f"there is no pair {pair_id}; see `ttrl label --list`"
        return _pair(self.db.get(_pairs().where(c.id == pair_id), missing))

    def judge(self, stored: StoredPair, judged: Judged | None, typed: str = "") -> Label | None:
        """Note a judgement (None takes it back) in place of the one before, and return what is
        known of the question by all of its judgements, which is noted too. What the operator
        labelled otherwise stays. Of a question that was forgotten meanwhile nothing is kept."""
        values = {"judgement": judged, "judged_at": None if judged is None else time.time()}
        ours = (probes.c.hash == stored.question.hash) & (probes.c.origin != ProbeOrigin.OPERATOR)
        with self.db.write() as connection:
            accepted = connection.scalar(sa.select(probes.c.answers).where(ours)) or []
            connection.execute(probes.delete().where(ours))
            # Read anew: the question may have been drawn at random since `stored` was read.
            of_question = _pairs().where(c.question_id == stored.pair.question_id)
            rows = connection.execute(of_question.order_by(c.round)).all()
            pairs = {each.id: each for each in map(_pair, rows)}
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
                insert = self.db.upsert(probes)
                connection.execute(insert.on_conflict_do_nothing(), probe_row(known, pair.origin))
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


def _pairs() -> sa.Select[Any]:
    columns = (questions.c.hash, questions.c.body, questions.c.cluster)
    return sa.select(comparisons, *columns).join(questions)


def _pair(row: sa.Row[Any]) -> StoredPair:
    live, candidate = (
        Side(row.text_live, row.label_live),
        Side(row.text_candidate, row.label_candidate),
    )
    pair = Pair(row.question_id, ProbeOrigin(row.origin), live, candidate, row.round)
    judged = None if row.judgement is None else Judged(row.judgement)
    question = Question(row.body, row.hash, recorded_in=row.cluster)
    return StoredPair(row.id, row.run_id, question, pair, judged)


def probe_row(label: Label, origin: ProbeOrigin) -> dict[str, Any]:
    return {
        "hash": label.question.hash,
        "body": dict(label.question.body),
        "answers": list(label.accepted),
        "rejected": list(label.rejected),
        "refuse": label.refuse,
        "tags": list(label.tags),
        "cluster": label.question.cluster,
        "origin": origin,
        "added": time.time(),
        "exposures": 0,
    }


def _probe(row: sa.Row[Any], sampling: Mapping[str, Any] | None = None) -> LabelledProbe:
    return LabelledProbe(
        question=Question(row.body, row.hash, sampling, row.cluster),
        accepted=tuple(row.answers),
        rejected=tuple(row.rejected),
        refuse=row.refuse,
        tags=tuple(row.tags),
        id=row.id,
        cluster=row.cluster,
        origin=ProbeOrigin(row.origin),
        added=row.added,
        exposures=row.exposures,
    )
