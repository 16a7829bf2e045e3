"""Where a question leaves traces besides its own row, and how they go with it."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import sqlalchemy as sa

from ttrl.probes import ProbeOrigin
from ttrl.store.database import Database, chunks
from ttrl.store.schema import (
    adapter_clients,
    adapter_questions,
    probes,
    question_clients,
    questions,
    runs,
    verdicts,
)


def known(connection: sa.Connection, question_ids: Sequence[int]) -> set[int]:
    """Those of these questions that are in the store."""
    query = sa.select(questions.c.id)
    among = (query.where(questions.c.id.in_(some)) for some in chunks(question_ids))
    return {key for each in among for key in connection.scalars(each)}


def forget(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Forget questions, their votes and samples, what `ttrl label` made of them, and the answers to
    them that a verdict quotes; how many there were."""
    hashes: set[str] = set()
    for some in chunks(ids):
        chosen = sa.select(questions.c.hash).where(questions.c.id.in_(some))
        hashes.update(connection.scalars(chosen))
        ours = probes.c.origin != ProbeOrigin.OPERATOR
        connection.execute(probes.delete().where(probes.c.hash.in_(chosen), ours))
    unquote(connection, hashes)
    deleted = (questions.delete().where(questions.c.id.in_(some)) for some in chunks(ids))
    return sum(connection.execute(each).rowcount for each in deleted)


def unquote(connection: sa.Connection, hashes: AbstractSet[str]) -> None:
    """Take answers to these questions out of what verdicts quote as the worst changes, and their
    hashes out of what runs were asked for."""
    for row in connection.execute(sa.select(verdicts.c.id, verdicts.c.evidence)).all():
        worst = row.evidence.get("worst", [])
        kept = [change for change in worst if change["probe"] not in hashes]
        if len(kept) < len(worst):
            update = verdicts.update().where(verdicts.c.id == row.id)
            connection.execute(update.values(evidence={**row.evidence, "worst": kept}))
    for run in connection.execute(sa.select(runs.c.id, runs.c.request)).all():
        named = run.request.get("hashes") or []
        kept = [each for each in named if each not in hashes]
        if len(kept) < len(named):
            update = runs.update().where(runs.c.id == run.id)
            connection.execute(update.values(request={**run.request, "hashes": kept}))


def remember_whose(database: Database, connection: sa.Connection, ids: Sequence[int]) -> None:
    """Who asked what a version learned from: they may ask to be forgotten later, when the question
    is no longer there."""
    learned, asked = adapter_questions.c, question_clients.c
    whose = sa.select(learned.adapter, asked.client).distinct()
    whose = whose.where(learned.question_id == asked.question_id, learned.question_id.in_(ids))
    insert = database.upsert(adapter_clients).from_select(["adapter", "client"], whose)
    connection.execute(insert.on_conflict_do_nothing())
