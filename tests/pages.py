"""The page as an application, on a store alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from serve import admin
from serve.admin import Page
from ttrl.config.loading import load
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.runs import RunBusy

KEY = "a key of the operator's"


@dataclass
class Runs:
    """Stands for the daemon's keeper of runs."""

    store: Any
    busy: bool = False
    stopped: int = 0

    async def start(self, trigger, request):
        if self.busy:
            raise RunBusy("run 1 is already in progress; wait for it or stop it")
        return await asyncio.to_thread(self.store.runs.create, trigger, request)

    async def stop(self):
        self.stopped += 1


def daemonless(store, state_dir, runs, woken, compared):
    """The page as an application, on a store alone."""
    up = asyncio.Event()
    up.set()
    serving = store.adapters.serving().adapter or "base"
    settings = {"state_dir": str(state_dir), "model.name": "m"}
    core = SimpleNamespace(
        store=store,
        config=load(None, environ={}, overrides=settings).config,
        engine=SimpleNamespace(up=up),
        damage=None,
        live=SimpleNamespace(current=SimpleNamespace(version=serving)),
        reconciler=SimpleNamespace(wake=lambda: woken.append(True)),
        runs=runs,
    )  # fmt: skip
    clock = SimpleNamespace(next_run=lambda: "2026-12-01 00:00", decision="not_due")
    watch = SimpleNamespace(report=lambda: compared[-1])
    return admin.app(Page(core, clock, watch, KEY).routes(), ["testserver", "127.0.0.1"])


def publish(store, name, state=AdapterState.APPROVED, parent=None, run_id=None, at=1.0):
    row = AdapterRow(name, "l", 1, "d", parent, "base", run_id, 16, state, "so", at)
    store.adapters.publish(row, [], author="run")
