"""The live guard's judgement: what the pairs compared so far say of the live version, and the
roll-back when they say that it is worse. All of it is in the store, and survives a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import reduce
from typing import Any

from serve.live import BASE, Live
from ttrl.config import ShadowConfig
from ttrl.detector import Detector, Stream, threshold
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.adapters import Author
from ttrl.store.shadow import Versions

log = logging.getLogger(__name__)


class Watch:
    """For one thread at a time; `report` is for any."""

    def __init__(self, settings: ShadowConfig, store: Store, live: Live, metrics: Metrics) -> None:
        self._store = store
        self._live = live
        self._metrics = metrics
        limit = threshold(settings.pairs_a_minute, settings.false_alarms_a_year)
        self._fresh = Detector(limit)
        self._state: tuple[Versions | None, Detector] = (None, self._fresh)

    def versions(self) -> Versions | None:
        """What is to be compared now; None while the base model is live, or something else than
        what is wanted. When that has changed, the detector begins anew, from what was written down
        since the live version has been wanted."""
        wanted = self._store.adapters.wanted()
        versions = None
        if wanted.adapter is not None and wanted.adapter == self._live.current.version:
            versions = Versions(wanted.adapter, self._store.adapters.previous(), wanted.at)
        if versions != self._state[0]:
            past = self._store.shadow.of(versions) if versions else []
            self._set(versions, reduce(Detector.after, past, self._fresh))
        return versions

    def note(self, versions: Versions, found: Mapping[Stream, float]) -> bool:
        """Write down what these versions' answers to one question say, and roll back if that is too
        much; whether it was."""
        self._store.shadow.add(versions, found)
        detector = self._state[1].after(found)
        self._set(versions, detector)
        alarm = detector.alarm
        if alarm is None:
            return False
        reason = f"live guard: {alarm.words(versions.other or 'the base model')}"
        done = self._store.adapters.roll_back(
            author=Author.GUARD, reason=reason, only=versions.live
        )
        if done:
            log.warning("%s is rolled back: %s", versions.live, reason)
            self._metrics.judging.alarms.labels(alarm.stream).inc()
        return done

    def report(self) -> dict[str, Any] | None:
        """What is seen, as JSON has it; None when there is nothing to watch."""
        versions, detector = self._state
        if versions is None or versions.live != self._live.current.version:
            return None
        nearest = detector.nearest
        return {
            "other": versions.other or BASE,
            "pairs": detector.pairs,
            "nearest": nearest,
            "nearness": round(detector.nearness(nearest), 3),
        }

    def _set(self, versions: Versions | None, detector: Detector) -> None:
        self._state = (versions, detector)
        for stream in Stream:
            self._metrics.judging.shadow_evidence.labels(stream).set(detector.nearness(stream))
