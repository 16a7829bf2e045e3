"""What is asked of the model, and the loop that answers it: batches, priorities, sampling.

The loop is not `model.generate`: that admits nobody to a batch under way and lets no finished
answer leave it. Measured on the demo's model, one core, 8 questions x 32 answers: this loop 0.45 s,
`generate` 2.5 s, `generate_batch` (continuous batching) 7.0 s. Cache layers and logits processors
are the library's.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    Cache,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer

from ttrl.engine.embedded.model import Adapter, Model

MAX_ANSWERS = 256
MAX_ALTERNATIVES = 20
INT64 = 2**63
MAX_ROWS = 512
PREFILL_TOKENS = 16384
"""The most that one lane decodes at once, and that is read in one go (padding counts)."""
ROOM = 64
"""Positions that a cache grows by. With the library's own layer, which copies everything for every
token, 8 questions x 32 answers took 2.4 times as long."""
KEEP_SHARE = 0.75
"""Finished rows stay in a batch until fewer than this share of it goes on: leaving copies the
cache. Letting each go at once was 3 to 6 times slower."""
UNFINISHED = "\ufffd"
"""What a decoder writes for a character of which only some bytes have come."""


class Settings(BaseModel):
    """How a prompt is to be answered, by the names and within the limits of vLLM's API."""

    model_config = ConfigDict(strict=True, frozen=True)

    n: int = Field(1, ge=1, le=MAX_ANSWERS)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=1e9)
    min_tokens: int = Field(0, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(lambda value: [value] if value and isinstance(value, str) else value or []),
    ] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    ignore_eos: bool = False
    prompt_logprobs: Literal[0] | None = None
    """No alternatives beside the prompt's own tokens."""
    stream: bool = False
    priority: int = Field(0, ge=-INT64, lt=INT64)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}")
        if self.stream and self.prompt_logprobs is not None:
            raise ValueError("prompt_logprobs are not available in a stream")
        return self

    @property
    def penalises(self) -> bool:
        counted = self.frequency_penalty or self.presence_penalty
        return bool(counted or self.min_tokens or self.repetition_penalty != 1)


