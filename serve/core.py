"""What the daemon and a run by hand have in common: engine, live version, runs, one owner."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from serve.engine import EngineKeeper, with_key
from serve.live import Live
from serve.reconciler import Reconciler
from serve.runs import RunKeeper
from serve.state import owning
from ttrl import adapters
from ttrl.config import Config, Section
from ttrl.metrics import Metrics
from ttrl.store import Store, StoreDamaged
from ttrl.store.outage import OUTAGE, cause

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
ANEW_SECONDS = 60.0
"""What failed so long ago has worked meanwhile: it is worth a word if it fails again."""


@dataclass(frozen=True)
class Core:
    """The parts that belong to one state directory."""

    config: Config
    store: Store
    metrics: Metrics
    live: Live
    engine: EngineKeeper
    reconciler: Reconciler
    runs: RunKeeper
    damage: str | None
    """Why the store cannot be trusted; then another, empty one stands in for it."""

    async def start(self, progress: Callable[[float], None]) -> None:
        """Bring the engine up and let the wanted version serve. Raises EngineError."""
        await self.engine.start(progress)

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
        adapters.sweep(config.state_dir / "adapters")
        try:
            parts = _assemble(config, await _open(config.state_dir, config.store.url, stack))
        except StoreDamaged as damage:
            log.error("%s. Users get the base model, and nothing is recorded or learned", damage)
            aside = Path(stack.enter_context(TemporaryDirectory(prefix="ttrl-")))
            parts = _assemble(_idle(config), await _open(aside, None, stack), str(damage))
        try:
            parts.runs.bury_the_dead()
        except OUTAGE as error:  # the next run tries it again
            log.warning("what became of the last run cannot be written: %s", cause(error))
        try:
            yield parts
        finally:
            try:
                await parts.runs.stop()
            finally:
                await parts.engine.stop()


async def _open(folder: Path, url: str | None, stack: ExitStack) -> Store:
    """The event loop goes on: a large store takes its time to be brought up to date and read."""
    store = stack.enter_context(await asyncio.to_thread(Store.open, folder, url))
    await asyncio.to_thread(store.check)
    stack.enter_context(store.owning())
    return store


def _idle(config: Config) -> Config:
    """The same, for serving only."""
    sections: dict[str, Section] = {
        "record": config.record.model_copy(update={"enabled": False}),
        "schedule": config.schedule.model_copy(update={"every": None, "cron": None}),
        "measure": config.measure.model_copy(update={"every": None}),
        "shadow": config.shadow.model_copy(update={"share": 0.0}),
        "store": config.store.model_copy(update={"url": None}),
    }
    return config.model_copy(update=sections)


def _assemble(config: Config, store: Store, damage: str | None = None) -> Core:
    metrics = Metrics()
    metrics.host.store_up.set(damage is None)
    if damage is not None:  # another version may be wanted: nobody can say
        metrics.versions.live_is_wanted.set_function(lambda: 0.0)
    live = Live([config.served_name], config.served_name)
    live.open = False

    async def on_up() -> None:
        card = await asyncio.to_thread(engine.client.base_model)
        live.found(card.name, card.max_model_len)
        reconciler.wake()
        await reconciler.settle()
        live.open = True

    def on_down() -> None:
        live.open = False

    engine = EngineKeeper(config, metrics, on_down=on_down, on_up=on_up)
    reconciler = Reconciler(config, store, engine.client, live, metrics)
    runs = RunKeeper(config, store, engine.url, metrics, damage)
    runs.ended.append(lambda _: reconciler.wake())
    return Core(config, store, metrics, live, engine, reconciler, runs, damage)


async def keep_going(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Until cancelled. If learning is broken, serving is not: what fails is begun again."""
    said, failed_at = "", 0.0
    while True:
        try:
            await work()
        except OUTAGE as error:
            now = time.monotonic()
            if said != cause(error) or now - failed_at > ANEW_SECONDS:
                log.warning("%s is held up: %s", name, cause(error))
            said, failed_at = cause(error), now
        except Exception:  # whatever it is, users are still to be served
            log.exception("%s failed and is begun again", name)
        await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def background(**work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Named work that goes on as long as the block does."""
    tasks = [asyncio.create_task(keep_going(name, each)) for name, each in work.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
