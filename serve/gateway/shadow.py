"""The live monitor: a part of the traffic is asked again of the live version and of the one before
it, and the live version is rolled back when its answers are measurably worse.

What is sampled is shown to nobody and kept nowhere; only how the two differ is written down. Users
come first: nothing is asked while anybody waits in the engine, and one thing at a time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial, reduce
from statistics import fmean

from serve.gateway.live import BASE, Live
from ttrl.answers import Reader
from ttrl.answers.bounded import CannotRead
from ttrl.answers.layers import Layer
from ttrl.config import Config
from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineError, EngineRefused
from ttrl.engine.pacing import Pacer
from ttrl.engine.samples import SampleSet, Sampling
from ttrl.metrics.series import Judging
from ttrl.monitoring.live import Detector, Side, Stream, differences, failures, threshold
from ttrl.questions.question import Question
from ttrl.sampling.groups import PRIORITY, to_learn_from, with_length
from ttrl.store import Store
from ttrl.store.adapters import Author
from ttrl.store.measurements import Versions

log = logging.getLogger(__name__)

QUEUE = 16
"""Questions that wait to be asked again at most: the newest are left out."""


class Outcome(StrEnum):
    """What became of a question that was meant to be asked again."""

    COMPARED = "compared"
    ALARM = "alarm"  # compared, and that was too much: the version before is wanted
    QUEUE_FULL = "queue_full"
    SWAPPED = "swapped"  # another version went live: there was nothing to compare any more
    ENGINE_FAILED = "engine_failed"  # it says nothing about a version
    UNREAD = "unread"  # its answers could not be read in time: nor does that


@dataclass(frozen=True)
class Compared:
    """What the pairs so far say: with how many answers of which `other` version the live one was
    compared, how near (0 to 1) it is to an alarm in the `nearest` stream, and how it `differs`."""

    other: str
    pairs: int
    nearest: Stream
    nearness: float
    differs: list[str]


@dataclass(eq=False)
class Shadow:
    """Asks questions again and judges the pairs: rolls back on harm, alerts when the live version
    only differs. What it knows is in the store and survives a restart. `rolled_back` is called when
    the store has been told of a roll-back; `alerted` hears of a version that differs, and how."""

    config: Config
    store: Store
    client: EngineClient
    live: Live
    metrics: Judging
    reader: Reader
    rolled_back: Callable[[], None]
    alerted: Callable[[str, str], None] = lambda *_: None
    _last: tuple[Versions, str, tuple[Side, Side]] | None = None
    """The last question that was compared, by its hash, and what was answered to it."""

    def __post_init__(self) -> None:
        self._settings = settings = self.config.shadow
        self._queue: asyncio.Queue[Question] = asyncio.Queue(QUEUE)
        self._fresh = Detector(threshold(settings.pairs_a_minute, settings.false_alarms_a_year))
        self._state: tuple[Versions | None, Detector] = (None, self._fresh)
        self._alerts: set[Stream] = set()

    def versions(self) -> Versions | None:
        """What is to be compared now; None while the base model is live, or something else than
        what is wanted. When that has changed, the detector begins again, from what was written down
        since the live version has been wanted."""
        adapters, versions = self.store.adapters, None
        wanted = adapters.wanted()
        if wanted.adapter is not None and wanted.adapter == self.live.current.version:
            versions = Versions(wanted.adapter, adapters.previous(), wanted.at)
        if versions != self._state[0]:
            rows = self.store.shadow.of(versions) if versions else []
            past = [{stream: row[stream] for stream in Stream if stream in row} for row in rows]
            detector = reduce(Detector.after, past, self._fresh)
            self._alerts = {alert.stream for alert in detector.alerts}  # told before a restart
            self._set(versions, detector)
        return versions

    def note(self, versions: Versions, differences: Mapping[Stream, float]) -> Outcome:
        """Write down how these versions' answers to one question differ, and roll back if that is
        too much."""
        if self.versions() != versions:
            return Outcome.SWAPPED
        self.store.shadow.add(versions, {str(name): each for name, each in differences.items()})
        detector = self._state[1].after(differences)
        self._set(versions, detector)
        other = versions.other or "the base model"
        for alert in detector.alerts:
            if alert.stream not in self._alerts:  # once, as long as the same versions are compared
                self._alerts.add(alert.stream)
                words = alert.words(other)
                log.warning(
                    "%s differs from %s (`ttrl label` shows which is better): %s",
                    versions.live, other, words,
                )  # fmt: skip
                self.metrics.alerts.labels(alert.stream).inc()
                self.alerted(versions.live, words)
        if (alarm := detector.alarm) is None:
            return Outcome.COMPARED
        reason = f"live monitor: {alarm.words(other)}"
        roll_back = self.store.adapters.roll_back
        if not roll_back(author=Author.LIVE_MONITOR, reason=reason, only=versions.live):
            return Outcome.COMPARED
        log.warning("rolling back %s: %s", versions.live, reason)
        self.metrics.alarms.labels(alarm.stream).inc()
        return Outcome.ALARM

    def report(self) -> Compared | None:
        """What the pairs so far say; for any thread."""
        versions, detector = self._state
        if versions is None or versions.live != self.live.current.version:
            return None
        nearest, other = detector.nearest, versions.other or BASE
        return Compared(
            other=other,
            pairs=detector.pairs,
            nearest=nearest,
            nearness=round(detector.nearness(nearest), 3),
            differs=[alert.words(other) for alert in detector.alerts],
        )

    def _set(self, versions: Versions | None, detector: Detector) -> None:
        self._state = (versions, detector)
        for stream in Stream:
            self.metrics.shadow_evidence.labels(stream).set(detector.nearness(stream))

    def offer(self, question: Question) -> None:
        """Take some of the questions that were answered and recorded; never waits."""
        if random.random() < self._settings.share:
            self.take(question)

    def take(self, question: Question) -> None:
        """Have a question asked again, if there is room."""
        if self.live.current.version == BASE:
            return
        try:
            self._queue.put_nowait(question)
        except asyncio.QueueFull:
            self.metrics.shadow.labels(Outcome.QUEUE_FULL).inc()

    async def run(self) -> None:
        await asyncio.to_thread(self.versions)
        with Pacer(self.client.load, maximum=1, pause_waiting=1) as self._pacer:
            while True:
                outcome = await self._shadow(await self._queue.get())
                self.metrics.shadow.labels(outcome).inc()
                if outcome is Outcome.ALARM:
                    self.rolled_back()
                await asyncio.sleep(60 / self._settings.pairs_a_minute)

    async def _shadow(self, question: Question) -> Outcome:
        versions = await asyncio.to_thread(self.versions)
        if versions is None:
            return Outcome.SWAPPED
        # By a thread that the daemon's end does not wait for: it may wait for the engine long.
        asking = threads.submit(partial(self._compare, question, versions))
        try:
            differences = await asyncio.wrap_future(asking)
        except EngineError:
            return Outcome.ENGINE_FAILED
        except CannotRead:
            return Outcome.UNREAD
        return await asyncio.to_thread(self.note, versions, differences)

    def _compare(self, question: Question, versions: Versions) -> dict[Stream, float]:
        """Ask both, in any order. Raises EngineError, CannotRead."""
        names = [versions.live, versions.other or self.live.base.model]
        vote = with_length(self.config, self.client).vote
        sampling = to_learn_from(question, vote)
        samples = {name: self._ask(question, name, sampling) for name in random.sample(names, 2)}
        live, other = (samples[name] for name in names)
        if live is None or other is None:
            return failures(live=live is None, other=other is None)
        # Both read together: only then do equal strings mean equal answers.
        texts = ["" if each.cut else each.text for each in (*live.samples, *other.samples)]
        reading, count = self.reader.read(question.text, texts), len(live.samples)
        if Layer.FAILED in reading.layers:
            raise CannotRead("its answers could not be read")
        answers = reading.answers
        before = None  # what was answered to the question before, if it was another one
        if self._last and self._last[0] == versions and self._last[1] != question.hash:
            before = self._last[2]
        sides = Side(answers[:count], _length(live)), Side(answers[count:], _length(other))
        self._last = versions, question.hash, sides
        return differences(*sides, before)

    def _ask(self, question: Question, model: str, sampling: Sampling) -> SampleSet | None:
        """None when the engine fails at it. Raises EngineError when that is not the version's."""
        try:
            with self._pacer.slot():
                return self.client.sample(
                    question,
                    model=model,
                    n=self._settings.samples,
                    sampling=sampling,
                    priority=PRIORITY,
                )
        except EngineRefused as refused:
            if refused.status < 500:
                raise
            return None


def _length(drawn: SampleSet) -> float:
    return fmean(len(sample.token_ids) for sample in drawn.samples)
