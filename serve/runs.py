"""Runs as child processes: whatever becomes of one, the daemon serves on and the store knows."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs import interruption, remains
from serve.child import spawn
from ttrl.config import Config
from ttrl.faults import Point, reached
from ttrl.metrics import Metrics
from ttrl.settings import override
from ttrl.store import Store, StoreDamaged
from ttrl.store.outage import OUTAGE, cause
from ttrl.store.runs import Run, RunState, Trigger

log = logging.getLogger(__name__)

STOP_SECONDS = 20.0
PAUSE_SECONDS = 5.0


class RunKeeper:
    """Starts runs, watches them end, and stops them."""

    def __init__(
        self,
        config: Config,
        store: Store,
        engine_url: str,
        metrics: Metrics,
        damage: str | None = None,
    ) -> None:
        self.ended: list[Callable[[Run], None]] = []
        """Who hears of each run that has ended."""
        self._config = config
        self._store = store
        self._engine_url = engine_url
        self._metrics = metrics
        self._damage = damage
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self._starting = asyncio.Lock()

    def bury_the_dead(self) -> None:
        """End the runs of an owner that died, since theirs died with it, and of a process that
        could not be started."""
        while active := self._store.runs.active():
            self._bury(active.id, RunState.ABORTED, "the process that owned it died")
        remains.sweep(self._config, self._store)

    async def start(self, trigger: Trigger, request: Mapping[str, Any]) -> Run:
        """Start a run in a process of its own; `request` may hold `hashes` of the questions to
        learn from and `overrides` of settings. Raises RunBusy, ConfigError, StoreDamaged."""
        if self._damage is not None:
            raise StoreDamaged(self._damage)
        config = override(self._config, request.get("overrides", {}))
        async with self._starting:  # else a second would take the first, not yet watched, for dead
            return await self._start(config, trigger, request)

    async def _start(self, config: Config, trigger: Trigger, request: Mapping[str, Any]) -> Run:
        if not self.busy:
            await asyncio.to_thread(self.bury_the_dead)
        run = await asyncio.to_thread(self._store.runs.create, trigger, request)
        reached(Point.QUEUED)
        arguments = ["--run", str(run.id), "--engine-url", self._engine_url]
        try:
            self._child = await spawn("jobs.adapt", arguments, config, self.log_file(run.id))
        except OSError as error:
            reason = f"its process could not be started: {error.strerror}"
            self._watch = asyncio.create_task(self._end(run.id, RunState.FAILED, reason))
            return run
        self._stopping = False
        reached(Point.SPAWNED)
        self._watch = asyncio.create_task(self._wait(run.id, self._child))
        log.info("run %d started, process %d", run.id, self._child.pid, extra={"run": run.id})
        return run

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return self._watch is not None and not self._watch.done()

    async def stop(self) -> bool:
        """Stop the run under way; whether there was one."""
        if self._child is None or self._watch is None or not self.busy:
            return False
        self._stopping = True
        with suppress(ProcessLookupError):  # it has ended, which is not written yet
            self._child.send_signal(signal.SIGINT)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._watch), STOP_SECONDS)
        if not self._watch.done():
            self.kill()
            await self._child.wait()
            await asyncio.wait({self._watch}, timeout=STOP_SECONDS)  # for the store, if it is there
        return True

    def kill(self) -> None:
        """End the run under way at once, also while it is being stopped."""
        if self._child is not None and self.busy:
            self._stopping = True
            with suppress(ProcessLookupError):
                self._child.kill()

    async def wait(self) -> None:
        """Until the run under way has ended."""
        if self._watch is not None:
            await self._watch

    def log_file(self, run_id: int) -> Path:
        """Where a run's process writes what happens to it."""
        return self._config.state_dir / "logs" / f"run-{run_id}.log"

    async def _wait(self, run_id: int, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()
        log.info("run %d: its process ended with status %d", run_id, code, extra={"run": run_id})
        if self._stopping:  # even if it did not hear of it, or not as it should
            await self._end(run_id, RunState.ABORTED, interruption.WHY[signal.SIGINT])
        else:
            await self._end(run_id, RunState.FAILED, _cause_of_death(code, self.log_file(run_id)))

    async def _end(self, run_id: int, state: RunState, reason: str) -> None:
        """As soon as the store takes it."""
        while True:
            try:
                await asyncio.to_thread(self._bury, run_id, state, reason)
                await self._ended(run_id)
                return
            except OUTAGE as error:
                log.warning("the end of run %d cannot be written: %s", run_id, cause(error))
            await asyncio.sleep(PAUSE_SECONDS)

    def _bury(self, run_id: int, state: RunState, reason: str) -> None:
        remains.end(self._config, self._store, run_id, state, reason)

    async def _ended(self, run_id: int) -> Run:
        run = await asyncio.to_thread(self._store.runs.get, run_id)
        self._metrics.scheduling.runs.labels(run.state).inc()
        log.info("run %d ended: %s (%s)", run_id, run.state, run.reason, extra={"run": run_id})
        for hear in self.ended:
            hear(run)
        return run


def _cause_of_death(code: int, log_file: Path) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with status {code}; see {log_file}"
