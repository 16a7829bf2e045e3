"""Runs of a light model without a daemon, and what they leave in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.integration.daemon import LIGHT, Daemon
from ttrl.store import Store

SMALL = (
    "vote.samples=16", "vote.max_tokens=96", "update.keep=16", "update.learning_rate=1e-3",
    "update.questions_per_step=4", "update.micro_batch=64", "gate.samples=2",
)  # fmt: skip


def adapt(
    directory: Path, *settings: str, steps: int = 2, environ: Mapping[str, str] = LIGHT
) -> tuple[dict[str, Any], Daemon]:
    """A run alone; the run, and the state directory with what is left of it."""
    alone = Daemon(directory, *SMALL, *settings, start=False, environ=environ)
    done = alone.run("adapt", "--steps", str(steps), "--json")
    assert done.returncode in (0, 4), done.stderr
    return json.loads(done.stdout), alone


def votes_of(store: Store) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each vote with its samples; of a question the newest first."""
    return [
        (vote, store.votes.samples(vote["id"]))
        for row in store.questions.page(100)
        for vote in store.votes.newest(row.id)
    ]
