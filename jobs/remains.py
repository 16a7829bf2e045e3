"""What a run leaves behind however it ends: its rows, and the version that it published."""

from __future__ import annotations

import shutil
from pathlib import Path

from ttrl import adapters
from ttrl.config import Config
from ttrl.store import Store
from ttrl.store.adapters import AdapterState
from ttrl.store.runs import RunState

LOOKED_AT = 20
"""Runs that may have left a version in its place without a row."""


def scratch(config: Config, run_id: int) -> Path:
    """Where a run keeps its candidates."""
    return config.state_dir / "runs" / str(run_id)


def end(config: Config, store: Store, run_id: int, state: RunState, reason: str) -> None:
    """End a run, once, and clear away what it left; may be called again after it was interrupted.
    One that failed or was stopped after it had published is one that published."""
    intended = store.runs.get(run_id).adapter
    row = store.adapters.find(intended) if intended else None
    if row is not None and state in (RunState.FAILED, RunState.ABORTED):
        state = RunState.HELD if row.state is AdapterState.HELD else RunState.PUBLISHED
        reason = row.reason or ""
    shutil.rmtree(scratch(config, run_id), ignore_errors=True)
    if intended and row is None:  # its files were put in their place, and no row knows them
        adapters.discard(config.state_dir / "adapters", intended)
    store.runs.end(run_id, state, reason, adapter=row.name if row else None)


def sweep(config: Config, store: Store) -> None:
    """Clear away what any ended run left, such as one that was ended by somebody else than its
    owner. For an owner that has none under way."""
    for folder in (config.state_dir / "runs").glob("*"):
        shutil.rmtree(folder, ignore_errors=True)
    for run in store.runs.newest(LOOKED_AT):
        if run.adapter is not None and store.adapters.find(run.adapter) is None:
            adapters.discard(config.state_dir / "adapters", run.adapter)
