"""What is asked of the model, and the loop that answers it: batches, priorities, sampling.

The loop is not `model.generate`: that admits nobody to a batch under way and lets no finished
answer leave it. Measured beside each other on one busy core with the demo's model, 8 questions x 32
answers: this loop 1.0 s, `generate` for all at once 5.3 s (with the cache below 5.0 s), for eight
answers at a time 6.1 s; `generate_batch` (continuous batching) took 28 s for 8 answers. The logits
processors are the library's.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from tokenizers.decoders import DecodeStream
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

INT64 = 2**63
MAX_ROWS = 512
"""The most that one batch decodes at once."""
READ_TOKENS = 2048
"""Prompts of about so many tokens are read before somebody else has a turn."""
ROOM = 64
"""Positions that a cache grows by. With the library's own layer, which copies everything for every
token, 8 questions x 32 answers took 2.4 times as long."""
KEEP_SHARE = 0.75
"""Finished rows stay in a batch until fewer than this share of it goes on: leaving copies the
cache. Letting each go at once was 3 to 6 times slower."""
FLOOR = -9999.0
"""The least log-probability: JSON has no minus infinity."""


class Settings(BaseModel):
    """How a prompt is to be answered, by the names and within the limits of vLLM's API."""

    model_config = ConfigDict(strict=True, frozen=True)

    n: int = Field(1, ge=1, le=256)
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
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    ] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    ignore_eos: bool = False
    prompt_logprobs: Literal[0] | None = None
    """No alternatives beside the prompt's own tokens."""
    stream: bool = False
    priority: int = Field(0, ge=-INT64, lt=INT64)


