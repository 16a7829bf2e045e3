"""What an operator wants to hear of: versions that come and go, runs that ended badly."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from serve.live import BASE
from ttrl.store.adapters import Change
from ttrl.store.runs import Run, RunState


class Event(StrEnum):
    """What happened."""

    PROMOTED = "adapter.promoted"
    ROLLED_BACK = "adapter.rolled_back"
    HELD = "adapter.held"
    """A candidate waits for the operator."""
    REJECTED = "run.rejected"
    """By the gate, or by the guard of the run."""
    FAILED = "run.failed"


@dataclass(frozen=True)
class Notice:
    """One of them, `at` in Unix seconds; no text of a user or a model is in it. `adapter` is the
    version that it is about, `run` the one that made it, `live` what is to serve from then on."""

    event: Event
    at: float
    reason: str
    run: int | None = None
    adapter: str | None = None
    author: str | None = None
    live: str | None = None


ENDS = {
    RunState.HELD: Event.HELD,
    RunState.REJECTED: Event.REJECTED,
    RunState.FAILED: Event.FAILED,
}


def of_change(change: Change) -> Notice:
    """Another version is wanted; the base model is called so."""
    event = Event.ROLLED_BACK if change.back else Event.PROMOTED
    return Notice(
        event,
        time.time(),
        change.reason,
        run=change.run,
        adapter=change.about or BASE,
        author=change.author,
        live=change.adapter or BASE,
    )


def of_run(run: Run) -> Notice | None:
    """A run ended; None where nobody needs to hear of it."""
    event = ENDS.get(run.state)
    if event is None:
        return None
    return Notice(event, time.time(), run.reason or "", run=run.id, adapter=run.adapter)
