"""How users sample, how to evaluate as they do, and what of it training samples share.

A question carries the fields of its request that decide how tokens are drawn and where an answer
ends, as its user sent them. What a user left out is left out again, so that the engine fills it in
from the model's `generation_config.json`, as it does for users. Fields that shape the prompt or the
form of the answer belong to the question itself (ttrl.questions.question.SHAPING_FIELDS).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

STOPS, STOP_CHARS = 16, 256
"""Texts in one field at most, and characters of each."""
TOKENS, NAME_CHARS = 1024, 32
"""Tokens that one field may list at most, and characters of the name of one or of a number."""
LARGEST = 2**63
"""vLLM's integers have 64 bits."""

Sent = Mapping[str, Any]
"""Fields of a request by their names in vLLM's API (0.32)."""

Whole = Annotated[StrictInt, Field(ge=-LARGEST, lt=LARGEST)]
Number = Whole | Annotated[StrictFloat, Field(ge=-LARGEST, lt=LARGEST)]  # no NaN is
Text = Annotated[StrictStr, Field(max_length=STOP_CHARS)]
Texts = Annotated[list[Text], Field(strict=True, max_length=STOPS)]
Name = Annotated[StrictStr, Field(max_length=NAME_CHARS)]

_number, _whole, _flag = TypeAdapter(Number), TypeAdapter(Whole), TypeAdapter(StrictBool)
_texts, _stops = TypeAdapter(Texts), TypeAdapter(Text | Texts)
_tokens = TypeAdapter(Annotated[list[Whole], Field(strict=True, max_length=TOKENS)])
_by_name = TypeAdapter(Annotated[dict[Name, Number], Field(strict=True, max_length=TOKENS)])
Types = Mapping[str, TypeAdapter[Any]]

DRAWING: Types = {
    "temperature": _number,
    "top_p": _number,
    "top_k": _whole,
    "min_p": _number,
    "frequency_penalty": _number,
    "presence_penalty": _number,
    "repetition_penalty": _number,
}
"""How tokens are drawn. Training samples do not share these: the log-probabilities of the trainer
must be those of the distribution that was drawn from."""
LENGTH: Types = {"max_tokens": _whole, "max_completion_tokens": _whole}
"""How long an answer may be."""
ENDING: Types = {
    "stop": _stops,
    "stop_token_ids": _tokens,
    "include_stop_str_in_output": _flag,
    "min_tokens": _whole,
    "skip_special_tokens": _flag,
}
"""Where an answer ends, and what of its end is text. Training samples share these. A stop string
can only be found in special tokens where these are part of the text. Before `min_tokens` vLLM gives
the tokens that would end an answer no chance: of the others its log-probabilities are above the
trainer's by as much, which the importance weights correct."""
PROMPTS_OWN: Types = {
    "ignore_eos": _flag,
    "bad_words": _texts,
    "allowed_token_ids": _tokens,
    "logit_bias": _by_name,
    "thinking_token_budget": _whole,
    "repetition_detection": _by_name,
    "watermarking": _flag,
}
"""What else changes which tokens come: only users and evaluation sample with it. `ignore_eos` is
here because no answer would ever end."""
FIELDS: Types = {**DRAWING, **LENGTH, **ENDING, **PROMPTS_OWN}
"""All that is recorded, with what a value must be. `seed`, `n` and the like are not: evaluation
draws anew and decides itself how often. Nor is `use_beam_search`, which draws nothing."""
BORROWED = frozenset(DRAWING)
"""What a question that nobody asked takes over from one that somebody did. Lengths, stop strings
and lists of tokens belong to the prompt that they were sent with: under the `max_tokens` of a
classifier's prompt every answer to another one is cut off."""

SHOWN = 3
"""Temperatures that a line for people names."""


def sampling_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded fields of a request as they were sent. A value that is null, of another
    type or too large is left out."""
    found = {}
    for name in (name for name in FIELDS if name in request):
        with suppress(ValidationError):
            FIELDS[name].validate_python(request[name])
            found[name] = request[name]
    return found


def ends(sent: Sent | None, max_tokens: int) -> dict[str, Any]:
    """Return the fields by which a user's answer ends, for samples of at most `max_tokens`."""
    found = {name: value for name, value in (sent or {}).items() if name in ENDING}
    if found.get("min_tokens", 0) > max_tokens:  # vLLM refuses it
        del found["min_tokens"]
    return found


@dataclass(frozen=True)
class Regime:
    """How one question is asked when it is evaluated: `fields` are sent, and no others.
    `users_length` says that its user chose how long an answer may be, so that one that ends there
    is all that the user gets."""

    fields: Sent
    users_length: bool = False

    @property
    def greedy(self) -> bool:
        """Whether asking twice gives the same answer: vLLM (0.32) samples at any temperature but
        0."""
        return self.fields.get("temperature") == 0 or self.fields.get("top_k") == 1

    @property
    def open(self) -> bool:
        """Whether the engine's defaults decide the temperature."""
        return "temperature" not in self.fields

    @property
    def max_tokens(self) -> int:
        """Tokens of an answer at most. As in vLLM, the newer name goes first."""
        fields = self.fields
        return int(fields.get("max_completion_tokens") or fields["max_tokens"])

    def at_zero(self) -> Regime:
        return replace(self, fields={**self.fields, "temperature": 0.0})


@dataclass(frozen=True)
class Usage:
    """How the recorded traffic is sampled: each way, with the number of different questions that
    were last asked in it. Each question counts once, as it does in the gate: a monitor that asks
    the same every minute does not decide how all others are evaluated."""

    ways: tuple[tuple[Sent, int], ...] = ()

    @classmethod
    def of(cls, counted: Iterable[tuple[Sent, int]]) -> Self:
        """Only what other questions may borrow tells ways apart. Their order depends on nothing
        else."""
        ways: Counter[str] = Counter()
        for sent, questions in counted:
            borrowed = {name: sent[name] for name in sorted(BORROWED & sent.keys())}
            ways[json.dumps(borrowed)] += questions
        return cls(tuple((json.loads(way), ways[way]) for way in sorted(ways)))

    def borrow(self, key: str) -> Sent:
        """Return the way of a question drawn from the traffic, always the same for a key as long as
        the shares are; empty without any."""
        digest = hashlib.sha256(key.encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64 * sum(questions for _, questions in self.ways)
        for way, questions in self.ways:
            place -= questions
            if place < 0:
                return way
        return {}

    def __str__(self) -> str:
        """One line for people: "as users ask: temperature 0.7 (61%), engine default (39%)"."""
        if not self.ways:
            return "with the engine's defaults: too little traffic to know how users sample"
        shares: Counter[str] = Counter()
        for way, questions in self.ways:
            value = way.get("temperature")
            shares["engine default" if value is None else f"temperature {value:g}"] += questions
        named = shares.most_common(SHOWN)
        rest = shares.total() - sum(questions for _, questions in named)
        named += [("others", rest)] if rest else []
        return "as users ask: " + ", ".join(
            f"{name} ({questions / shares.total():.0%})" for name, questions in named
        )


def evaluated(key: str, sent: Sent | None, usage: Usage, *, max_tokens: int) -> Regime:
    """Return how a question is evaluated: as its user sent it; where nobody asked it, or nobody
    knows how (`sent` is None), as a question drawn from the traffic by `key`. `max_tokens` bounds
    an answer that the user did not bound."""
    fields = dict(usage.borrow(key) if sent is None else sent)
    users_length = any(fields.get(name) for name in LENGTH)
    if not users_length:
        fields["max_tokens"] = max_tokens
    return Regime(fields, users_length)
