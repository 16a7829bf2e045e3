"""Letting go of what is old, now and then and when an operator has purged something."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from jobs import prune
from serve.core import Core
from ttrl.engine.client import EngineError

log = logging.getLogger(__name__)

EVERY_SECONDS = 600.0


class Pruning:
    """Looks every ten minutes; users wait for none of it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.now()

    async def now(self) -> None:
        """Look at once."""
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

    def _count(self, went: Mapping[str, int]) -> None:
        for what, count in ((what, count) for what, count in went.items() if count):
            self._core.metrics.versions.pruned.labels(what).inc(count)
        if any(went.values()):
            log.info("pruned: %s", ", ".join(f"{n} {what}" for what, n in went.items() if n))
