"""Runs as child processes: whatever becomes of one, the daemon serves on and the store knows."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.process import STOPPED_BECAUSE
from jobs.run import end, sweep
from serve.daemon.process import spawn
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.metrics import Metrics
from ttrl.store import Store, StoreDamaged
from ttrl.store.database import OUTAGE, cause
from ttrl.store.runs import Run, RunState, Trigger

log = logging.getLogger(__name__)

STOP_SECONDS = 20.0
PAUSE_SECONDS = 5.0


@dataclass(eq=False)
class RunKeeper:
    """Starts runs, watches them end, and stops them. Each of `ended` hears of a run that has
    ended."""

    config: Config
    store: Store
    engine_url: str
    metrics: Metrics
    damage: str | None = None
    ended: list[Callable[[Run], None]] = field(default_factory=list)
    _child: asyncio.subprocess.Process | None = None
    _watch: asyncio.Task[None] | None = None
    _stopping: bool = False
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def end_orphaned(self) -> None:
        """End the runs of an owner that died, since theirs died with it, and of a process that
        could not be started."""
        while active := self.store.runs.active():
            end(self.config, self.store, active.id, RunState.ABORTED, "its owner process died")
        sweep(self.config, self.store)

    async def start(self, trigger: Trigger, request: Mapping[str, Any]) -> Run:
        """Start a run in a process of its own; `request` may hold `hashes` of the questions to
        learn from or a directory to `import` an adapter from, and `overrides` of settings. Raises
        RunBusy, ConfigError, StoreDamaged."""
        if self.damage is not None:
            raise StoreDamaged(self.damage)
        config = override(self.config, request.get("overrides", {}))
        async with self._starting:  # else a second would take the first, not yet watched, for dead
            if not self.busy:
                await asyncio.to_thread(self.end_orphaned)
            run = await asyncio.to_thread(self.store.runs.create, trigger, request)
            arguments = ["--run", str(run.id), "--engine-url", self.engine_url]
            try:
                child = await spawn("jobs.run", arguments, config, self.log_file(run.id))
            except OSError as error:
                reason = f"could not start its process: {error.strerror}"
                ending = self._end(run.id, RunState.FAILED, reason)
            else:
                self._child, self._stopping = child, False
                ending = self._wait(run.id, child)
                log.info("run %d started, process %d", run.id, child.pid, extra={"run": run.id})
            self._watch = asyncio.create_task(ending)
            return run

    @property
    def busy(self) -> bool:
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
        if self._watch is not None:
            await self._watch

    def log_file(self, run_id: int) -> Path:
        return self.config.state_dir / "logs" / f"run-{run_id}.log"

    async def _wait(self, run_id: int, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()
        log.info("run %d: its process exited with status %d", run_id, code, extra={"run": run_id})
        if self._stopping:  # even if it did not hear of it, or not as it should
            await self._end(run_id, RunState.ABORTED, STOPPED_BECAUSE[signal.SIGINT])
            return
        reason = f"its process exited with status {code}; see {self.log_file(run_id)}"
        if code == -signal.SIGKILL:
            reason = "its process was killed, perhaps because memory ran out"
        elif code < 0:
            reason = f"its process was terminated by {signal.Signals(-code).name}"
        await self._end(run_id, RunState.FAILED, reason)

    async def _end(self, run_id: int, state: RunState, reason: str) -> None:
        while True:
            try:
                await asyncio.to_thread(end, self.config, self.store, run_id, state, reason)
                run = await asyncio.to_thread(self.store.runs.get, run_id)
                break
            except OUTAGE as error:
                log.warning("cannot record the end of run %d: %s", run_id, cause(error))
            await asyncio.sleep(PAUSE_SECONDS)
        self.metrics.scheduling.runs.labels(run.state).inc()
        log.info("run %d ended: %s (%s)", run_id, run.state, run.reason, extra={"run": run_id})
        for hear in self.ended:
            hear(run)
