"""The state of everything in one object, read from the store: for `ttrl status` and the daemon."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from serve.schedule import PAUSED
from ttrl.config import Config
from ttrl.store import Store
from ttrl.store.measurements import Kind
from ttrl.store.runs import Run


def report(store: Store, config: Config) -> dict[str, Any]:
    """What the store knows, as JSON has it; times in Unix seconds."""
    newest, back = store.runs.newest(), store.rollbacks.newest()
    return {
        "model": config.served_name,
        "state_dir": str(config.state_dir),
        "paused": store.fact(PAUSED) is not None,
        "questions": store.questions.counts(),
        "set_aside": store.questions.reasons(),
        "times_asked": store.questions.times_asked(),
        "wanted": store.adapters.wanted().adapter or "base",
        "live": store.adapters.serving().adapter or "base",
        "live_since": store.adapters.live_since(),
        "live_reason": store.adapters.serving().reason,
        "previous": store.adapters.previous() or "base",
        "rolled_back": asdict(back) if back else None,
        "last_run": run_report(newest[0]) if newest else None,
        "quality": quality(store),
    }


def quality(store: Store) -> dict[str, dict[str, Any] | None]:
    """How good the live version and the base model were when they were last measured."""
    live = store.adapters.serving().adapter
    found: dict[str, dict[str, Any] | None] = {}
    for role, version in (("live", live), ("base", None)):
        newest = store.measurements.newest(Kind.QUALITY, version)
        found[role] = None if newest is None else {**newest.numbers, "at": newest.at}
    return found


def verdicts(store: Store, run_id: int) -> list[dict[str, Any]]:
    """What the gate said in a run; the probes that lost most have their `text`, if it is known."""
    found = store.runs.verdicts(run_id)
    for verdict in found:
        worst = verdict["evidence"]["worst"]
        asked = store.probes.texts([change["probe"] for change in worst])
        for change in worst:
            change["text"] = asked.get(change["probe"], "(deleted)")
    return found


def run_report(run: Run) -> dict[str, Any]:
    """One run, as JSON has it."""
    return {key: value for key, value in vars(run).items() if key != "request"}
