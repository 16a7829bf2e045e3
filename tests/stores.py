"""Stores with questions and versions, and what is in them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.services import needs
from ttrl.engine.proof import Pin, Pinned
from ttrl.questions.question import from_prompt
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.questions import Recorded

DAY = 86400.0

both_stores = pytest.mark.parametrize(
    "fresh_url",
    ["sqlite", pytest.param("postgresql", marks=[pytest.mark.integration, needs("postgresql")])],
    indirect=True,
)
"""For tests that say the same of a store in PostgreSQL."""


def asked(*prompts, at=1.0):
    return [Recorded(from_prompt(prompt), at) for prompt in prompts]


def adapter(name, number=1, state=AdapterState.APPROVED):
    return AdapterRow(name, "l", number, "d" * 64, None, "base", None, 16, state, "why", 1.0)


def recorded(store, *prompts):
    """Questions that are there; the ids of these."""
    store.questions.record(asked(*prompts), holdout=0)
    ids = {row.question.text: row.id for row in store.questions.page(100)}
    return [ids[prompt] for prompt in prompts]


def states(store):
    return {row.question.text: str(row.state) for row in store.questions.page(100)}


def ask(store, prompt, client=None, *, days_ago=0.0, holdout=0.0):
    """Ask it; the question's id."""
    at = time.time() - days_ago * DAY
    store.questions.record([Recorded(from_prompt(prompt), at, client)], holdout=holdout)
    return next(q.id for q in store.questions.page(1000) if q.question.text == prompt)


def publish(
    store, name, learned, parent=None, *, created=1.0, state=AdapterState.APPROVED, pins=()
):
    row = replace(adapter(name, state=state), parent=parent, created=created)
    measured = [Pinned(Pin(key, (1, 2), 1), "float32", (0.0,), (0.0,)) for key in pins]
    store.adapters.publish(row, learned, measured, author="run")


def on_disk(tmp_path):
    """Everything in the state directory's files, as a grep sees it."""
    return b"".join(f.read_bytes() for f in sorted(tmp_path.rglob("*")) if f.is_file())


def held_out(store, count, text="What is {} plus {}?"):
    asked = [Recorded(from_prompt(text.format(n, n)), float(n)) for n in range(count)]
    store.questions.record(asked, holdout=1)
    return sorted(row.id for row in store.holdout.probes())
