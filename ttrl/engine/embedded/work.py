"""What is asked of the model: an order, the job that fulfils it, one row for each answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ttrl.engine.embedded.lora import Adapter
from ttrl.engine.embedded.text import Detokenizer, Language

Ranked = list[tuple[int, float, int]]
"""Token, log-probability, rank (1 is the likeliest)."""


@dataclass(frozen=True)
class Order:
    """One prompt and how it is to be answered, checked and complete.

    `end_ids` end an answer; `stop_ids` are those of them that the client named. `logprobs` and
    `prompt_logprobs` say how many alternatives are wanted beside each token; None is no
    log-probabilities at all.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    end_ids: frozenset[int]
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stream: bool = False
    priority: int = 0


class Row:
    """One answer as it grows. The worker alone writes it; readers may look at any time."""

    def __init__(self, job: Job, index: int, language: Language) -> None:
        self.job = job
        self.index = index
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.tops: list[list[tuple[int, float]]] = []
        self.finish: str | None = None
        self.stop_reason: str | int | None = None
        self._language = language
        follows = job.order.stream or job.order.stop
        self._text = Detokenizer(language) if follows else None

    def push(self, token: int, logprob: float, top: list[tuple[int, float]] | None) -> None:
        """Take the next token, and notice if it is the last."""
        order = self.job.order
        if top is not None:
            self.tops.append(top)
        self.logprobs.append(logprob)
        # Last: a reader takes the number of tokens for the number of all of these.
        self.token_ids.append(token)
        if token in order.end_ids:
            self.stop_reason = token if token in order.stop_ids else None
            self._end("stop")
        elif self._text and (stop := self._text.push(token, order.stop)):
            self.stop_reason = stop
            self._end("stop")
        elif len(self.token_ids) >= order.max_tokens:
            self._end("length")

    @property
    def text(self) -> str:
        """The answer so far, without the token that ended it and without the stop string."""
        if self._text:
            return self._text.text
        ended = self.token_ids and self.token_ids[-1] in self.job.order.end_ids
        return self._language.decode(self.token_ids[:-1] if ended else self.token_ids)

    def _end(self, finish: str) -> None:
        if self._text:
            self._text.close()
        self.finish = finish


@dataclass(eq=False)
class Job:
    """An order being fulfilled under an adapter (None: the base). `notify` is called from the
    worker when there is something to read: at every token of a stream, else at the end."""

    order: Order
    adapter: Adapter | None
    language: Language
    notify: Callable[[], None]
    prompt_logprobs: Sequence[Ranked | None] | None = None
    abandoned: bool = False
    failed: bool = False
    rows: list[Row] = field(init=False)
    generator: torch.Generator | None = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [Row(self, index, self.language) for index in range(self.order.n)]
        seed = self.order.seed
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    @property
    def done(self) -> bool:
        return self.failed or self.abandoned or all(row.finish for row in self.rows)

    def abandon_unfinished(self) -> None:
        """Nobody waits for this any more."""
        self.abandoned |= not self.done
