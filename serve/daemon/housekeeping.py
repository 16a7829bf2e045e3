"""What the daemon does beside serving: follow the store for the metrics, measure the live version,
and prune what is old."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from jobs import prune
from serve.daemon.core import Core
from serve.daemon.process import spawn
from ttrl import events
from ttrl.answers import Reader
from ttrl.config.section import clock
from ttrl.engine.client import EngineError
from ttrl.engine.memory import first_card
from ttrl.evaluation.drift import Drift, Shift
from ttrl.evaluation.estimates import Quality
from ttrl.feedback import DAY_SECONDS, State
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.adapters import AdapterState, Change
from ttrl.store.database import FILE, OUTAGE
from ttrl.store.measurements import Kind
from ttrl.store.questions import QuestionState

log = logging.getLogger(__name__)

DOUBT_SECONDS = 86_400.0
STANDING = 10
"""Looks after which what changes slowly, or takes longer to count, is looked at again."""


@dataclass(eq=False)
class Observer:
    """Brings into the metrics what runs observed, once, and how things stand. It follows the store
    from its first look on: what was counted before is in Prometheus, not here; how things look
    since is shown. `told` hears of each change of the wanted version."""

    store: Store
    metrics: Metrics
    state_dir: Path
    told: Callable[[Change], None] = lambda _: None
    reads: bool = True
    """Whether the store could be read at the last look."""
    _last: int = 0
    _wanted: int | None = None
    _looks: int = 0

    async def follow(self) -> None:
        try:
            await asyncio.to_thread(self.look)
            self.reads = True
            if self._looks % STANDING == 0:
                await asyncio.to_thread(self.stand)
        except OUTAGE:
            self.reads = False
            raise
        self._looks += 1

    def look(self) -> None:
        if self._wanted is None:
            for observation in self.store.runs.newest_observed():
                self._last = observation.id
                if event := events.read(observation):
                    self.metrics.show(event)
            self._wanted = self.store.adapters.wanted().id
        for observation in self.store.runs.observed(after=self._last):
            self._last = observation.id
            if event := events.read(observation):
                self.metrics.observed(event)
        self.metrics.scheduling.active.set(self.store.runs.active() is not None)
        for change in self.store.adapters.changes(self._wanted):
            self._wanted = change.id
            versions = self.metrics.versions
            counter = versions.roll_backs if change.back else versions.promotions
            counter.labels(change.author).inc()
            self.told(change)

    def stand(self) -> None:
        store, metrics = self.store, self.metrics
        questions, adapters = store.questions.counts(), store.adapters.counts()
        for state in (*QuestionState, "probe"):
            metrics.recording.stored.set(questions.get(state), state)
        for kind in AdapterState:
            metrics.versions.adapters.set(adapters.get(kind), kind)
        ended = [run.finished for run in store.runs.newest(2) if run.finished]
        metrics.scheduling.last_run.set(max(ended, default=None))

        said = store.feedback.counts()
        for what in State:
            metrics.recording.feedback_stored.set(said.get(what), what)
        live, shares = store.adapters.serving().adapter, store.feedback.shares()
        for role, version in (("live", live), ("base", None)):
            metrics.feedback.show(shares.get(version), role)
            metrics.measured(role, store.measurements.newest(Quality, version))
        metrics.versions.live_since.set(store.adapters.live_since())
        metrics.versions.waiting.set(store.adapters.waiting())
        policy = store.measurements.newest(Drift, live)
        drift = policy.found if policy else Drift()
        metrics.versions.policy.set(drift.from_base, "base")
        metrics.versions.policy.set(drift.from_live, "previous")
        metrics.versions.policy.set(drift.from_week, "week")
        if shift := store.measurements.newest(Shift):
            metrics.drifting.show(shift.found, at=shift.at)

        disk = shutil.disk_usage(self.state_dir)
        metrics.host.disk_free.set(disk.free)
        metrics.host.disk_size.set(disk.total)
        files = [self.state_dir / name for name in (FILE, f"{FILE}-wal")]
        sizes = [file.stat().st_size for file in files if file.exists()]
        metrics.host.store_size.set(sum(sizes) if sizes else None)
        if card := first_card():
            metrics.host.card_used.labels(card.name).set(card.total - card.free)
            metrics.host.card_size.labels(card.name).set(card.total)


@dataclass(eq=False)
class Measuring:
    """Starts `jobs.measure` when no run has measured the live version for long, or nobody has
    looked whether the questions move; the result is in the store."""

    core: Core
    _tried: dict[Kind, float] = field(default_factory=dict)

    async def look(self) -> None:
        core, what = self.core, await asyncio.to_thread(self._due)
        if not what:
            return
        self._tried |= dict.fromkeys(what, time.time())
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
            log.warning("the measurement failed; see %s", log_file)

    def _due(self) -> list[Kind]:
        """What it is time for: nothing while a run is under way, which asks its probes itself."""
        config, store = self.core.config, self.core.store
        every = config.measure.every
        if every is None or not self.core.engine.up or store.runs.active() is not None:
            return []
        questions = store.measurements.newest(Shift)
        last = {Kind.QUESTIONS: questions.at if questions else 0.0}
        if len(store.holdout.probes(config.gate.min_probes)) >= config.gate.min_probes:
            quality = store.measurements.newest(Quality, store.adapters.serving().adapter)
            last = {Kind.QUALITY: quality.at if quality else 0.0, **last}
        old = time.time() - every.total_seconds()
        return [kind for kind, at in last.items() if max(at, self._tried.get(kind, 0.0)) <= old]


@dataclass
class ClockDoubt:
    """Whether the time of day can be believed. Where it is more than DOUBT_SECONDS ahead of what it
    should be, by the host's own count of seconds or, at first, by the latest row of the store,
    everything would be old at once: nothing is then deleted until the host has run for as long, in
    which somebody may set the clock right. Times are in seconds; `up` since the host's start."""

    last: tuple[float, float] | None = None
    since: float | None = None
    """When, in `up`, it began to be doubted."""

    def believes(self, now: float, up: float, newest: float | None) -> bool:
        before, up_before = self.last or (now if newest is None else newest, up)
        ahead = (now - before) - (up - up_before)
        if abs(ahead) > DOUBT_SECONDS:
            self.since = up if ahead > 0 else None
        self.last = now, up
        return self.since is None or up - self.since > DOUBT_SECONDS


