"""What the daemon does between runs: measure the live version, and prune what is old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from jobs import prune
from serve.daemon.core import Core
from serve.daemon.process import spawn
from ttrl.engine.client import EngineError
from ttrl.store.measurements import Kind

log = logging.getLogger(__name__)

MEASURE_SECONDS = 60.0
PRUNE_SECONDS = 600.0


class Measuring:
    """Starts `jobs.measure` when no run has measured the live version for long, or nobody has
    looked whether the questions move; the result is in the store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tried: dict[Kind, float] = {}

    async def look(self) -> None:
        """Measure what is due."""
        if what := await asyncio.to_thread(self._due):
            self._tried |= dict.fromkeys(what, time.time())
            await self._measure(what)

    def _due(self) -> list[Kind]:
        """What it is time for: nothing while a run is under way, which asks its probes itself."""
        config, store = self._core.config, self._core.store
        every = config.measure.every
        if every is None or not self._core.engine.up or store.runs.active() is not None:
            return []
        versions = {Kind.QUALITY: store.adapters.serving().adapter, Kind.QUESTIONS: None}
        if len(store.holdout.probes(config.gate.min_probes)) < config.gate.min_probes:
            del versions[Kind.QUALITY]
        old = time.time() - every.total_seconds()
        newest = {kind: store.measurements.newest(kind, v) for kind, v in versions.items()}
        last = {kind: found.at if found else 0.0 for kind, found in newest.items()}
        return [kind for kind, at in last.items() if max(at, self._tried.get(kind, 0.0)) <= old]

    async def _measure(self, what: Sequence[Kind]) -> None:
        core = self._core
        log_file = core.config.state_dir / "logs" / "measure.log"
        arguments = ["--engine-url", core.engine.url, *what]
        child = await spawn("jobs.measure", arguments, core.config, log_file)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        if code:
            log.warning("could not measure the live version; see %s", log_file)


class Pruning:
    """Removes what is old; users wait for none of it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def look(self) -> None:
        """Prune rows and files."""
        found = await asyncio.to_thread(prune.run, self._core.config, self._core.store)
        self._count(asdict(found) | {"retired": len(found.retired)})
        await self.remove_files()

    async def remove_files(self) -> list[str]:
        """Delete the files of versions that are gone, and name these; none while the engine cannot
        say which ones it has loaded."""
        remove = partial(prune.remove_files, self._core.config, self._core.store)
        try:
            names = await self._core.reconciler.aside(remove)
        except EngineError:
            return []
        self._count({"files": len(names)})
        return names

    def _count(self, pruned: Mapping[str, int]) -> None:
        pruned = {what: count for what, count in pruned.items() if count}
        for what, count in pruned.items():
            self._core.metrics.versions.pruned.labels(what).inc(count)
        if pruned:
            log.info("pruned: %s", ", ".join(f"{count} {what}" for what, count in pruned.items()))
