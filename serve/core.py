"""What the daemon and a run by hand have in common: engine, live version, runs, one owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from serve.engine import EngineKeeper
from serve.live import Live
from serve.reconciler import Reconciler
from serve.runs import RunKeeper
from serve.state import owning
from ttrl import adapters
from ttrl.config import Config
from ttrl.metrics import Metrics
from ttrl.store import Store

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0


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

    async def start(self, progress: Callable[[float], None]) -> None:
        """Bring the engine up and let the wanted version serve. Raises EngineError."""
        await self.engine.start(progress)


@asynccontextmanager
async def core(config: Config) -> AsyncIterator[Core]:
    """Own the state directory and the store, and hold the parts. On leaving, the run under way is
    stopped, then the engine. Raises StateDirError, StoreError."""
    with (
        owning(config.state_dir),
        Store.open(config.state_dir, config.store.url) as store,
        store.owning(),
    ):
        adapters.sweep(config.state_dir / "adapters")
        parts = _assemble(config, store)
        parts.runs.bury_the_dead()
        try:
            yield parts
        finally:
            await parts.runs.stop()
            await parts.engine.stop()


def _assemble(config: Config, store: Store) -> Core:
    metrics = Metrics()
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
    runs = RunKeeper(config, store, engine.url, metrics, ended=reconciler.wake)
    return Core(config, store, metrics, live, engine, reconciler, runs)


async def keep_going(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Until cancelled. If learning is broken, serving is not: what fails is begun again."""
    while True:
        try:
            await work()
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
