"""What becomes of versions that learned from what was purged."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import sqlalchemy as sa

from ttrl.store.adapters import AdapterState, present_and_before, want
from ttrl.store.questions import QuestionState
from ttrl.store.schema import adapter_questions, adapters, questions


def taint(
    connection: sa.Connection, learned: AbstractSet[str], *, author: str, keep_serving: bool
) -> list[str]:
    """Mark these versions, and all that go on from them, and let runs learn again from the rest of
    what they learned from. If one of them should serve, want the newest other one that did, unless
    it is to go on until a run has made another. The names of those that were not marked before."""
    rows = connection.execute(sa.select(adapters.c.name, adapters.c.parent, adapters.c.state)).all()
    heirs = _heirs({row.name: row.parent for row in rows}, learned)
    reasons = dict.fromkeys(heirs, "it goes on from a version that learned from what was purged")
    reasons |= dict.fromkeys(learned & heirs, "it learned from what was purged")
    fresh = [row.name for row in rows if row.name in heirs and row.state != AdapterState.TAINTED]
    for name in fresh:
        update = adapters.update().where(adapters.c.name == name)
        connection.execute(update.values(state=AdapterState.TAINTED, reason=reasons[name]))
    _learn_again(connection)
    present, before = present_and_before(connection)
    if present in heirs and not keep_serving:
        want(connection, before, author, f"{present} {AdapterState.TAINTED}: {reasons[present]}")
    return fresh


def _learn_again(connection: sa.Connection) -> None:
    """Let runs learn once more from what only tainted versions learned from."""
    learned = sa.select(adapter_questions.c.question_id).join(adapters)
    lost = learned.where(adapters.c.state == AdapterState.TAINTED)
    kept = learned.where(adapters.c.state != AdapterState.TAINTED)
    update = questions.update().where(
        questions.c.state == QuestionState.LEARNED_FROM,
        questions.c.id.in_(lost),
        questions.c.id.not_in(kept),
    )
    connection.execute(update.values(state=QuestionState.NEW, reason=None))


def _heirs(parents: Mapping[str, str | None], names: AbstractSet[str]) -> set[str]:
    """These versions and all that go on from them."""
    found = names & parents.keys()
    while more := {name for name, parent in parents.items() if parent in found} - found:
        found |= more
    return found
