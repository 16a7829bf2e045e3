"""The live guard at work: a part of the traffic is asked again of the live version and of the one
before it.

What is drawn is shown to nobody and kept nowhere; only how the two differ is written down. Users
come first: nothing is asked while anybody waits in the engine, and one thing at a time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from statistics import fmean

from serve.live import BASE, Live
from serve.watch import Watch
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.detector import Stream
from ttrl.engine import crew
from ttrl.engine.client import EngineClient, EngineError, EngineRefused
from ttrl.engine.pacer import Pacer
from ttrl.metrics import Metrics
from ttrl.questions import Question
from ttrl.rollouts import PRIORITY, read_answers
from ttrl.samples import SampleSet, Sampling
from ttrl.shadow import Answers, Side, differences, failures
from ttrl.store.shadow import Versions

QUEUE = 16
"""Questions that wait to be asked again at most: the newest are left out."""


class Outcome(StrEnum):
    """What became of a question that was meant to be asked again."""

    COMPARED = "compared"
    ALARM = "alarm"
    """Compared, and that was too much: the version before is wanted."""
    QUEUE_FULL = "queue_full"
    """Enough of them waited already."""
    SWAPPED = "swapped"
    """Another version went live, or the base model: there was nothing to compare any more."""
    ENGINE_FAILED = "engine_failed"
    """The engine was gone, or refused the question: it says nothing about a version."""


@dataclass(frozen=True)
class Last:
    """The last question that was compared, and the live version's answers to it."""

    versions: Versions
    question: str
    answers: Answers


class Shadow:
    """`rolled_back` is called when the store has been told of a roll-back."""

    def __init__(
        self,
        config: Config,
        watch: Watch,
        client: EngineClient,
        live: Live,
        metrics: Metrics,
        *,
        rolled_back: Callable[[], None],
    ) -> None:
        self._settings = config.shadow
        self._reader = Reader(config.vote.kind)  # by letters: the daemon imports no model
        self._sampling = Sampling(config.vote.temperature, config.vote.max_tokens)
        self._watch = watch
        self._client = client
        self._live = live
        self._metrics = metrics
        self._rolled_back = rolled_back
        self._queue: asyncio.Queue[Question] = asyncio.Queue(QUEUE)
        self._last: Last | None = None

    def offer(self, question: Question) -> None:
        """A question that was answered and recorded. Takes some of them; never waits."""
        if self._live.current.version == BASE or random.random() >= self._settings.share:
            return
        try:
            self._queue.put_nowait(question)
        except asyncio.QueueFull:
            self._metrics.judging.shadow.labels(Outcome.QUEUE_FULL).inc()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.to_thread(self._watch.versions)
        with Pacer(self._client.load, maximum=1, pause_waiting=1) as pacer:
            while True:
                outcome = await self._shadow(await self._queue.get(), pacer)
                self._metrics.judging.shadow.labels(outcome).inc()
                if outcome is Outcome.ALARM:
                    self._rolled_back()
                await asyncio.sleep(60 / self._settings.pairs_a_minute)

    async def _shadow(self, question: Question, pacer: Pacer) -> Outcome:
        versions = await asyncio.to_thread(self._watch.versions)
        if versions is None:
            return Outcome.SWAPPED
        # By a thread that the daemon's end does not wait for: it may wait for the engine long.
        asking = crew.one(partial(self._compare, question, versions, pacer))
        try:
            found = await asyncio.wrap_future(asking)
        except EngineError:
            return Outcome.ENGINE_FAILED
        return await asyncio.to_thread(self._note, versions, found)

    def _note(self, versions: Versions, found: dict[Stream, float]) -> Outcome:
        if self._watch.versions() != versions:
            return Outcome.SWAPPED
        return Outcome.ALARM if self._watch.note(versions, found) else Outcome.COMPARED

    def _compare(self, question: Question, versions: Versions, pacer: Pacer) -> dict[Stream, float]:
        """Ask both, in any order. Raises EngineError."""
        names = [versions.live, versions.other or self._live.base.model]
        drawn = {name: self._ask(question, name, pacer) for name in random.sample(names, 2)}
        live, other = (drawn[name] for name in names)
        if live is None or other is None:
            return failures(live=live is None, other=other is None)
        ours, others = _sides(self._reader, question, live, other)
        before = self._answered_before(question, versions)
        self._last = Last(versions, question.hash, ours.answers)
        return differences(ours, others, before)

    def _answered_before(self, question: Question, versions: Versions) -> Answers:
        """The live version's answers to the question before, if it was another one."""
        last = self._last
        if last is None or last.versions != versions or last.question == question.hash:
            return ()
        return last.answers

    def _ask(self, question: Question, model: str, pacer: Pacer) -> SampleSet | None:
        """None when the engine fails at it. Raises EngineError when that is not the version's."""
        try:
            with pacer.slot():
                return self._client.sample(
                    question,
                    model=model,
                    n=self._settings.samples,
                    sampling=self._sampling,
                    priority=PRIORITY,
                )
        except EngineRefused as refused:
            if refused.status < 500:
                raise
            return None


def _sides(
    reader: Reader, question: Question, live: SampleSet, other: SampleSet
) -> tuple[Side, Side]:
    """Both read together: only then do equal strings mean equal answers."""
    both = replace(live, samples=live.samples + other.samples)
    answers, count = read_answers(reader, question.text, both).answers, len(live.samples)
    return Side(answers[:count], _length(live)), Side(answers[count:], _length(other))


def _length(drawn: SampleSet) -> float:
    return fmean(len(sample.token_ids) for sample in drawn.samples)
