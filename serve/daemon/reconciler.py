"""What is done in the engine so that it serves what the store says: a pure plan, carried out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from serve.daemon.process import Loop
from serve.gateway.live import BASE, Live
from ttrl import versions
from ttrl.config import Config
from ttrl.engine.client import (
    EngineClient,
    EngineError,
    EngineRefused,
    ModelCard,
)
from ttrl.engine.proof import prove
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.database import OUTAGE, NotFound, cause
from ttrl.versions import AdapterDamaged, AdapterForeign, identify

log = logging.getLogger(__name__)

OURS = "ttrl-"
CANDIDATE = "ttrl-cand-"
TRIES = 3
LOOK_SECONDS = 10.0
"""How often the engine is asked what it has loaded; what changes in the store wakes us at once."""
T = TypeVar("T")
ROUNDS = 8
"""Looks in a row; more are needed only when loads fail, and those are tried again later."""


@dataclass(frozen=True)
class Action:
    """`load` a version into the engine; `prove` that the engine answers with its weights under its
    name; `flip`: let it, or the base model (None), answer from the next request on; `unload` one
    that nobody needs."""

    verb: Literal["load", "prove", "flip", "unload"]
    version: str | None


@dataclass(frozen=True)
class Situation:
    """What the store says, what the engine lists, and what the gateway does."""

    wanted: str | None
    previous: str | None
    live: str | None
    """The version that new requests go to now; None is the base model."""
    loaded: AbstractSet[str] = frozenset()
    proven: AbstractSet[str] = frozenset()
    """Versions that the engine was seen to serve, not too long ago."""
    broken: AbstractSet[str] = frozenset()
    """Versions that could not be loaded or proven; not tried again by themselves."""
    leases: AbstractSet[str] = frozenset()
    """What the run under way needs: its candidates' prefix, and what it started from."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    foreign: AbstractSet[str] = frozenset()
    """Versions that came from elsewhere than our state directory: another daemon's."""


def plan(now: Situation) -> list[Action]:
    """The next actions, in order; what follows from their success is planned when it is known.
    Users never wait for a load: until the wanted version is there and proven, what is live goes on
    answering, or the previous version, or the base model."""

    def ready(version: str | None) -> bool:
        return version is None or version in (now.loaded & now.proven) - now.broken

    actions: list[Action] = []
    live = now.live
    if live is not None and live not in now.loaded - now.broken:
        # The engine has forgotten it, or answers with other weights.
        live = next(filter(ready, (now.wanted, now.previous, None)))
        actions.append(Action("flip", live))
    # What should answer when all that can be loaded is loaded.
    target = next((v for v in (now.wanted, now.previous) if v not in now.broken), None)
    # The target first; then the previous version, kept loaded for an instant roll-back.
    needed = [v for v in dict.fromkeys((target, now.previous)) if v and v not in now.broken]
    actions += [Action("load", version) for version in needed if version not in now.loaded]
    actions += [
        Action("prove", version) for version in needed if version in now.loaded - now.proven
    ]
    if live != target and ready(target):
        actions.append(Action("flip", target))
    # Ours, neither live nor soon to be, nobody's candidate, and its last request has ended.
    kept = {target, now.wanted, now.previous, now.live}
    actions += [
        Action("unload", version)
        for version in sorted(now.loaded - kept - now.foreign)
        if version.startswith(OURS)
        and not version.startswith(tuple(now.leases))
        and not now.in_flight.get(version)
    ]
    return actions