class Row:
    """One answer as it grows. The model's thread alone writes it; readers may look at any time."""

    def __init__(self, job: Job, index: int) -> None:
        self.job = job
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.tops: list[list[tuple[int, float]]] = []
        self.finish: str | None = None
        self.stop_reason: str | int | None = None
        seed = job.settings.seed
        # Each answer's own, as in vLLM, so that it does not depend on what shares the batch.
        generator = random if seed is None else random.Random((seed + index) % INT64)
        self.random = generator.random
        self._searched = 0
        """Characters among which no stop string ends any more."""
        self._cut: int | None = None
        """Characters before or with the stop string that ended it."""

    @property
    def alive(self) -> bool:
        return not self.finish and not self.job.abandoned

    @property
    def text(self) -> str:
        """The answer so far, without the token or the stop string that ended it unless these were
        asked for."""
        return self._decode(self.token_ids.copy())[: self._cut]

    def push(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        job, finish = self.job, None
        if token in job.end_ids:
            finish = "stop"
            self.stop_reason = token if token in job.settings.stop_token_ids else None
        elif job.settings.stop and (stop := self._completed_stop([*self.token_ids, token])):
            finish, self.stop_reason = "stop", stop
        elif len(self.token_ids) + 1 >= job.max_tokens:
            finish = "length"
        self.tops.append(top)
        self.logprobs.append(logprob)
        # A reader takes the number of tokens for the number of all of these, and an answer that has
        # finished for whole.
        self.token_ids.append(token)
        self.finish = finish

    def _decode(self, ids: list[int]) -> str:
        settings = self.job.settings
        if ids and ids[-1] in self.job.end_ids and not settings.include_stop_str_in_output:
            ids.pop()
        return self.job.model.decode(ids, special=not settings.skip_special_tokens)

    def _completed_stop(self, ids: list[int]) -> str | None:
        """Return the stop string that the last of the tokens completes, and cut the text there."""
        settings, text = self.job.settings, self._decode(ids)
        before, self._searched = self._searched, len(text.rstrip(UNFINISHED))
        # As in vLLM, none counts before `min_tokens`.
        if len(ids) <= settings.min_tokens:
            return None
        found = [
            (at + len(stop), stop)
            for stop in settings.stop
            if (at := text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if not found:
            return None
        end, stop = min(found, key=lambda each: each[0])
        self._cut = end if settings.include_stop_str_in_output else end - len(stop)
        return stop


@dataclass(eq=False)
class Job:
    """A prompt being answered. `logprobs` says how many alternatives are wanted beside each token;
    None is no log-probabilities. `news` is set when there is something to read: at every token of a
    stream, else at the end. A job holds its adapter, so that unloading takes nothing from it."""

    settings: Settings
    prompt_ids: list[int]
    max_tokens: int
    model: Model
    adapter: Adapter | None = None
    logprobs: int | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    prompt_logprobs: list[float | None] | None = None
    started: bool = False
    abandoned: bool = False
    failed: bool = False

    def __post_init__(self) -> None:
        ends = frozenset() if self.settings.ignore_eos else self.model.end_ids
        self.end_ids = ends | set(self.settings.stop_token_ids)
        self.rows = [Row(self, index) for index in range(self.settings.n)]

    @property
    def done(self) -> bool:
        return self.failed or self.abandoned or all(row.finish for row in self.rows)


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values (rows, heads, positions, width) as views of buffers with room behind them."""

    keys: Tensor
    values: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.hold(key_states, value_states)
        else:
            end = self.get_seq_length() + 1  # after the prompt, one token a step
            if end > self._buffers[0].shape[2]:
                self.hold(self.keys, self.values)
            for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
                buffer[:, :, end - 1 : end] = states
            self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def hold(self, keys: Tensor, values: Tensor) -> None:
        """Copy these and leave room behind them. Zeros: a masked NaN would still spoil a sum."""
        self._buffers = [pad(tensor, (0, 0, 0, ROOM)) for tensor in (keys, values)]
        self.keys, self.values = (buffer[:, :, : keys.shape[2]] for buffer in self._buffers)

    def select(self, rows: Tensor, start: int = 0) -> None:
        """Keep these rows, repeated if named twice, from position `start` on."""
        held = (self.keys, self.values)
        self.hold(*(tensor[:, :, start:].index_select(0, rows) for tensor in held))

    def join(self, other: GrowingLayer, length: int) -> None:
        """Append the other's rows, the shorter ones padded on the left to `length`."""
        pairs = ((self.keys, other.keys), (self.values, other.values))
        self.hold(
            *(
                torch.cat([pad(each, (0, 0, length - each.shape[2], 0)) for each in pair])
                for pair in pairs
            )
        )


class Batch:
    """Rows that are decoded together under one adapter: left-padded, one cache, one token a step.
    `mask` (rows, positions) is 1 where a token is."""

    def __init__(
        self, model: Model, rows: list[Row], layers: list[GrowingLayer], mask: Tensor
    ) -> None:
        self._model, self._layers = model, layers
        self._set_rows(rows, mask)

    def _set_rows(self, rows: list[Row], mask: Tensor) -> None:
        self.rows, self._mask = rows, mask
        # Without a mask attention runs a good third faster.
        self._padded = bool((mask == 0).any())
        self._groups = grouped(rows)
        self._penalties = any(row.job.settings.penalises for row in rows)
        self._greedy = torch.tensor([[row.job.settings.temperature == 0] for row in rows])
        self._tops = max((row.job.logprobs or 0 for row in rows), default=0)

    @classmethod
    def prefill(cls, model: Model, jobs: Sequence[Job]) -> Batch:
        """Read each prompt once, share it among the job's answers, and draw their first tokens.

        A job that wants its prompt's log-probabilities must come alone.
        """
        longest = max(len(job.prompt_ids) for job in jobs)
        gaps = [longest - len(job.prompt_ids) for job in jobs]
        ids = [[0] * gap + job.prompt_ids for gap, job in zip(gaps, jobs, strict=True)]
        mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps])
        layers = [GrowingLayer() for _ in range(model.network.config.num_hidden_layers)]  # type: ignore[no-untyped-call]
        wants_prompt = jobs[0].settings.prompt_logprobs is not None
        logits = model.network(
            input_ids=torch.tensor(ids),
            attention_mask=mask if any(gaps) else None,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=Cache(list(layers)),
            use_cache=True,
            logits_to_keep=0 if wants_prompt else 1,
        ).logits
        if wants_prompt:
            # At temperature 1; the first token follows nothing.
            following = torch.tensor(jobs[0].prompt_ids[1:], dtype=torch.long)[:, None]
            own = logits[0, :-1].log_softmax(-1).gather(-1, following)
            jobs[0].prompt_logprobs = [None, *own[:, 0].tolist()]
        owners = torch.tensor([at for at, job in enumerate(jobs) for _ in job.rows])
        for layer in layers:
            layer.select(owners)
        batch = cls(model, [row for job in jobs for row in job.rows], layers, mask[owners])
        batch._draw(logits[owners, -1])
        return batch

    def step(self) -> None:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.rows), 1)], dim=-1)
        logits = self._model.network(
            input_ids=torch.tensor([row.token_ids[-1:] for row in self.rows]),
            attention_mask=self._mask if self._padded else None,
            position_ids=self._mask.sum(-1, keepdim=True) - 1,
            past_key_values=Cache(list(self._layers)),
            use_cache=True,
        ).logits
        self._draw(logits[:, -1])

    def drop_finished(self) -> None:
        alive = [at for at, row in enumerate(self.rows) if row.alive]
        if len(alive) == len(self.rows):
            return
        mask = self._mask[alive]
        # Padding that only the departed needed goes with them.
        start = int(mask.argmax(-1).min()) if alive else 0
        for layer in self._layers:
            layer.select(torch.tensor(alive, dtype=torch.long), start)
        self._set_rows([self.rows[at] for at in alive], mask[:, start:])

    def join(self, newer: Batch) -> None:
        """Append the other's rows; both end at the same position, the shorter is padded left."""
        length = max(self._mask.shape[1], newer._mask.shape[1])
        for layer, other in zip(self._layers, newer._layers, strict=True):
            layer.join(other, length)
        masks = [pad(mask, (length - mask.shape[1], 0)) for mask in (self._mask, newer._mask)]
        self._set_rows(self.rows + newer.rows, torch.cat(masks))

    def _draw(self, logits: Tensor) -> None:
        if self._penalties:
            logits = penalised(logits, self.rows)
        logprobs = processed_logprobs(logits, self._groups)
        uniforms = torch.tensor([[row.random()] for row in self.rows], dtype=torch.float64)
        drawn = torch.where(self._greedy, logits.argmax(-1, keepdim=True), draw(logprobs, uniforms))
        tops: list[list[tuple[int, float]]] = [[] for _ in self.rows]
        if self._tops:
            shares, tokens = logprobs.topk(min(self._tops, logprobs.shape[-1]))
            pairs = zip(tokens.tolist(), shares.tolist(), strict=True)
            tops = [list(zip(*pair, strict=True)) for pair in pairs]
        chosen = logprobs.gather(-1, drawn)[:, 0].tolist()
        for row, token, logprob, top in zip(
            self.rows, drawn[:, 0].tolist(), chosen, tops, strict=True
        ):
            if not row.finish:
                row.push(token, logprob, top)


