"""Questions, and receipts of answers, on their way to the store: a bounded queue and one writer.

Offering never waits and never raises. What does not fit is dropped and counted. A store that is
locked, full or gone costs users nothing: the writer keeps its batch and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ttrl.feedback import Receipt
from ttrl.metrics import Metrics
from ttrl.questions.question import Question, Unlearnable
from ttrl.redaction import RedactionFailed
from ttrl.store.database import cause, is_outage
from ttrl.store.questions import Recorded

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""What the writer has at a shutdown."""
SLOW_SECONDS = 1.0
"""What takes longer to redact holds up all other questions."""
REST = 12.0
"""For so many times as long, nothing of its client's is recorded that is half as long or longer.
What is shorter is redacted in less than half the time: that grows with the text at least."""


@dataclass(eq=False)
class Recorder:
    """`write` commits all of a batch or raises; it runs in a thread, one call at a time, and before
    it `redact` of each question: what that cannot do is dropped. `then` is told of each question
    that is taken, as it was asked; it must not wait or raise. `retry` are the first and the longest
    wait, in seconds."""

    write: Callable[[Sequence[Recorded]], object]
    capacity: int = 10_000
    batch: int = 500
    interval: float = 0.2
    retry: tuple[float, float] = (0.1, 5.0)
    metrics: Metrics = field(default_factory=Metrics)
    then: Callable[[Question], None] = lambda _: None
    redact: Callable[[Question], Question] | None = None
    pending: int = 0
    """How many questions are not committed yet."""
    failing: bool = False
    """Whether the last attempt to write failed."""
    clock: Callable[[], float] = time.monotonic
    _redacting: bool = True
    _rests: dict[str | None, tuple[float, int]] = field(default_factory=dict)
    """Until when, and from which length on; without keys everybody is one client."""

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[Recorded] = asyncio.Queue(self.capacity)
        self._offered = self._passed = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._closing = asyncio.Event()
        self._metrics = self.metrics.recording
        self._metrics.queue.set_function(lambda: self.pending)

    def offer(
        self,
        question: Question | None,
        client: str | None = None,
        receipt: Receipt | None = None,
    ) -> bool:
        """Take a question, the receipt of its answer, or both, if there is room. Never waits."""
        try:
            self._queue.put_nowait(Recorded(question, time.time(), client, receipt))
        except asyncio.QueueFull:
            if question is not None:
                full = Unlearnable.STORE_FAILED if self.failing else Unlearnable.QUEUE_FULL
                self._metrics.skipped.labels(full).inc()
            return False
        self.pending += 1
        self._offered += 1
        if question is not None:
            self.then(question)
        return True

    async def caught_up(self, seconds: float) -> None:
        """Wait until what was offered so far is written or dropped, but not longer."""
        passed = asyncio.get_running_loop().create_future()
        self._waiting.append((self._offered, passed))
        await asyncio.wait([passed], timeout=seconds)

    async def run(self) -> None:
        """The writer, until it is cancelled (after `drain`)."""
        while True:
            batch: list[Recorded] = [await self._queue.get()]
            if self._queue.qsize() < self.batch - 1:
                await self._pause(self.interval)
            while len(batch) < self.batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self._passed += len(batch)
            if self.redact is not None:
                batch = await self._redacted(batch, self.redact)
            if batch:
                await self._commit(batch)
            while self._waiting and self._waiting[0][0] <= self._passed:
                self._waiting.popleft()[1].set_result(None)

    async def drain(self, seconds: float) -> int:
        """Hurry the writer, for at most so many seconds. How many questions it leaves."""
        self._closing.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._queue.join()
        return self.pending

    async def _redacted(
        self, batch: Sequence[Recorded], redact: Callable[[Question], Question]
    ) -> list[Recorded]:
        """What could be redacted. Nothing else is ever written: it is dropped and counted."""
        done = []
        for item in batch:
            if item.question is None:
                done.append(item)
                continue
            began, size = self.clock(), len(repr(item.question))
            until, least = self._rests.get(item.client, (0.0, 0))
            if began < until and size >= least:
                self._settle(1, Unlearnable.NOT_REDACTED)
                continue
            try:
                question = await asyncio.to_thread(redact, item.question)
            except RedactionFailed as error:
                if self._redacting:
                    log.error("dropping questions: %s", error)
                self._redacting = False
                self._settle(1, Unlearnable.NOT_REDACTED)
            else:
                self._redacting = True
                done.append(replace(item, question=question))
            now = self.clock()
            if (took := now - began) > SLOW_SECONDS:
                self._rests = {c: rest for c, rest in self._rests.items() if rest[0] > now}
                self._rests[item.client] = (now + REST * took, size // 2)
        return done

    async def _commit(self, batch: Sequence[Recorded]) -> None:
        """Write a batch, however long the store is away. One that can never be written is halved
        until only what spoils it is dropped."""
        wait, longest = self.retry
        while True:
            try:
                await asyncio.to_thread(self.write, batch)
                break
            except Exception as error:  # noqa: BLE001 - a defect in one row must not end all recording
                if is_outage(error):
                    if not self.failing:
                        log.warning(
                            "cannot write the store (requests are still answered): %s", cause(error)
                        )
                    self.failing = True
                elif len(batch) == 1:
                    log.error("dropping a question that cannot be stored: %s", cause(error))
                    self._settle(1, Unlearnable.STORE_FAILED)
                    return
                else:
                    middle = len(batch) // 2
                    await self._commit(batch[:middle])
                    await self._commit(batch[middle:])
                    return
            await self._pause(wait)
            wait = min(2 * wait, longest)
        if self.failing:
            log.info("the store can be written again")
        self.failing = False
        self._metrics.recorded.inc(sum(item.question is not None for item in batch))
        self._settle(len(batch))

    async def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(min(seconds, self.retry[0]))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _settle(self, questions: int, dropped: Unlearnable | None = None) -> None:
        if dropped is not None:
            self._metrics.skipped.labels(dropped).inc()
        self.pending -= questions
        for _ in range(questions):
            self._queue.task_done()