class Drawn(NamedTuple):
    """A token, its log-probability, and the likeliest tokens in its place."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


class Row:
    """One answer as it grows. `text` is without the token or the stop string that ended it unless
    these were asked for."""

    def __init__(self, job: Job, index: int) -> None:
        self.job = job
        self.drawn: list[Drawn] = []
        self.text = ""
        self.finish: str | None = None
        self.stop_reason: str | int | None = None
        seed = job.settings.seed
        # Each answer's own, as in vLLM, so that it does not depend on what shares the batch.
        self.random = (random if seed is None else random.Random(str(seed + index))).random
        self._decoder = DecodeStream(skip_special_tokens=job.settings.skip_special_tokens)

    @property
    def token_ids(self) -> list[int]:
        return [each.token for each in self.drawn]

    @property
    def alive(self) -> bool:
        return not self.finish and not self.job.abandoned

    def push(self, drawn: Drawn) -> None:
        settings, token, before = self.job.settings, drawn.token, len(self.text)
        self.drawn.append(drawn)
        included = settings.include_stop_str_in_output
        ended = token in self.job.end_ids
        if included or not ended:
            self.text += self._decoded(token)
        if ended:
            self.finish = "stop"
            self.stop_reason = token if token in settings.stop_token_ids else None
            return
        if len(self.drawn) >= self.job.max_tokens:
            self.finish = "length"
        if len(self.drawn) <= settings.min_tokens:
            return  # as in vLLM, no stop string counts yet
        starts = ((self.text.find(x, max(0, before - len(x) + 1)), x) for x in settings.stop)
        if ends := [(at + len(stop), stop) for at, stop in starts if at >= 0]:
            end, stop = min(ends)
            self.finish, self.stop_reason = "stop", stop
            self.text = self.text[: end if included else end - len(stop)]

    def _decoded(self, token: int) -> str:
        """Return the text that this token completes; a character's last token has it all."""
        tokenizer = self.job.model.tokenizer.backend_tokenizer
        try:
            return self._decoder.step(tokenizer, token) or ""
        except Exception:  # noqa: BLE001 - its answer to bytes that are no UTF-8
            self._decoder = DecodeStream(skip_special_tokens=self.job.settings.skip_special_tokens)
            return self._decoder.step(tokenizer, token) or ""


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
    abandoned: bool = False

    def __post_init__(self) -> None:
        ends = frozenset() if self.settings.ignore_eos else self.model.end_ids
        self.end_ids = ends | set(self.settings.stop_token_ids)
        self.rows = [Row(self, index) for index in range(self.settings.n)]

    @property
    def done(self) -> bool:
        return not any(row.alive for row in self.rows)


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values as views of a buffer (2, rows, heads, positions, width) with room behind."""

    def __init__(self, buffer: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self._show(buffer, buffer.shape[3])

    def _show(self, buffer: Tensor, length: int) -> None:
        self._buffer, self.states = buffer, buffer[:, :, :, :length]
        self.keys, self.values = self.states.unbind()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        buffer, end = self._buffer, self.states.shape[3] + 1  # one token a step
        if end > buffer.shape[3]:
            # Zeros: a masked NaN would still spoil a sum.
            buffer = pad(buffer, (0, 0, 0, ROOM))
        buffer[:, :, :, end - 1 : end] = torch.stack([key_states, value_states])
        self._show(buffer, end)
        return self.states[0], self.states[1]


class Part(NamedTuple):
    """Rows, their mask (rows, positions), 1 where a token is, and of each layer what was computed
    for them (2, rows, heads, positions, width)."""

    rows: list[Row]
    mask: Tensor
    states: list[Tensor]


class Batch:
    """The work of one adapter at one priority: the jobs that wait, and the rows that are decoded
    together. These are left-padded, with one cache, and get one token a step; `mask` (rows,
    positions) is 1 where a token is."""

    def __init__(self, model: Model, adapter: Adapter | None) -> None:
        self.waiting: deque[Job] = deque()
        self.rows: list[Row] = []
        self._model, self._adapter = model, adapter
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self._layers: list[GrowingLayer] = []

    @property
    def alive(self) -> int:
        return sum(row.alive for row in self.rows)

    def admit(self) -> list[Job]:
        """Return the jobs whose turn it is to start."""
        jobs: list[Job] = []
        rows, tokens = self.alive, 0
        while self.waiting and tokens < READ_TOKENS:
            # Something always starts on an empty batch, however large it is.
            if rows and rows + len(self.waiting[0].rows) > MAX_ROWS:
                break
            job = self.waiting.popleft()
            if not job.abandoned:
                jobs.append(job)
                rows += len(job.rows)
                tokens += len(job.prompt_ids)
        return jobs

    @torch.inference_mode()
    def advance(self, jobs: Sequence[Job]) -> list[tuple[Row, Drawn]]:
        """Start these jobs, or else make a step; return the tokens that were drawn."""
        self._model.adapter = self._adapter
        kept = [at for at, row in enumerate(self.rows) if row.alive]
        started = [self._read(job) for job in jobs]
        if jobs or len(kept) < len(self.rows) * KEEP_SHARE:
            states = [layer.states[:, kept] for layer in self._layers]
            own = Part([self.rows[at] for at in kept], self._mask[kept], states)
            self._regroup([part for part in (own, *(part for part, _ in started)) if part.rows])
        if jobs:
            rows = [row for job in jobs for row in job.rows]
            return draw(rows, torch.cat([logits for _, logits in started]))
        if not self.rows:
            return []
        self._mask = pad(self._mask, (0, 1), value=1)
        logits = self._model.network(
            input_ids=torch.tensor([[row.drawn[-1].token] for row in self.rows]),
            # Without a mask attention runs a good third faster.
            attention_mask=None if self._mask.all() else self._mask,
            position_ids=self._mask.sum(-1, keepdim=True) - 1,
            past_key_values=Cache(list(self._layers)),
        ).logits
        return draw(self.rows, logits[:, -1])

    def _read(self, job: Job) -> tuple[Part, Tensor]:
        """Read a prompt once for all of its answers; return its last logits for each as well."""
        known = Cache(layer_class_to_replicate=DynamicLayer)
        wanted = job.settings.prompt_logprobs is not None
        logits = self._model.network(
            input_ids=torch.tensor([job.prompt_ids]),
            past_key_values=known,
            logits_to_keep=0 if wanted else 1,
        ).logits[0]
        if wanted:
            # At temperature 1; the first token follows nothing.
            following = torch.tensor(job.prompt_ids[1:], dtype=torch.long)[:, None]
            own = logits[:-1].log_softmax(-1).gather(-1, following).clamp(min=FLOOR)
            job.prompt_logprobs = [None, *own[:, 0].tolist()]
        answers = len(job.rows)
        mask = torch.ones(answers, len(job.prompt_ids), dtype=torch.long)
        layers: list[Any] = known.layers
        both = (torch.stack([layer.keys, layer.values]) for layer in layers)
        states = [each.expand(-1, answers, -1, -1, -1) for each in both]
        return Part(job.rows, mask, states), logits[-1:].expand(answers, -1)

    def _regroup(self, parts: Sequence[Part]) -> None:
        """Go on with these rows, with as little padding on the left as the longest allows."""
        length = max((int(part.mask.sum(-1).max()) for part in parts), default=0)
        self.rows = [row for part in parts for row in part.rows]
        masks = [pad(part.mask, (length - part.mask.shape[1], 0)) for part in parts]
        self._mask = torch.cat(masks) if masks else self._mask[:0]
        self._layers = [
            GrowingLayer(
                torch.cat([pad(each, (0, 0, length - each.shape[3], 0)) for each in same], dim=1)
            )
            for same in zip(*(part.states for part in parts), strict=True)
        ]


def draw(rows: Sequence[Row], logits: Tensor) -> list[tuple[Row, Drawn]]:
    """Return the next token of each row, given the model's logits (rows, vocabulary)."""
    logits = penalised(rows, logits)
    logprobs = processed_logprobs(rows, logits)
    uniforms = torch.tensor([[row.random()] for row in rows], dtype=torch.float64)
    greedy = torch.tensor([[row.job.settings.temperature == 0] for row in rows])
    drawn = torch.where(greedy, logits.argmax(-1, keepdim=True), pick(logprobs, uniforms))
    logprobs = logprobs.clamp(min=FLOOR)
    chosen = logprobs.gather(-1, drawn)[:, 0].tolist()
    wanted = max(row.job.logprobs or 0 for row in rows)
    shares, tokens = logprobs.topk(min(wanted, logprobs.shape[-1]))
    tops = [
        list(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), shares.tolist(), strict=True)
    ]
    columns = zip(rows, drawn[:, 0].tolist(), chosen, tops, strict=True)
    return [
        (row, Drawn(token, logprob, top[: row.job.logprobs or 0]))
        for row, token, logprob, top in columns
    ]


