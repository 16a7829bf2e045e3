"""The one thread that runs the model: who is next, with whom, and under which adapter."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ttrl.engine.embedded.batch import Batch
from ttrl.engine.embedded.figures import Figures, count
from ttrl.engine.embedded.lora import Adapter, Switch
from ttrl.engine.embedded.work import Job

MAX_ROWS = 512
PREFILL_TOKENS = 16384
"""The most that one lane decodes at once, and that is read in one go (padding counts)."""


@dataclass(eq=False)
class Lane:
    """The work of one adapter at one priority: what waits, and the batch that is being decoded."""

    adapter: Adapter | None
    priority: int
    waiting: deque[Job] = field(default_factory=deque)
    batch: Batch | None = None
    turn: int = 0

    @property
    def idle(self) -> bool:
        return not self.waiting and self.batch is None

    def admit(self) -> list[Job]:
        """The waiting jobs to start now, oldest first, as many as fit in one reading."""
        jobs: list[Job] = []
        rows, longest = len(self.batch) if self.batch else 0, 0
        while self.waiting:
            job = self.waiting[0]
            longest = max(longest, len(job.order.prompt_ids))
            alone = job.order.prompt_logprobs is not None
            # Something always starts on an empty lane, however large it is.
            full = (rows and rows + job.order.n > MAX_ROWS) or (
                jobs and (alone or longest * (len(jobs) + 1) > PREFILL_TOKENS)
            )
            if full:
                break
            self.waiting.popleft()
            if job.abandoned:
                continue
            jobs.append(job)
            rows += job.order.n
            if alone:
                break
        return jobs


class Worker(threading.Thread):
    """Between any two tokens it turns to the lane with the lowest priority number, among equals to
    the one that has waited longest. So a newcomer waits for one step, never for a batch, and low
    priorities stand still while higher ones have work."""

    def __init__(self, model: PreTrainedModel, switch: Switch) -> None:
        super().__init__(name="model", daemon=True)
        self.on_death: Callable[[], None] = lambda: None
        self._model, self._switch = model, switch
        self._lanes: dict[tuple[int, Adapter | None], Lane] = {}
        self._open: set[Job] = set()
        self._changed = threading.Condition()
        self._stopping = self._ended = False
        self._turn = 0
        self._prompt_tokens = self._generation_tokens = 0

    def submit(self, job: Job) -> None:
        """Queue a job; it fails at once when the worker has ended. Safe from any thread."""
        key = (job.order.priority, job.adapter)
        with self._changed:
            if self._ended:
                _fail(job)
                return
            self._open.add(job)
            lane = self._lanes.setdefault(key, Lane(job.adapter, job.order.priority))
            lane.waiting.append(job)
            self._changed.notify()

    def figures(self) -> Figures:
        """How busy it is. Safe from any thread."""
        with self._changed:
            queued = {job for lane in self._lanes.values() for job in lane.waiting}
            running, waiting = count(self._open, queued)
            return Figures(running, waiting, self._prompt_tokens, self._generation_tokens)

    def stop(self) -> None:
        """End after the current step. Unfinished jobs fail."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        try:
            with torch.inference_mode():
                while lane := self._next():
                    self._advance(lane)
        finally:
            self._end()

    def _next(self) -> Lane | None:
        with self._changed:
            self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.idle}
            self._changed.wait_for(lambda: self._lanes or self._stopping)
            if self._stopping:
                return None
            lane = min(self._lanes.values(), key=lambda lane: (lane.priority, lane.turn))
            self._turn += 1
            lane.turn = self._turn
            return lane

    def _advance(self, lane: Lane) -> None:
        self._switch.deltas = lane.adapter.deltas if lane.adapter else {}
        with self._changed:
            jobs = lane.admit()
        if jobs:
            fresh = Batch.prefill(self._model, jobs)
            self._prompt_tokens += sum(len(job.order.prompt_ids) for job in jobs)
            self._generation_tokens += len(fresh)
            lane.batch = lane.batch.join(fresh) if lane.batch else fresh
        elif lane.batch:
            self._generation_tokens += lane.batch.alive
            lane.batch.step()
        if lane.batch:
            self._tell(lane.batch.jobs)
            lane.batch.tidy()
            if not lane.batch.rows:
                lane.batch = None

    def _tell(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job in self._open and (job.done or job.order.stream):
                job.notify()
                if job.done:
                    with self._changed:
                        self._open.discard(job)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            unfinished, self._open = self._open, set()
        for job in unfinished:
            _fail(job)
        if not self._stopping:
            self.on_death()


def _fail(job: Job) -> None:
    job.failed = True
    job.notify()
