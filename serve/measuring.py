"""The look between runs: measures the live version when no run has done so for long, and whether
the questions move."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from serve.child import spawn
from serve.core import Core
from ttrl.store.measurements import Kind

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0


class Measuring:
    """Starts `jobs.measure`; what comes of it is in the store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tried: dict[Kind, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
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
            log.warning("the live version could not be measured; see %s", log_file)