@dataclass(eq=False)
class Screening:
    """Makes labelled probes of corrections that agree (`ttrl.feedback`), as they come in. They are
    strangers' texts: the reader's own process reads them."""

    core: Core
    reader: Reader

    async def look(self) -> None:
        if self.core.config.feedback.enabled:
            await asyncio.to_thread(self.screen)

    def screen(self) -> None:
        store, settings = self.core.store, self.core.config.feedback
        store.feedback.quarantine(since=time.time() - settings.days * DAY_SECONDS)
        if store.runs.active() is not None:
            return
        for asked in store.feedback.unscreened():
            if about := store.feedback.about(asked):
                question, corrections = about
                texts = [each.text for each in corrections]
                answers = self.reader.read(question.text, texts).answers
                store.feedback.settle(question, corrections, answers, agree=settings.agree)


@dataclass(eq=False)
class Pruning:
    """Removes what is old; users wait for none of it."""

    core: Core
    _doubt: ClockDoubt = field(default_factory=ClockDoubt)

    async def look(self) -> None:
        core = self.core
        newest = None if self._doubt.last else await asyncio.to_thread(core.store.newest)
        up = time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the host sleeps
        if not self._doubt.believes(now := time.time(), up, newest):
            if self._doubt.since == up:
                log.warning(
                    "not deleting old data for one day: the clock jumped forward, or nothing was "
                    "written for over a day. It says %s; correct it if that is wrong", clock(now),
                )  # fmt: skip
            return
        pruned = await asyncio.to_thread(prune.run, core.config, core.store)
        _count(core, asdict(pruned) | {"retired": len(pruned.retired)})
        await remove_files(core)


async def remove_files(core: Core) -> list[str]:
    """Delete the files of versions that are gone, and name these; none while the engine cannot say
    which ones it has loaded."""
    try:
        names = await core.reconciler.aside(partial(prune.remove_files, core.config, core.store))
    except EngineError:
        return []
    _count(core, {"files": len(names)})
    return names


def _count(core: Core, pruned: Mapping[str, int]) -> None:
    pruned = {what: count for what, count in pruned.items() if count}
    for what, count in pruned.items():
        core.metrics.versions.pruned.labels(what).inc(count)
    if pruned:
        log.info(
            "deleted old data: %s", ", ".join(f"{what}={count}" for what, count in pruned.items())
        )
