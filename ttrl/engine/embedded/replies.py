"""Answers in vLLM's JSON: whole ones and the chunks of a stream, for chats and for completions."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttrl.engine.embedded.protocol import Ask
from ttrl.engine.embedded.text import Language
from ttrl.engine.embedded.work import Job, Ranked, Row

FLOOR = -9999.0
"""JSON has no minus infinity."""


@dataclass
class Reply(ABC):
    """What chats and completions have in common; `model` is the name that was asked for."""

    ask: Ask
    model: str
    jobs: Sequence[Job]
    language: Language
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    prefix = ""
    whole_object = ""
    chunk_object = ""

    def whole(self) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        rows = [row for job in self.jobs for row in job.rows]
        choices = [self._choice(at, row) for at, row in enumerate(rows)]
        return self._envelope(self.whole_object, choices) | {
            "usage": self._usage(),
            "system_fingerprint": None,
        }

    def opening(self) -> Iterator[dict[str, Any]]:
        """The chunks before the first token."""
        return iter(())

    def chunk(self, at: int, row: Row, cursor: Cursor) -> dict[str, Any] | None:
        """What is new in a row since `cursor`, which moves on; None if that is nothing."""
        finish, count = row.finish, len(row.token_ids)
        tokens = row.token_ids[cursor.tokens : count]
        text = cursor.text(row, finish)
        if not tokens and not finish:
            return None
        first, cursor.tokens = cursor.tokens, count
        choice = {
            "index": at,
            **self._piece(text),
            "logprobs": self._logprobs(row, first, count),
            "finish_reason": finish,
        }
        if finish:
            choice["stop_reason"] = row.stop_reason
        if self.ask.return_token_ids:
            choice["token_ids"] = tokens
        return self._envelope(self.chunk_object, [choice])

    def usage_chunk(self) -> dict[str, Any]:
        return self._envelope(self.chunk_object, []) | {"usage": self._usage()}

    def _choice(self, at: int, row: Row) -> dict[str, Any]:
        return {
            "index": at,
            "logprobs": self._logprobs(row, 0, len(row.token_ids)),
            "finish_reason": row.finish,
            "stop_reason": row.stop_reason,
            "token_ids": row.token_ids if self.ask.return_token_ids else None,
        }

    @abstractmethod
    def _piece(self, text: str) -> dict[str, Any]:
        """A choice's text in a chunk."""

    @abstractmethod
    def _logprobs(self, row: Row, start: int, end: int) -> dict[str, Any] | None:
        """Those of the tokens from `start` to `end`; None if they were not asked for."""

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(job.order.prompt_ids) for job in self.jobs)
        completion = sum(len(row.token_ids) for job in self.jobs for row in job.rows)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }


@dataclass
class Cursor:
    """How much of a row has been sent."""

    tokens: int = 0
    characters: int = 0

    def text(self, row: Row, finish: str | None) -> str:
        """The new text, but not what may turn out to be the beginning of a stop string."""
        held = 0 if finish else max((len(stop) - 1 for stop in row.job.order.stop), default=0)
        text = row.text
        end = max(self.characters, len(text) - held)
        piece, self.characters = text[self.characters : end], end
        return piece


class ChatReply(Reply):
    prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def whole(self) -> dict[str, Any]:
        (job,) = self.jobs
        ids = list(job.order.prompt_ids) if self.ask.return_token_ids else None
        return super().whole() | {
            "service_tier": None,
            "prompt_logprobs": prompt_logprobs(job.prompt_logprobs, self.language),
            "prompt_token_ids": ids,
            "kv_transfer_params": None,
        }

    def opening(self) -> Iterator[dict[str, Any]]:
        (job,) = self.jobs
        for at in range(len(job.rows)):
            choice = {
                "index": at,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            chunk = self._envelope(self.chunk_object, [choice])
            if self.ask.return_token_ids:
                chunk["prompt_token_ids"] = list(job.order.prompt_ids)
            yield chunk

    def _choice(self, at: int, row: Row) -> dict[str, Any]:
        message = {"role": "assistant", "content": row.text, "refusal": None, "reasoning": None}
        return super()._choice(at, row) | {"message": message}

    def _piece(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}}

    def _logprobs(self, row: Row, start: int, end: int) -> dict[str, Any] | None:
        wanted = row.job.order.logprobs
        if wanted is None:
            return None
        entries = []
        for at in range(start, end):
            tops = row.tops[at][:wanted] if wanted else []
            entries.append(
                self._entry(row.token_ids[at], row.logprobs[at])
                | {"top_logprobs": [self._entry(*top) for top in tops]}
            )
        return {"content": entries}

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        token = self.language.token(token_id)
        return {
            "token": token,
            "logprob": max(logprob, FLOOR),
            "bytes": list(token.encode("utf-8", errors="replace")),
        }


class CompletionReply(Reply):
    prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def _choice(self, at: int, row: Row) -> dict[str, Any]:
        job = row.job
        ids = list(job.order.prompt_ids) if self.ask.return_token_ids else None
        return super()._choice(at, row) | {
            "text": row.text,
            "prompt_logprobs": prompt_logprobs(job.prompt_logprobs, self.language),
            "prompt_token_ids": ids,
        }

    def _piece(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _logprobs(self, row: Row, start: int, end: int) -> dict[str, Any] | None:
        wanted = row.job.order.logprobs
        if wanted is None:
            return None
        span = range(start, end)
        tokens = [self.language.token(row.token_ids[at]) for at in span]
        before = sum(len(self.language.token(token)) for token in row.token_ids[:start])
        offsets = [before + sum(map(len, tokens[:at])) for at in range(len(tokens))]
        return {
            "text_offset": offsets,
            "token_logprobs": [max(row.logprobs[at], FLOOR) for at in span],
            "tokens": tokens,
            "top_logprobs": [self._tops(row, at, wanted) for at in span],
        }

    def _tops(self, row: Row, at: int, wanted: int) -> dict[str, float]:
        """The sampled token and, beside it, the likeliest."""
        pairs = [(row.token_ids[at], row.logprobs[at])]
        if wanted:
            pairs += row.tops[at][:wanted]
        return {self.language.token(token): max(logprob, FLOOR) for token, logprob in pairs}


def prompt_logprobs(
    entries: Sequence[Ranked | None] | None, language: Language
) -> list[dict[str, Any] | None] | None:
    """By token id, as vLLM has it: None for the first token, which follows nothing."""
    if entries is None:
        return None
    return [None if entry is None else _ranked(entry, language) for entry in entries]


def _ranked(entry: Ranked, language: Language) -> dict[str, Any]:
    return {
        str(token): {
            "logprob": max(logprob, FLOOR),
            "rank": rank,
            "decoded_token": language.token(token),
        }
        for token, logprob, rank in entry
    }
