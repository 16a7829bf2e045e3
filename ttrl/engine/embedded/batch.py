"""Rows that are decoded together under one adapter: left-padded, one cache, one token a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ttrl.engine.embedded.cache import Cache
from ttrl.engine.embedded.sampling import Knobs, draw, uniforms_for
from ttrl.engine.embedded.work import Job, Ranked, Row

KEEP_SHARE = 0.75
"""Finished rows stay in the batch, computed for nothing, until fewer than this share are alive:
leaving costs a copy of the whole cache."""


class Batch:
    """`mask` (rows, positions) is 1 where a token is; `tokens` (rows, 1) are the newest ones, not
    yet fed to the model; `positions` (rows, 1) are theirs."""

    def __init__(
        self,
        model: PreTrainedModel,
        rows: list[Row],
        cache: Cache,
        mask: Tensor,
        tokens: Tensor,
        positions: Tensor,
    ) -> None:
        self.rows = rows
        self._model = model
        self._cache = cache
        self._mask, self._tokens, self._positions = mask, tokens, positions
        self._padded = bool((mask == 0).any())
        self._knobs = Knobs.of(rows)

    @classmethod
    def prefill(cls, model: PreTrainedModel, jobs: Sequence[Job]) -> Batch:
        """Read each prompt once, share it among the job's answers, and draw their first tokens.

        A job that wants its prompt's log-probabilities must come alone.
        """
        ids, mask = _pad_left([job.order.prompt_ids for job in jobs])
        cache = Cache(model.config)
        wants_prompt = jobs[0].order.prompt_logprobs is not None
        logits = model(
            input_ids=ids,
            attention_mask=None if bool(mask.all()) else mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=0 if wants_prompt else 1,
        ).logits
        if wants_prompt:
            jobs[0].prompt_logprobs = _prompt_logprobs(logits[0], jobs[0])
        owners = torch.tensor([at for at, job in enumerate(jobs) for _ in job.rows])
        if len(owners) > len(jobs):
            cache.select(owners)
        rows = [row for job in jobs for row in job.rows]
        mask = mask[owners]
        batch = cls(model, rows, cache, mask, ids[owners, -1:], mask.sum(-1, keepdim=True) - 1)
        batch._take(logits[owners, -1])
        return batch

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def jobs(self) -> Iterable[Job]:
        """Whose rows these are, each once."""
        return dict.fromkeys(row.job for row in self.rows)

    @property
    def alive(self) -> int:
        """Rows that go on and that somebody waits for."""
        return sum(_alive(row) for row in self.rows)

    def step(self) -> None:
        """One more token for every row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=-1)
        logits = self._model(
            input_ids=self._tokens,
            # Without a mask attention runs a good third faster.
            attention_mask=self._mask if self._padded else None,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        self._take(logits[:, -1])

    def tidy(self) -> None:
        """Let the rows go that are done, when enough are."""
        if self.alive < len(self) * KEEP_SHARE:
            self._keep_alive()

    def join(self, newer: Batch) -> Batch:
        """Both batches as one."""
        self._keep_alive()
        if not self.rows:
            return newer
        self._cache.join(newer._cache)
        length = max(self._mask.shape[1], newer._mask.shape[1])
        masks = [
            torch.nn.functional.pad(mask, (length - mask.shape[1], 0))
            for mask in (self._mask, newer._mask)
        ]
        return Batch(
            self._model,
            self.rows + newer.rows,
            self._cache,
            torch.cat(masks),
            torch.cat([self._tokens, newer._tokens]),
            torch.cat([self._positions, newer._positions]),
        )

    def _take(self, logits: Tensor) -> None:
        drawn = draw(logits, self._knobs, uniforms_for(self.rows))
        tops: Sequence[list[tuple[int, float]] | None] = drawn.tops or [None] * len(self)
        tokens = drawn.tokens[:, 0].tolist()
        for row, token, logprob, top in zip(self.rows, tokens, drawn.logprobs, tops, strict=True):
            if not row.finish:
                row.push(token, logprob, top)
        self._tokens = drawn.tokens
        self._positions = self._positions + 1

    def _keep_alive(self) -> None:
        alive = [at for at, row in enumerate(self.rows) if _alive(row)]
        if len(alive) == len(self):
            return
        if not alive:
            self.rows = []
            return
        chosen = torch.tensor(alive)
        self.rows = [self.rows[at] for at in alive]
        self._knobs = Knobs.of(self.rows)
        self._tokens, self._positions = self._tokens[chosen], self._positions[chosen]
        # Padding that only the departed needed goes with them.
        start = int(self._mask[chosen].argmax(-1).min())
        self._mask = self._mask[chosen, start:]
        self._padded = bool((self._mask == 0).any())
        self._cache.select(chosen, start)


def _alive(row: Row) -> bool:
    return not row.finish and not row.job.abandoned


def _pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    length = max(map(len, prompts))
    padded = [[0] * (length - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(padded), torch.tensor(mask)


def _prompt_logprobs(logits: Tensor, job: Job) -> list[Ranked | None]:
    """For each prompt token after the first: itself and the likeliest ones, at temperature 1."""
    order = job.order
    logprobs = logits[:-1].float().log_softmax(-1)
    actual = torch.tensor(order.prompt_ids[1:], dtype=torch.long)[:, None]
    own = logprobs.gather(-1, actual)
    ranks = (logprobs > own).sum(-1) + 1
    entries: list[Ranked | None] = [None]
    values, tokens = logprobs.topk(min(order.prompt_logprobs or 0, logprobs.shape[-1]))
    columns = (order.prompt_ids[1:], own[:, 0].tolist(), ranks.tolist(), tokens.tolist())
    for token, logprob, rank, others, shares in zip(*columns, values.tolist(), strict=True):
        ranked = [(token, logprob, rank)]
        ranked += [(t, lp, at + 1) for at, (t, lp) in enumerate(zip(others, shares, strict=True))]
        entries.append(ranked)
    return entries
