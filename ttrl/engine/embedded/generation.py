"""What is asked of the model, and the loop that answers it: batches, priorities, sampling.

The loop is not `model.generate`: that admits nobody to a batch under way and lets no finished
answer leave it. Measured side by side on one core with the demo's model, 8 questions x 32 answers,
`generate` for all at once took 1.5 times as long as this loop where answers are of about one
length, and 2.6 times where they are not; `generate_batch` (continuous batching) took 28 s for 8
answers. The logits processors are the library's.
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
        if not settings.stop or len(self.drawn) <= settings.min_tokens:
            return  # as in vLLM, none counts before
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


class Window(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's keys and values in a step (2, rows, heads, positions, width), of which the last
    position is the new token's."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self._states, self.keys = states, states[0, :, :, :-1]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys, values = self._states
        keys[:, :, -1:], values[:, :, -1:] = key_states, value_states
        return keys, values


class Batch:
    """The work of one adapter at one priority: the jobs that wait, and the rows that are decoded
    together, one token a step.

    Keys and values are in one buffer for each layer (2, rows, heads, positions, width), with room
    for more rows and positions: nothing else is copied while that lasts. The newest token of every
    row is at the same position, `_end - 1`; shorter rows begin later."""

    def __init__(self, model: Model, adapter: Adapter | None) -> None:
        self.waiting: deque[Job] = deque()
        self.rows: list[Row] = []
        self._model, self._adapter = model, adapter
        self._buffers: list[Tensor] = []
        self._end = 0
        self._sampler = Sampler([])

    @property
    def alive(self) -> int:
        return sum(row.alive for row in self.rows)

    def admit(self) -> list[Job]:
        """Return the jobs whose turn it is to start."""
        jobs: list[Job] = []
        rows, longest = self.alive if self.waiting else 0, 0
        while self.waiting:
            job = self.waiting[0]
            longest = max(longest, len(job.prompt_ids))
            # Something always starts on an empty batch, however large it is.
            if (rows and rows + len(job.rows) > MAX_ROWS) or (
                jobs and longest * (len(jobs) + 1) > READ_TOKENS
            ):
                break
            self.waiting.popleft()
            if not job.abandoned:
                jobs.append(job)
                rows += len(job.rows)
        return jobs

    @torch.inference_mode()
    def advance(self, jobs: Sequence[Job]) -> list[tuple[Row, Drawn]]:
        """Start these jobs, or else make a step; return the tokens that were drawn."""
        self._model.adapter = self._adapter
        if jobs or not all(row.alive for row in self.rows):
            self._drop_finished()
            started, logits = self._start(jobs) if jobs else ([], None)
            self._sampler = Sampler(self.rows)
            if logits is not None:
                return Sampler(started).draw(logits)
        return self._sampler.draw(self._step()) if self.rows else []

    def _drop_finished(self) -> None:
        """Forget finished rows; the last ones take their places."""
        alive = [at for at, row in enumerate(self.rows) if row.alive]
        moved = [at for at in alive if at >= len(alive)]
        free = sorted(set(range(len(alive))).difference(alive))
        for buffer in self._buffers:
            buffer[:, free] = buffer[:, moved]
        for place, at in zip(free, moved, strict=True):
            self.rows[place] = self.rows[at]
        del self.rows[len(alive) :]

    def _start(self, jobs: Sequence[Job]) -> tuple[list[Row], Tensor]:
        """Read each prompt once for all of its answers; return these with the logits after it."""
        longest = max(len(job.prompt_ids) for job in jobs)
        gaps = [longest - len(job.prompt_ids) for job in jobs]
        ids = [[0] * gap + job.prompt_ids for gap, job in zip(gaps, jobs, strict=True)]
        mask = torch.arange(longest) >= torch.tensor(gaps)[:, None]
        known = Cache(layer_class_to_replicate=DynamicLayer)
        wanted = any(job.settings.prompt_logprobs is not None for job in jobs)
        logits = self._model.network(
            input_ids=torch.tensor(ids),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=known,
            logits_to_keep=0 if wanted else 1,
        ).logits
        for job, gap, own in zip(jobs, gaps, logits, strict=True):
            if job.settings.prompt_logprobs is not None:
                # At temperature 1; the first token follows nothing.
                following = torch.tensor(job.prompt_ids[1:], dtype=torch.long)[:, None]
                values = own[gap:-1].log_softmax(-1).gather(-1, following).clamp(min=FLOOR)
                job.prompt_logprobs = [None, *values[:, 0].tolist()]

        rows = [row for job in jobs for row in job.rows]
        owners = torch.tensor([at for at, job in enumerate(jobs) for _ in job.rows])
        layers: list[Any] = known.layers
        if not self._buffers:
            self._buffers = [
                layer.keys.new_empty(2, 0, layer.keys.shape[1], 0, layer.keys.shape[3])
                for layer in layers
            ]
        self._make_room(len(rows), longest)
        first = len(self.rows)
        self.rows += rows
        for buffer, layer in zip(self._buffers, layers, strict=True):
            place = buffer[:, first : len(self.rows), :, self._end - longest : self._end]
            place[0], place[1] = layer.keys[owners], layer.values[owners]
        return rows, logits[owners, -1]

    def _lengths(self) -> list[int]:
        """Return the tokens of each row, with the one that the next step computes."""
        return [len(row.job.prompt_ids) + len(row.drawn) for row in self.rows]

    def _step(self) -> Tensor:
        """Return the logits after the newest tokens."""
        self._make_room(0, 0)
        self._end += 1
        lengths = torch.tensor(self._lengths())
        longest = int(lengths.max())
        window = slice(self._end - longest, self._end)
        states = [buffer[:, : len(self.rows), :, window] for buffer in self._buffers]
        logits: Tensor = self._model.network(
            input_ids=torch.tensor([[row.drawn[-1].token] for row in self.rows]),
            attention_mask=torch.arange(longest) >= longest - lengths[:, None],
            position_ids=lengths[:, None] - 1,
            past_key_values=Cache(list(map(Window, states))),
        ).logits
        return logits[:, -1]

    def _make_room(self, more: int, length: int) -> None:
        """Have buffers for so many more rows of this length, and for another token of each."""
        held, room, positions = len(self.rows), *self._buffers[0].shape[1:4:2]
        rows = held + more
        if rows <= room and length <= self._end < positions:
            return
        kept = min(self._end, max(self._lengths(), default=0))
        end = max(kept, length)
        if rows > room:
            room = max(rows, min(2 * room, MAX_ROWS))
        for at, old in enumerate(self._buffers):
            # Zeros: a masked NaN would still spoil a sum.
            new = old.new_zeros(2, room, old.shape[2], end + ROOM, old.shape[4])
            new[:, :held, :, end - kept : end] = old[:, :held, :, self._end - kept : self._end]
            self._buffers[at] = new
        self._end = end


class Sampler:
    """Draws the next tokens of some rows. What follows from their settings is worked out once."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)
        self._groups = grouped(rows)
        self._greedy = torch.tensor([[row.job.settings.temperature == 0] for row in rows])
        self._tops = max((row.job.logprobs or 0 for row in rows), default=0)

    def draw(self, logits: Tensor) -> list[tuple[Row, Drawn]]:
        """Return the next token of each row, given the model's logits (rows, vocabulary)."""
        logits = penalised(self._rows, logits)
        logprobs = processed_logprobs(self._groups, logits)
        uniforms = torch.tensor([[row.random()] for row in self._rows], dtype=torch.float64)
        drawn = torch.where(self._greedy, logits.argmax(-1, keepdim=True), pick(logprobs, uniforms))
        logprobs = logprobs.clamp(min=FLOOR)
        chosen = logprobs.gather(-1, drawn)[:, 0].tolist()
        tops: list[list[tuple[int, float]]] = [[]] * len(self._rows)
        if self._tops:
            shares, tokens = logprobs.topk(min(self._tops, logprobs.shape[-1]))
            pairs = zip(tokens.tolist(), shares.tolist(), strict=True)
            tops = [list(zip(*pair, strict=True)) for pair in pairs]
        columns = zip(self._rows, drawn[:, 0].tolist(), chosen, tops, strict=True)
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