Group = tuple[LogitsProcessorList, list[int]]
"""What is done to logits, and the rows to which."""


def grouped(rows: Sequence[Row]) -> list[Group]:
    groups: dict[tuple[float, float, int, float], list[int]] = {}
    for at, row in enumerate(rows):
        s = row.job.settings
        # A greedy answer's log-probabilities are those at temperature 1, unfiltered.
        key = (s.temperature, s.min_p, s.top_k, s.top_p) if s.temperature else (1.0, 0.0, 0, 1.0)
        groups.setdefault(key, []).append(at)
    found: list[Group] = []
    for (temperature, min_p, top_k, top_p), rows_at in groups.items():
        processors = LogitsProcessorList()  # in vLLM's order
        if temperature != 1:
            processors.append(TemperatureLogitsWarper(temperature))
        if min_p > 0:
            processors.append(MinPLogitsWarper(min_p))
        if top_k > 0:
            processors.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            processors.append(TopPLogitsWarper(top_p))
        found.append((processors, rows_at))
    return found


def processed_logprobs(logits: Tensor, groups: Sequence[Group]) -> Tensor:
    """Return the log-probabilities (rows, vocabulary) of the distributions to draw from."""
    logprobs = torch.empty_like(logits)
    for processors, at in groups:
        logprobs[at] = processors(None, logits[at]).log_softmax(-1)  # type: ignore[arg-type]
    return logprobs


