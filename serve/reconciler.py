"""Keeps the engine at what the store says: looks, plans, acts, and looks again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TypeVar

from serve.live import BASE, Live
from ttrl import adapters
from ttrl.adapters import AdapterDamaged, AdapterForeign
from ttrl.base import identify
from ttrl.config import Config
from ttrl.engine.client import EngineClient, EngineError, EngineRefused, EngineUnreachable
from ttrl.engine.reconcile import CANDIDATE, Action, Flip, Load, Prove, Situation, Unload, plan
from ttrl.faults import Point, reached
from ttrl.metrics import Metrics
from ttrl.proof import prove
from ttrl.store import Store
from ttrl.store.outage import OUTAGE, cause

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
TRIES = 3
T = TypeVar("T")

ROUNDS = 8
"""Looks in a row; more are needed only when loads fail, and those are tried again later."""


class Reconciler:
    """The only one that loads, flips and unloads published versions."""

    def __init__(
        self, config: Config, store: Store, client: EngineClient, live: Live, metrics: Metrics
    ) -> None:
        self._model = config.model.name
        self._root = config.state_dir / "adapters"
        self._store = store
        self._client = client
        self._live = live
        self._metrics = metrics
        self._proof_interval = config.engine.proof_interval.total_seconds()
        self._failures: dict[str, int] = {}
        self._why: dict[str, str] = {}
        self._proven: dict[str, float] = {}
        self._said: tuple[str | None, str | None] | None = None
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._failing = False

    @property
    def live(self) -> str | None:
        """The version that new requests go to; None is the base model."""
        version = self._live.current.version
        return None if version == BASE else version

    def wake(self) -> None:
        """Look now; what could not be loaded before is tried again."""
        self._failures.clear()
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.settle()
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):  # wait_for may lose our own end
                    await self._wake.wait()
            self._wake.clear()

    async def settle(self) -> bool:
        """Act until there is nothing left to do; whether users get what they should."""
        async with self._one_at_a_time:
            try:
                await self._carry_out()
                as_wanted = await asyncio.to_thread(self._say)
            except EngineError as error:
                return self._cannot(str(error))
            except OUTAGE as error:
                return self._cannot(f"the store cannot be used, {cause(error)}")
            self._failing = False
            return as_wanted

    def _cannot(self, why: str) -> bool:
        """What is live stays so."""
        if not self._failing:
            log.warning("the engine cannot be reconciled now: %s", why)
        self._failing = True
        self._metrics.versions.live_is_wanted.set(0)
        return False

    async def aside(self, work: Callable[[AbstractSet[str]], T]) -> T:
        """Do something short, in a thread, while no version is loaded or unloaded; it is told which
        ones are loaded, after those that nobody needs are not. Raises EngineError."""
        await self.settle()
        async with self._one_at_a_time:
            return await asyncio.to_thread(lambda: work(self._loaded()))

    async def _carry_out(self) -> None:
        for _ in range(ROUNDS):
            actions = plan(await asyncio.to_thread(self._look))
            if not actions:
                break
            for action in actions:
                await self._act(action)

    def _look(self) -> Situation:
        active = self._store.runs.active()
        loaded = self._loaded()
        return Situation(
            wanted=self._store.adapters.wanted().adapter,
            previous=self._store.adapters.previous(),
            live=self.live,
            loaded=loaded,
            proven=self._recently_proven(),
            broken={name for name, count in dict(self._failures).items() if count >= TRIES},
            leases={f"{CANDIDATE}{active.id}-"} if active else set(),
            in_flight={name: self._live.in_flight(name) for name in loaded},
        )

    def _loaded(self) -> set[str]:
        return {card.name for card in self._client.models() if card.parent is not None}

    async def _act(self, action: Action) -> None:
        match action:
            case Load(version):
                await asyncio.to_thread(self._load, version)
            case Prove(version):
                await asyncio.to_thread(self._prove, version)
            case Unload(version):
                await asyncio.to_thread(self._unload, version)
            case Flip(version):
                self._live.flip(version)
                self._metrics.versions.flips.inc()
                self._metrics.versions.live.info({"version": version or BASE})
                log.info("%s is live", version or "the base model", extra={"adapter": version})
                reached(Point.FLIPPED)

    def _load(self, version: str) -> None:
        try:
            known = self._store.adapters.get(version)
            manifest = adapters.verify_as(self._root / version, known.digest)
            if not manifest.base.same_weights(identify(self._model)):
                raise AdapterForeign(
                    f"{version} was made for another base model, {manifest.base_model}"
                )
            log.info("loading %s", version, extra={"adapter": version})
            reached(Point.LOADING)
            with self._metrics.versions.load_seconds.time():
                self._client.load_adapter(version, self._root / version)
        except (AdapterDamaged, AdapterForeign, EngineRefused, KeyError) as error:
            self._failed(version, error)
            return
        self._proven.pop(version, None)
        self._metrics.versions.loads.labels("loaded").inc()
        log.info("loaded %s", version, extra={"adapter": version})
        reached(Point.LOADED)

    def _failed(self, version: str, error: Exception) -> None:
        outcome = {AdapterDamaged: "damaged", AdapterForeign: "foreign"}.get(type(error), "refused")
        final = outcome != "refused"
        self._failures[version] = TRIES if final else self._failures.get(version, 0) + 1
        self._why[version] = str(error)
        self._metrics.versions.loads.labels(outcome).inc()
        log.error("cannot load %s: %s", version, error, extra={"adapter": version})

    def _prove(self, version: str) -> None:
        pinned = self._store.adapters.pinned(version)
        try:
            with self._metrics.versions.proof_seconds.time():
                served = [self._client.read_back(each.pin, model=version) for each in pinned]
        except EngineRefused as error:
            self._failed(version, error)
            return
        evidence = prove(pinned, served)
        self._metrics.versions.proofs.labels(evidence.proof).inc()
        if evidence.proof.may_serve:
            self._proven[version] = time.monotonic()
            self._failures.pop(version, None)
            log.info("%s is served: %s", version, evidence.words(), extra={"adapter": version})
            reached(Point.PROVEN)
        else:
            self._failures[version] = self._failures.get(version, 0) + 1
            self._why[version] = f"the engine answers with other weights: {evidence.words()}"
            log.error("%s is not what the engine serves: %s", version, evidence.words())

    def _recently_proven(self) -> set[str]:
        since = time.monotonic() - self._proof_interval
        return {version for version, at in self._proven.items() if at > since}

    def _unload(self, version: str) -> None:
        try:
            self._client.unload_adapter(version)
        except EngineUnreachable:
            raise
        except EngineError as error:
            log.warning("cannot unload %s: %s", version, error)
            return
        log.info("unloaded %s", version, extra={"adapter": version})
        reached(Point.UNLOADED)

    def _say(self) -> bool:
        """Tell the store and the metrics which version is live, when that has changed."""
        wanted = self._store.adapters.wanted().adapter
        if self._said != (self.live, wanted):
            ok = self.live == wanted
            reason = "as wanted" if ok else self._apology(wanted)
            self._store.adapters.served(self.live, reason)
            self._said = (self.live, wanted)
            reached(Point.SERVED)
        self._metrics.versions.live_is_wanted.set(self.live == wanted)
        return self.live == wanted

    def _apology(self, wanted: str | None) -> str:
        said = f"{wanted or 'the base model'} could not be served"
        why = self._why.get(wanted or "")
        return f"{said}: {why}" if why else said
