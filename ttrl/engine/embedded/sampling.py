"""From logits to tokens: all rows of a batch at once, each with its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ttrl.engine.embedded.work import Row


@dataclass(frozen=True)
class Knobs:
    """The rows' sampling settings as columns (rows, 1). `filters` says whether any row limits what
    may be drawn, `tops` how many alternatives the most curious row wants to see."""

    greedy: Tensor
    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    min_p: Tensor
    filters: bool
    tops: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Knobs:
        orders = [row.job.order for row in rows]
        drawn = [order for order in orders if order.temperature > 0]
        return cls(
            greedy=_column([order.temperature == 0 for order in orders]),
            # A greedy answer's log-probabilities are those at temperature 1, unfiltered.
            temperature=_column([order.temperature or 1.0 for order in orders]),
            top_p=_column([order.top_p if order.temperature else 1.0 for order in orders]),
            top_k=_column([order.top_k if order.temperature else 0 for order in orders]),
            min_p=_column([order.min_p if order.temperature else 0.0 for order in orders]),
            filters=any(o.top_p < 1 or o.top_k > 0 or o.min_p > 0 for o in drawn),
            tops=max((order.logprobs or 0 for order in orders), default=0),
        )


@dataclass(frozen=True)
class Drawn:
    """One new token for each row, its log-probability, and the likeliest ones if asked for."""

    tokens: Tensor
    logprobs: list[float]
    tops: list[list[tuple[int, float]]] | None


def draw(logits: Tensor, knobs: Knobs, uniforms: Tensor) -> Drawn:
    """A token per row of `logits` (rows, vocabulary); `uniforms` (rows, 1) in [0, 1) decide.

    The log-probabilities are those of the distribution that was drawn from.
    """
    logprobs = processed_logprobs(logits, knobs)
    # float64: rounding must not give a token of probability 0 a share of the line.
    line = logprobs.double().exp_().cumsum(-1)
    drawn = torch.searchsorted(line, uniforms * line[:, -1:], right=True)
    drawn.clamp_(max=logprobs.shape[-1] - 1)
    tokens = torch.where(knobs.greedy, logits.argmax(-1, keepdim=True), drawn)
    return Drawn(tokens, logprobs.gather(-1, tokens)[:, 0].tolist(), _tops(logprobs, knobs.tops))


def processed_logprobs(logits: Tensor, knobs: Knobs) -> Tensor:
    """After temperature, min-p, top-k and top-p, in the engine's order."""
    scaled = logits.float() / knobs.temperature
    if knobs.filters:
        scaled = scaled.masked_fill(_excluded(scaled, knobs), -torch.inf)
    return scaled.log_softmax(-1)


def uniforms_for(rows: Sequence[Row]) -> Tensor:
    """(rows, 1) random numbers. A seeded request draws its own, for all of its answers each time,
    so that they do not depend on what shares the batch or has finished."""
    numbers = torch.rand(len(rows), 1, dtype=torch.float64)
    own: dict[int, Tensor] = {}
    for position, row in enumerate(rows):
        generator = row.job.generator
        if generator is not None:
            key = id(row.job)
            if key not in own:
                own[key] = torch.rand(row.job.order.n, dtype=torch.float64, generator=generator)
            numbers[position, 0] = own[key][row.index]
    return numbers


def _excluded(scaled: Tensor, knobs: Knobs) -> Tensor:
    ordered, order = scaled.sort(-1, descending=True)
    shares = ordered.softmax(-1)
    ranks = torch.arange(scaled.shape[-1])
    excluded = shares < knobs.min_p * shares[:, :1]
    excluded |= (knobs.top_k > 0) & (ranks >= knobs.top_k)
    shares = shares.masked_fill(excluded, 0.0)
    shares /= shares.sum(-1, keepdim=True)
    excluded |= (knobs.top_p < 1) & (shares.cumsum(-1) - shares >= knobs.top_p)
    return torch.zeros_like(excluded).scatter(-1, order, excluded)


def _tops(logprobs: Tensor, count: int) -> list[list[tuple[int, float]]] | None:
    if not count:
        return None
    values, tokens = logprobs.topk(min(count, logprobs.shape[-1]))
    return [
        list(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), values.tolist(), strict=True)
    ]


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None]