def penalised(rows: Sequence[Row], logits: Tensor) -> Tensor:
    """Return the logits after minimum length and penalties, in vLLM's order. Repetition counts the
    prompt as well, the others the answer alone."""
    logits = logits.clone()
    for at, row in enumerate(rows):
        s = row.job.settings
        if len(row.drawn) < s.min_tokens:
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


def processed_logprobs(rows: Sequence[Row], logits: Tensor) -> Tensor:
    """Return the log-probabilities of the distributions to draw from. A greedy answer's are those
    at temperature 1, unfiltered."""
    groups: dict[tuple[float, float, int, float], list[int]] = {}
    for at, row in enumerate(rows):
        s = row.job.settings
        key = (s.temperature, s.min_p, s.top_k, s.top_p) if s.temperature else (1.0, 0.0, 0, 1.0)
        groups.setdefault(key, []).append(at)
    logprobs = torch.empty_like(logits)
    for key, members in groups.items():
        logprobs[members] = warpers(*key)(None, logits[members]).log_softmax(-1)  # type: ignore[arg-type]
    return logprobs


@cache
def warpers(temperature: float, min_p: float, top_k: int, top_p: float) -> LogitsProcessorList:
    found: list[Any] = [TemperatureLogitsWarper(temperature)]  # in vLLM's order
    found += [MinPLogitsWarper(min_p)] if min_p else []
    found += [TopKLogitsWarper(top_k)] if top_k > 0 else []
    found += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    return LogitsProcessorList(found)


def pick(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    """Return a token for each row of `logprobs` (rows, vocabulary); `uniforms` (rows, 1) in [0, 1)
    decide."""
    # float64: rounding must not give a token of probability 0 a share of the line.
    line = logprobs.double().exp_().cumsum(-1)
    picked = torch.searchsorted(line, uniforms * line[:, -1:], right=True)
    return picked.clamp_(max=logprobs.shape[-1] - 1)


class Scheduler:
    """Between any two tokens it turns to the batch with the lowest priority number, among equals to
    the one that has waited longest. So a newcomer waits for one step, never for a batch, and low
    priorities stand still while higher ones have work. Everything but the model's steps, which a
    thread makes, happens on the event loop."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._batches: dict[tuple[int, Adapter | None], Batch] = {}
        self._arrived = asyncio.Event()
        self.registry = CollectorRegistry()
        running = Gauge("vllm:num_requests_running", "Answers running.", registry=self.registry)
        running.set_function(lambda: sum(each.alive for each in self._batches.values()))
        waiting = Gauge("vllm:num_requests_waiting", "Answers waiting.", registry=self.registry)
        waiting.set_function(
            lambda: sum(len(j.rows) for each in self._batches.values() for j in each.waiting)
        )
        self._read = Counter("vllm:prompt_tokens", "Prompt tokens read.", registry=self.registry)
        self._written = Counter("vllm:generation_tokens", "Tokens written.", registry=self.registry)

    @contextmanager
    def answering(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Work on these; on leaving, nobody waits any more for what is unfinished."""
        for job in jobs:
            key = (job.settings.priority, job.adapter)
            self._batches.setdefault(key, Batch(self._model, job.adapter)).waiting.append(job)
        self._arrived.set()
        try:
            yield
        finally:
            for job in jobs:
                job.abandoned = True

    async def run(self) -> None:
        """Answer jobs until cancelled."""
        loop = asyncio.get_running_loop()
        # A pool of one: torch has threads of its own for each thread that uses it.
        with ThreadPoolExecutor(1, thread_name_prefix="model") as thread:
            while True:
                if not self._batches:
                    self._arrived.clear()
                    await self._arrived.wait()
                key = min(self._batches, key=lambda key: key[0])
                batch = self._batches[key] = self._batches.pop(key)  # now the last of its equals
                jobs = batch.admit()
                if not jobs and not batch.alive:
                    del self._batches[key]
                    continue
                drawn = await loop.run_in_executor(thread, batch.advance, jobs)
                advanced = {row.job for row, _ in drawn if row.alive}
                for row, each in drawn:
                    if row.alive:
                        row.push(each)
                        self._written.inc()
                self._read.inc(sum(len(job.prompt_ids) for job in jobs))
                for job in advanced:
                    if job.done or job.settings.stream:
                        job.news.set()
