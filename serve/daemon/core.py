"""What the daemon and a run by hand have in common: engine, live version, runs, one owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from serve.daemon.engine import EngineKeeper, with_key
from serve.daemon.reconciler import Reconciler
from serve.daemon.runs import RunKeeper
from serve.gateway.live import Live
from serve.state import owning
from ttrl import versions
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.metrics import Metrics
from ttrl.store import Store, StoreDamaged
from ttrl.store.database import OUTAGE, cause

log = logging.getLogger(__name__)

CHECKED_AT_START = 64 * 2**20
"""Bytes that are read in some tenths of a second. All of a larger store is read once users are
served."""


class Core:
    """The parts that belong to one state directory. `damage` is why the store cannot be trusted;
    then another, empty one stands in for it."""

    def __init__(self, config: Config, store: Store, damage: str | None = None) -> None:
        self.config, self.store, self.damage = config, store, damage
        self.metrics = metrics = Metrics()
        metrics.host.store_up.set(damage is None)
        if damage is not None:  # another version may be wanted: nobody can say
            metrics.versions.live_is_wanted.set_function(lambda: 0.0)
        self.live = Live(config.served_name, config.served_name)
        self.engine = EngineKeeper(config, metrics, self.live, on_up=self._engine_up)
        self.reconciler = Reconciler(config, store, self.engine.client, self.live, metrics)
        self.runs = RunKeeper(config, store, self.engine.url, metrics, damage)
        self.runs.ended.append(lambda _: self.reconciler.wake())

    async def check(self) -> None:
        """Read all of the store. One that is found damaged now keeps its live version, which was
        read at the start."""
        try:
            await asyncio.to_thread(self.store.check)
        except StoreDamaged as damage:
            if self.damage is None:
                log.error("%s; training is off", damage)
            self.damage = self.runs.damage = str(damage)

    async def _engine_up(self) -> None:
        self.reconciler.wake()
        await self.reconciler.settle()

    def end_now(self) -> None:
        """Kill the run under way and the engine, so that nothing is left to be waited for."""
        self.runs.kill()
        self.engine.kill()


@asynccontextmanager
async def core(config: Config) -> AsyncIterator[Core]:
    """Own the state directory and the store, and hold the parts. On leaving, the run under way is
    stopped, then the engine. Raises StateDirError, StoreError."""
    config = with_key(config)
    with owning(config.state_dir), ExitStack() as stack:
        versions.sweep(config.state_dir / "adapters")
        try:
            parts = Core(config, await _open(config.state_dir, config.store.url, stack))
        except StoreDamaged as damage:
            log.error("%s; serving the base model, without recording and training", damage)
            aside = Path(stack.enter_context(TemporaryDirectory(prefix="ttrl-")))
            serving_only = {
                "record.enabled": False,
                "feedback.enabled": False,
                "schedule.every": None,
                "schedule.cron": None,
                "measure.every": None,
                "shadow.share": 0.0,
                "store.url": None,
            }
            config = override(config, serving_only)
            parts = Core(config, await _open(aside, None, stack), str(damage))
        try:
            parts.runs.end_orphaned()
        except OUTAGE as error:  # the next run tries it again
            log.warning("cannot record how the last run ended: %s", cause(error))
        try:
            yield parts
        finally:
            try:
                await parts.runs.stop()
            finally:
                await parts.engine.stop()


async def _open(folder: Path, url: str | None, stack: ExitStack) -> Store:
    """The event loop goes on: a large store takes its time to be brought up to date."""
    store = stack.enter_context(await asyncio.to_thread(Store.open, folder, url))
    await asyncio.to_thread(store.check, CHECKED_AT_START)
    stack.enter_context(store.owning())
    return store
