"""What to do in the engine so that it serves what the store says: a pure function."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeVar

from serve.daemon.process import Loop
from serve.gateway.live import BASE, Live
from ttrl.adapters import versions
from ttrl.adapters.base import identify
from ttrl.adapters.versions import AdapterDamaged, AdapterForeign
from ttrl.config import Config
from ttrl.engine.client import EngineClient, EngineError, EngineRefused, EngineUnreachable
from ttrl.engine.proof import prove
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.database import OUTAGE, cause

OURS = "ttrl-"
CANDIDATE = "ttrl-cand-"
INTERVAL_SECONDS = 2.0
TRIES = 3
T = TypeVar("T")
ROUNDS = 8
"""Looks in a row; more are needed only when loads fail, and those are tried again later."""


@dataclass(frozen=True)
class Load:
    """Load a version into the engine."""

    version: str


@dataclass(frozen=True)
class Prove:
    """Check that the engine answers with this version's weights under its name."""

    version: str


@dataclass(frozen=True)
class Flip:
    """Let a version, None for the base model, answer from the next request on."""

    version: str | None


@dataclass(frozen=True)
class Unload:
    """Take a version that nobody needs out of the engine."""

    version: str


Action = Load | Prove | Flip | Unload


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
    """Name prefixes of the candidates of runs that live."""
    in_flight: Mapping[str, int] = field(default_factory=dict)


def plan(now: Situation) -> list[Action]:
    """The next actions, in order; what follows from their success is planned when it is known.
    Users never wait for a load: until the wanted version is there and proven, what is live goes on
    answering, or the previous version, or the base model."""
    actions: list[Action] = []
    live = now.live
    if live is not None and (live not in now.loaded or live in now.broken):
        live = _best_ready(now)  # the engine has forgotten it, or answers with other weights
        actions.append(Flip(live))
    target = _target(now)
    actions += [Load(version) for version in _missing(now, target)]
    actions += [Prove(version) for version in _unproven(now, target)]
    if live != target and _ready(now, target):
        actions.append(Flip(target))
    actions += [
        Unload(version) for version in sorted(now.loaded) if _unneeded(now, version, target)
    ]
    return actions


def _target(now: Situation) -> str | None:
    """What should answer when all that can be loaded is loaded."""
    choices = (now.wanted, now.previous)
    usable = (version for version in choices if version is None or version not in now.broken)
    return next(usable, None)


def _ready(now: Situation, version: str | None) -> bool:
    """Whether it may answer at once."""
    return version is None or (
        version in now.loaded and version in now.proven and version not in now.broken
    )


def _best_ready(now: Situation) -> str | None:
    return next(version for version in (now.wanted, now.previous, None) if _ready(now, version))


def _missing(now: Situation, target: str | None) -> list[str]:
    """The target first; then the previous version, kept loaded for an instant roll-back."""
    needed = dict.fromkeys((target, now.previous))
    return [
        version
        for version in needed
        if version is not None and version not in now.loaded and version not in now.broken
    ]


def _unproven(now: Situation, target: str | None) -> list[str]:
    """In the same order."""
    return [
        version
        for version in dict.fromkeys((target, now.previous))
        if version is not None and version in now.loaded and version not in now.proven | now.broken
    ]


def _unneeded(now: Situation, version: str, target: str | None) -> bool:
    """Ours, neither live nor soon to be, nobody's candidate, and its last request has ended."""
    needed = {target, now.wanted, now.previous, now.live}
    leased = any(version.startswith(prefix) for prefix in now.leases)
    ours = version.startswith(OURS)
    return ours and version not in needed and not leased and not now.in_flight.get(version)


log = logging.getLogger(__name__)


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
        self.loop = Loop(self.settle, INTERVAL_SECONDS)
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
        self.loop.wake()

    async def settle(self) -> bool:
        """Act until there is nothing left to do; whether users get what they should."""
        async with self._one_at_a_time:
            try:
                for _ in range(ROUNDS):
                    actions = plan(await asyncio.to_thread(self._look))
                    if not actions:
                        break
                    for action in actions:
                        await self._act(action)
                as_wanted = await asyncio.to_thread(self._say)
            except EngineError as error:
                return self._cannot(str(error))
            except OUTAGE as error:
                return self._cannot(f"the store cannot be used: {cause(error)}")
            self._failing = False
            return as_wanted

    def _cannot(self, why: str) -> bool:
        """What is live stays so."""
        if not self._failing:
            log.warning("cannot reconcile the engine now: %s", why)
        self._failing = True
        self._metrics.versions.live_is_wanted.set(0)
        return False

    async def aside(self, work: Callable[[AbstractSet[str]], T]) -> T:
        """Do something short, in a thread, while no version is loaded or unloaded; it is told which
        ones are loaded, after those that nobody needs are not. Raises EngineError."""
        await self.settle()
        async with self._one_at_a_time:
            return await asyncio.to_thread(lambda: work(self._loaded()))

    def _look(self) -> Situation:
        active, loaded = self._store.runs.active(), self._loaded()
        since = time.monotonic() - self._proof_interval
        return Situation(
            wanted=self._store.adapters.wanted().adapter,
            previous=self._store.adapters.previous(),
            live=self.live,
            loaded=loaded,
            proven={version for version, at in self._proven.items() if at > since},
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

    def _load(self, version: str) -> None:
        try:
            known = self._store.adapters.get(version)
            manifest = versions.verify(self._root / version, known.digest)
            if not manifest.base.same_weights(identify(self._model)):
                raise AdapterForeign(
                    f"{version} was made for another base model, {manifest.base_model}"
                )
            log.info("loading %s", version, extra={"adapter": version})
            with self._metrics.versions.load_seconds.time():
                self._client.load_adapter(version, self._root / version)
        except (AdapterDamaged, AdapterForeign, EngineRefused, KeyError) as error:
            self._failed(version, error)
            return
        self._proven.pop(version, None)
        self._metrics.versions.loads.labels("loaded").inc()
        log.info("loaded %s", version, extra={"adapter": version})

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
            log.info(
                "%s is verified as served: %s",
                version,
                evidence.words(),
                extra={"adapter": version},
            )
        else:
            self._failures[version] = self._failures.get(version, 0) + 1
            self._why[version] = f"the engine serves other weights: {evidence.words()}"
            log.error(
                "the engine serves other weights than those of %s: %s", version, evidence.words()
            )

    def _unload(self, version: str) -> None:
        try:
            self._client.unload_adapter(version)
        except EngineUnreachable:
            raise
        except EngineError as error:
            log.warning("cannot unload %s: %s", version, error)
            return
        log.info("unloaded %s", version, extra={"adapter": version})

    def _say(self) -> bool:
        """Tell the store and the metrics which version is live, when that has changed."""
        wanted = self._store.adapters.wanted().adapter
        as_wanted = self.live == wanted
        if self._said != (self.live, wanted):
            reason = "as wanted"
            if not as_wanted:
                reason = f"{wanted or 'the base model'} could not be served"
                if why := self._why.get(wanted or ""):
                    reason = f"{reason}: {why}"
            self._store.adapters.served(self.live, reason)
            self._said = (self.live, wanted)
        self._metrics.versions.live_is_wanted.set(as_wanted)
        return as_wanted
