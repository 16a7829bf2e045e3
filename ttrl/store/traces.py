"""Where a question leaves traces besides its own row, and how they go with it."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import sqlalchemy as sa

from ttrl.evaluation.probes import ProbeOrigin
from ttrl.store.database import Database, chunks
from ttrl.store.schema import (
    adapter_clients,
    adapter_questions,
    mentions,
    probes,
    question_clients,
    questions,
    runs,
    verdicts,
)


def known(connection: sa.Connection, question_ids: Sequence[int]) -> set[int]:
    """Return those of these questions that are in the store."""
    query = sa.select(questions.c.id)
    among = (query.where(questions.c.id.in_(some)) for some in chunks(question_ids))
    return {key for each in among for key in connection.scalars(each)}


def forget(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Forget questions, their votes and samples, the labels from `ttrl label`, and the answers to
    them that a verdict quotes; return how many there were."""
    hashes: set[str] = set()
    for some in chunks(ids):
        chosen = sa.select(questions.c.hash).where(questions.c.id.in_(some))
        hashes.update(connection.scalars(chosen))
        ours = probes.c.origin != ProbeOrigin.OPERATOR
        connection.execute(probes.delete().where(probes.c.hash.in_(chosen), ours))
    unquote(connection, hashes)
    deleted = (questions.delete().where(questions.c.id.in_(some)) for some in chunks(ids))
    return sum(connection.execute(each).rowcount for each in deleted)


def mention(connection: sa.Connection, run_id: int, hashes: AbstractSet[str]) -> None:
    """Note that a run names these questions, so that `unquote` finds it."""
    known = sa.select(mentions.c.hash).where(mentions.c.run_id == run_id)
    if fresh := hashes - set(connection.scalars(known)):
        rows = [{"hash": each, "run_id": run_id} for each in sorted(fresh)]
        connection.execute(mentions.insert(), rows)


def unquote(connection: sa.Connection, hashes: AbstractSet[str]) -> None:
    """Take answers to these questions out of what verdicts quote as the worst changes, and their
    hashes out of what runs were asked for."""
    among = [mentions.c.hash.in_(some) for some in chunks(sorted(hashes))]
    found = (sa.select(mentions.c.run_id).where(each) for each in among)
    for run_id in {key for query in found for key in connection.scalars(query)}:
        quoting = sa.select(verdicts.c.id, verdicts.c.evidence).where(verdicts.c.run_id == run_id)
        for key, evidence in connection.execute(quoting).all():
            worst = evidence.get("worst", [])
            kept = [change for change in worst if change["probe"] not in hashes]
            if len(kept) < len(worst):
                update = verdicts.update().where(verdicts.c.id == key)
                connection.execute(update.values(evidence={**evidence, "worst": kept}))
        request = connection.scalar(sa.select(runs.c.request).where(runs.c.id == run_id)) or {}
        named = request.get("hashes") or []
        kept = [each for each in named if each not in hashes]
        if len(kept) < len(named):
            update = runs.update().where(runs.c.id == run_id)
            connection.execute(update.values(request={**request, "hashes": kept}))
    for each in among:
        connection.execute(mentions.delete().where(each))


def remember_whose(database: Database, connection: sa.Connection, ids: Sequence[int]) -> None:
    """Note who asked what a version learned from: they may ask to be forgotten later, when the
    question is no longer there."""
    learned, asked = adapter_questions.c, question_clients.c
    whose = sa.select(learned.adapter, asked.client).distinct()
    whose = whose.where(learned.question_id == asked.question_id, learned.question_id.in_(ids))
    insert = database.upsert(adapter_clients).from_select(["adapter", "client"], whose)
    connection.execute(insert.on_conflict_do_nothing())