def draw(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    """Return a token for each row of `logprobs` (rows, vocabulary); `uniforms` (rows, 1) in [0, 1)
    decide."""
    # float64: rounding must not give a token of probability 0 a share of the line.
    line = logprobs.double().exp_().cumsum(-1)
    drawn = torch.searchsorted(line, uniforms * line[:, -1:], right=True)
    return drawn.clamp_(max=logprobs.shape[-1] - 1)


def penalised(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Return the logits (rows, vocabulary) after minimum length and penalties, in vLLM's order.
    Repetition counts the prompt as well, the others the answer alone."""
    logits = logits.clone()
    for at, row in enumerate(rows):
        s = row.job.settings
        if len(row.token_ids) < s.min_tokens:
            logits[at, [end for end in row.job.end_ids if 0 <= end < logits.shape[-1]]] = -torch.inf
        if s.repetition_penalty != 1:
            seen = torch.tensor([row.job.prompt_ids + row.token_ids])
            repeated = RepetitionPenaltyLogitsProcessor(s.repetition_penalty)
            logits[at] = repeated(seen, logits[at : at + 1])[0]
        if s.frequency_penalty or s.presence_penalty:
            answer = torch.tensor(row.token_ids, dtype=torch.long)
            counts = torch.bincount(answer, minlength=logits.shape[-1])
            logits[at] -= s.frequency_penalty * counts + s.presence_penalty * (counts > 0)
    return logits


@dataclass(eq=False)
class Lane:
    """The work of one adapter at one priority: what waits, and the batch that is being decoded."""

    adapter: Adapter | None
    priority: int
    waiting: deque[Job] = field(default_factory=deque)
    batch: Batch | None = None
    turn: int = 0

    def admit(self) -> list[Job]:
        jobs: list[Job] = []
        rows, longest = len(self.batch.rows) if self.batch else 0, 0
        while self.waiting:
            job = self.waiting[0]
            longest = max(longest, len(job.prompt_ids))
            alone = job.settings.prompt_logprobs is not None
            # Something always starts on an empty lane, however large it is.
            if (rows and rows + len(job.rows) > MAX_ROWS) or (
                jobs and (alone or longest * (len(jobs) + 1) > PREFILL_TOKENS)
            ):
                break
            self.waiting.popleft()
            if job.abandoned:
                continue
            job.started = True
            jobs.append(job)
            rows += len(job.rows)
            if alone:
                break
        return jobs


class Scheduler:
    """Between any two tokens it turns to the lane with the lowest priority number, among equals to
    the one that has waited longest. So a newcomer waits for one step, never for a batch, and low
    priorities stand still while higher ones have work. Everything but the model's steps, which a
    thread makes, happens on the event loop."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lanes: dict[tuple[int, Adapter | None], Lane] = {}
        self._open: set[Job] = set()
        self._arrived = asyncio.Event()
        self.ended = False
        self._turn = 0
        self.registry = CollectorRegistry()
        for at, name in enumerate(("running", "waiting")):
            gauge = Gauge(f"vllm:num_requests_{name}", f"Answers {name}.", registry=self.registry)
            gauge.set_function(partial(lambda at: self._counts()[at], at))
        self._read = Counter("vllm:prompt_tokens", "Prompt tokens read.", registry=self.registry)
        self._written = Counter("vllm:generation_tokens", "Tokens written.", registry=self.registry)

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs; they fail at once when the loop has ended."""
        for job in jobs:
            if self.ended:
                _fail(job)
                continue
            self._open.add(job)
            key = (job.settings.priority, job.adapter)
            lane = self._lanes.setdefault(key, Lane(job.adapter, job.settings.priority))
            lane.waiting.append(job)
            self._arrived.set()

    def close(self, jobs: Iterable[Job]) -> None:
        """Forget jobs; nobody waits any more for what is unfinished."""
        for job in jobs:
            job.abandoned |= not job.done
            self._open.discard(job)

    async def run(self) -> None:
        """Answer jobs until cancelled. Unfinished ones fail."""
        loop = asyncio.get_running_loop()
        # A pool of one: torch has threads of its own for each thread that uses it.
        with ThreadPoolExecutor(1, thread_name_prefix="model") as thread:
            try:
                while True:
                    busy = {
                        k: lane for k, lane in self._lanes.items() if lane.waiting or lane.batch
                    }
                    self._lanes = busy
                    if not busy:
                        self._arrived.clear()
                        await self._arrived.wait()
                        continue
                    lane = min(busy.values(), key=lambda lane: (lane.priority, lane.turn))
                    self._turn += 1
                    lane.turn = self._turn
                    jobs = lane.admit()
                    for job in await loop.run_in_executor(thread, self._advance, lane, jobs):
                        if job.done or job.settings.stream:
                            job.news.set()
            finally:
                self.ended = True
                for job in self._open:
                    if not job.done:
                        _fail(job)

    @torch.inference_mode()
    def _advance(self, lane: Lane, jobs: Sequence[Job]) -> Iterable[Job]:
        """Start these jobs, or else make a step; return the jobs that got tokens."""
        self._model.adapter = lane.adapter
        if jobs:
            fresh = Batch.prefill(self._model, jobs)
            self._read.inc(sum(len(job.prompt_ids) for job in jobs))
            self._written.inc(len(fresh.rows))
            if lane.batch:
                lane.batch.drop_finished()
            if lane.batch and lane.batch.rows:
                lane.batch.join(fresh)
            else:
                lane.batch = fresh
        elif lane.batch:
            self._written.inc(sum(row.alive for row in lane.batch.rows))
            lane.batch.step()
        batch = lane.batch
        if not batch:
            return ()
        advanced = dict.fromkeys(row.job for row in batch.rows)
        if sum(row.alive for row in batch.rows) < len(batch.rows) * KEEP_SHARE:
            batch.drop_finished()
        if not batch.rows:
            lane.batch = None
        return advanced

    def _counts(self) -> tuple[int, int]:
        """Return the answers that are running and waiting. What has begun waits as well while it
        stands still because others go first: vLLM would have pre-empted it."""
        left = {job: sum(not row.finish for row in job.rows) for job in self._open if not job.done}
        first = min((job.settings.priority for job in left), default=0)
        running = sum(
            rows for job, rows in left.items() if job.started and job.settings.priority == first
        )
        return running, sum(left.values()) - running


def _fail(job: Job) -> None:
    job.failed = True
    job.news.set()
