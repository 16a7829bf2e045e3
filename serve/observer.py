"""Reads what runs observed, once, and observes it in the metrics."""

from __future__ import annotations

import asyncio

from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.questions import QuestionState

INTERVAL_SECONDS = 1.0


class Observer:
    """Follows the store from now on: what was seen before this daemon began is in Prometheus, not
    here."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._last = store.runs.last_observation()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(INTERVAL_SECONDS)

    def look(self) -> None:
        """Take in what is new."""
        for observation in self._store.runs.observed(after=self._last):
            self._last = observation.id
            self._metrics.observed(observation.kind, observation.numbers)
        self._metrics.run_active.set(self._store.runs.active() is not None)
        counts = self._store.questions.counts()
        for state in (*QuestionState, "probe"):
            self._metrics.questions.labels(state).set(counts.get(state, 0))
