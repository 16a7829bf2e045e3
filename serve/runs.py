"""Runs as child processes: whatever becomes of one, the daemon serves on and the store knows."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ttrl.config import Config
from ttrl.engine import tether
from ttrl.metrics import Metrics
from ttrl.settings import override
from ttrl.store import Store
from ttrl.store.runs import Run, RunState, Trigger

log = logging.getLogger(__name__)

STOP_SECONDS = 20.0


class RunKeeper:
    """Starts runs, watches them end, and stops them."""

    def __init__(
        self,
        config: Config,
        store: Store,
        engine_url: str,
        metrics: Metrics,
        *,
        ended: Callable[[], None],
    ) -> None:
        self._config = config
        self._store = store
        self._engine_url = engine_url
        self._metrics = metrics
        self._ended = ended
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    def bury_the_dead(self) -> None:
        """End the runs of an owner that died; theirs died with it."""
        while active := self._store.runs.active():
            self._store.runs.end(active.id, RunState.ABORTED, "the process that owned it died")

    async def start(self, trigger: Trigger, request: Mapping[str, Any]) -> Run:
        """Start a run in a process of its own; `request` may hold `hashes` of the questions to
        learn from and `overrides` of settings. Raises RunBusy, ConfigError."""
        config = override(self._config, request.get("overrides", {}))
        run = await asyncio.to_thread(self._store.runs.create, trigger, request)
        try:
            self._child = await self._spawn(run, config)
        except OSError as error:
            reason = f"its process could not be started: {error.strerror}"
            self._store.runs.end(run.id, RunState.FAILED, reason)
            return self._store.runs.get(run.id)
        self._watch = asyncio.create_task(self._wait(run.id, self._child))
        log.info("run %d started, process %d", run.id, self._child.pid)
        return run

    async def stop(self) -> bool:
        """Stop the run under way; whether there was one."""
        if self._child is None or self._watch is None or self._watch.done():
            return False
        self._child.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), STOP_SECONDS)
        except TimeoutError:
            self._child.kill()
            await self._watch
        return True

    async def wait(self) -> None:
        """Until the run under way has ended."""
        if self._watch is not None:
            await self._watch

    async def _spawn(self, run: Run, config: Config) -> asyncio.subprocess.Process:
        command = [*tether.command(), sys.executable, "-m", "jobs.adapt", "--run", str(run.id)]
        command += ["--engine-url", self._engine_url]
        log_file = self.log_file(run.id)
        log_file.parent.mkdir(exist_ok=True, mode=0o700)
        with log_file.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Threads that spin while they wait take the cores from the engine beside us.
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
                start_new_session=True,
            )
        assert child.stdin is not None
        child.stdin.write(config.model_dump_json().encode())
        child.stdin.close()
        return child

    def log_file(self, run_id: int) -> Path:
        """Where a run's process writes what happens to it."""
        return self._config.state_dir / "logs" / f"run-{run_id}.log"

    async def _wait(self, run_id: int, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()
        reason = _cause_of_death(code, self.log_file(run_id))
        await asyncio.to_thread(self._store.runs.end, run_id, RunState.FAILED, reason)
        run = await asyncio.to_thread(self._store.runs.get, run_id)
        self._metrics.runs.labels(run.state).inc()
        log.info("run %d ended: %s (%s)", run_id, run.state, run.reason)
        self._ended()


def _cause_of_death(code: int, log_file: Path) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with status {code}; see {log_file}"
