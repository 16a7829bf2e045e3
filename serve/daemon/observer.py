"""Brings what is in the store into the metrics: what runs observed, once, and how things stand."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ttrl.engine.memory import first_card
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.adapters import AdapterState, Change
from ttrl.store.database import FILE, OUTAGE
from ttrl.store.measurements import Kind
from ttrl.store.questions import QuestionState

INTERVAL_SECONDS = 1.0
STANDING = 10
"""Looks after which what changes slowly, or takes longer to count, is looked at again."""
FILES = (FILE, f"{FILE}-wal")


class Observer:
    """Follows the store from now on: what was counted before this daemon began is in Prometheus,
    not here; how things look since is shown. `told` hears of each change of what is wanted."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        state_dir: Path,
        told: Callable[[Change], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._state_dir = state_dir
        self._told = told
        self.reads = True
        """Whether the store could be read at the last look."""
        self._last = self._wanted = self._looks = 0
        self._begun = False
        with suppress(*OUTAGE):  # then from the first look that succeeds
            self._begin()

    async def follow(self) -> None:
        """Take in what is new, and now and then how things stand."""
        await self._while_up(self.look)
        if self._looks % STANDING == 0:
            await self._while_up(self.stand)
        self._looks += 1

    async def _while_up(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OUTAGE:
            self.reads = False
            raise
        self.reads = True

    def look(self) -> None:
        """Take in what is new."""
        self._begin()
        for observation in self._store.runs.observed(after=self._last):
            self._last = observation.id
            self._metrics.observed(observation.kind, observation.numbers)
        self._metrics.scheduling.active.set(self._store.runs.active() is not None)
        for change in self._store.adapters.changes(self._wanted):
            self._wanted = change.id
            versions = self._metrics.versions
            counter = versions.roll_backs if change.back else versions.promotions
            counter.labels(change.author).inc()
            self._told(change)

    def _begin(self) -> None:
        if not self._begun:
            for observation in self._store.runs.newest_observed():
                self._last = observation.id
                with suppress(KeyError, TypeError, ValueError):  # of another release of ttrl
                    self._metrics.show(observation.kind, observation.numbers)
            self._wanted = self._store.adapters.wanted().id
            self._begun = True

    def stand(self) -> None:
        """Take in how things stand."""
        counts = self._store.questions.counts()
        for state in (*QuestionState, "probe"):
            self._metrics.recording.stored.set(counts.get(state), state)
        versions = self._store.adapters.counts()
        for kind in AdapterState:
            self._metrics.versions.adapters.set(versions.get(kind), kind)
        ended = [run.finished for run in self._store.runs.newest(2) if run.finished]
        self._metrics.scheduling.last_run.set(max(ended, default=None))
        self._measured()
        self._host()

    def _measured(self) -> None:
        serving, table = self._store.adapters.serving(), self._store.measurements
        self._metrics.versions.live_since.set(self._store.adapters.live_since())
        self._metrics.versions.waiting.set(self._store.adapters.waiting())
        for role, version in (("live", serving.adapter), ("base", None)):
            found = table.newest(Kind.QUALITY, version)
            self._metrics.measured(
                role, found.numbers if found else {}, found.at if found else None
            )
        policy = table.newest(Kind.POLICY, serving.adapter)
        for other, against in (("base", "base"), ("live", "previous"), ("week", "week")):
            nats = policy.numbers.get(f"from_{other}") if policy else None
            self._metrics.versions.policy.set(nats, against)
        questions = table.newest(Kind.QUESTIONS)
        if questions is not None:
            self._metrics.drifting.show({**questions.numbers, "at": questions.at})

    def _host(self) -> None:
        host = self._metrics.host
        disk = shutil.disk_usage(self._state_dir)
        host.disk_free.set(disk.free)
        host.disk_size.set(disk.total)
        files = [file for name in FILES if (file := self._state_dir / name).exists()]
        host.store_size.set(sum(file.stat().st_size for file in files) if files else None)
        card = first_card()
        if card is not None:
            host.card_used.labels(card.name).set(card.total - card.free)
            host.card_size.labels(card.name).set(card.total)