Group = tuple[LogitsProcessorList, Sequence[int] | slice]
"""What is done to logits, and the rows to which."""


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Return the rows that are drawn alike. A greedy answer's log-probabilities are those at
    temperature 1, unfiltered."""
    groups: dict[tuple[float, float, int, float], list[int]] = {}
    for at, row in enumerate(rows):
        s = row.job.settings
        key = (s.temperature, s.min_p, s.top_k, s.top_p) if s.temperature else (1.0, 0.0, 0, 1.0)
        groups.setdefault(key, []).append(at)
    every = slice(None) if len(groups) == 1 else None  # which copies nothing
    return [(warpers(*key), every or members) for key, members in groups.items()]


def processed_logprobs(groups: Sequence[Group], logits: Tensor) -> Tensor:
    logprobs = torch.empty_like(logits)
    for processors, at in groups:
        logprobs[at] = processors(None, logits[at]).log_softmax(-1)  # type: ignore[arg-type]
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
                if not jobs and not any(row.alive for row in batch.rows):
                    del self._batches[key]
                    continue
                drawn = await loop.run_in_executor(thread, batch.advance, jobs)
                advanced = [(row, each) for row, each in drawn if row.alive]
                for row, each in advanced:
                    row.push(each)
                self._written.inc(len(advanced))
                self._read.inc(sum(len(job.prompt_ids) for job in jobs))
                for job in {
                    row.job for row, _ in advanced if row.finish or row.job.settings.stream
                }:
                    if job.done or job.settings.stream:
                        job.news.set()