@dataclass(eq=False)
class Reconciler:
    """The only one that loads, flips and unloads published versions."""

    config: Config
    store: Store
    client: EngineClient
    gateway: Live
    metrics: Metrics
    _failures: Counter[str] = field(default_factory=Counter)
    _why: dict[str | None, str] = field(default_factory=dict)
    _proven: dict[str, float] = field(default_factory=dict)
    _told: tuple[str | None, str | None] | None = None
    """The live and the wanted version, as the store was last told."""
    _failing: bool = False
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.loop = Loop(self.settle, seconds=LOOK_SECONDS)
        self._root = self.config.state_dir / "adapters"
        self._metrics = self.metrics.versions

    @property
    def live(self) -> str | None:
        """The version that new requests go to; None is the base model."""
        version = self.gateway.current.version
        return None if version == BASE else version

    def wake(self) -> None:
        """Look now; what could not be loaded before is tried again."""
        self._failures.clear()
        self.loop.wake()

    async def settle(self) -> None:
        async with self._one_at_a_time:
            try:
                for _ in range(ROUNDS):
                    actions = plan(await asyncio.to_thread(self._look))
                    if not actions:
                        break
                    for action in actions:
                        await self._act(action)
                await asyncio.to_thread(self._say)
                self._failing = False
            except (EngineError, *OUTAGE) as error:  # what is live stays so
                why = str(error)
                if not isinstance(error, EngineError):
                    why = f"the store cannot be used: {cause(error)}"
                if not self._failing:
                    log.warning(
                        "cannot load what the store wants into the engine (will retry; the live "
                        "version stays): %s", why,
                    )  # fmt: skip
                self._failing = True
                self._metrics.live_is_wanted.set(0)

    async def aside(self, work: Callable[[AbstractSet[str]], T]) -> T:
        """Do something short, in a thread, while no version is loaded or unloaded; it is told which
        ones are loaded, after those that nobody needs are not. Raises EngineError."""
        await self.settle()
        async with self._one_at_a_time:
            return await asyncio.to_thread(lambda: work({card.name for card in self._cards()}))

    def _look(self) -> Situation:
        active, cards = self.store.runs.active(), self._cards()
        ours = self.config.state_dir.resolve()
        loaded = {card.name for card in cards}
        leases = {f"{CANDIDATE}{active.id}-", *filter(None, [active.parent])} if active else set()
        since = time.monotonic() - self.config.engine.proof_interval.total_seconds()
        return Situation(
            wanted=self.store.adapters.wanted().adapter,
            previous=self.store.adapters.previous(),
            live=self.live,
            loaded=loaded,
            proven={version for version, at in self._proven.items() if at > since},
            broken={name for name, count in dict(self._failures).items() if count >= TRIES},
            leases=leases,
            in_flight={name: self.gateway.in_flight(name) for name in loaded},
            foreign={
                card.name
                for card in cards
                if card.root and not Path(card.root).resolve().is_relative_to(ours)
            },
        )

    def _cards(self) -> list[ModelCard]:
        return [card for card in self.client.models() if card.parent is not None]

    async def _act(self, action: Action) -> None:
        if action.version is not None and action.verb != "flip":
            works = {"load": self._load, "prove": self._prove, "unload": self._unload}
            await asyncio.to_thread(works[action.verb], action.version)
            return
        self.gateway.flip(action.version)
        await self.gateway.spread()
        self._metrics.flips.inc()
        self._metrics.live.replace({action.version or BASE: 1})
        name = action.version or "the base model"
        log.info("%s is live", name, extra={"adapter": action.version})

    def _load(self, version: str) -> None:
        try:
            known = self.store.adapters.get(version)
            directory = versions.place(self._root, version)
            manifest = versions.verify(directory, known.digest)
            if not manifest.base.same_weights(identify(self.config.model.name)):
                base = manifest.base_model
                raise AdapterForeign(f"{version} was made for another base model, {base}")
            log.info("loading %s", version, extra={"adapter": version})
            with self._metrics.load_seconds.time():
                self.client.load_adapter(version, directory)
        except (AdapterDamaged, AdapterForeign, EngineRefused, NotFound, OSError) as error:
            self._not_loaded(version, error)
            return
        self._proven.pop(version, None)
        self._metrics.loads.labels("loaded").inc()
        log.info("loaded %s", version, extra={"adapter": version})

    def _not_loaded(self, version: str, error: Exception) -> None:
        outcome = {AdapterDamaged: "damaged", AdapterForeign: "foreign"}.get(type(error), "refused")
        self._metrics.loads.labels(outcome).inc()
        log.error("cannot load %s: %s", version, error, extra={"adapter": version})
        self._failures[version] += 1 if outcome == "refused" else TRIES
        self._why[version] = str(error)

    def _prove(self, version: str) -> None:
        pinned = self.store.adapters.pinned(version)
        try:
            with self._metrics.proof_seconds.time():
                served = [self.client.read_back(each.pin, model=version) for each in pinned]
        except EngineRefused as error:
            self._not_loaded(version, error)
            return
        evidence = prove(pinned, served)
        self._metrics.proofs.labels(evidence.proof).inc()
        if evidence.proof.may_serve:
            self._proven[version] = time.monotonic()
            self._failures.pop(version, None)
            extra = {"adapter": version}
            log.info("%s is verified as served: %s", version, evidence.words(), extra=extra)
            return
        self._failures[version] += 1
        self._why[version] = f"the engine serves other weights: {evidence.words()}"
        log.error("the engine does not serve the weights of %s: %s", version, evidence.words())

    def _unload(self, version: str) -> None:
        try:
            self.client.unload_adapter(version)
        except EngineRefused as error:
            log.warning("cannot unload %s: %s", version, error)
        else:
            log.info("unloaded %s", version, extra={"adapter": version})

    def _say(self) -> None:
        """Tell the store and the metrics which version is live, when that has changed."""
        wanted = self.store.adapters.wanted().adapter
        if self._told != (self.live, wanted):
            reason = "as wanted"
            if self.live != wanted:
                why = f": {self._why[wanted]}" if wanted in self._why else ""
                reason = f"{wanted or 'the base model'} could not be served{why}"
            self.store.adapters.served(self.live, reason)
            self._told = (self.live, wanted)
        self._metrics.live_is_wanted.set(self.live == wanted)
