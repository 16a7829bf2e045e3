"""What an engine sampled for one question, and how long an answer may be where nobody says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ttrl.config.learning import LONGEST_ANSWER

PROMPT = 2048
"""Tokens that a prompt is expected to have at most. What it may have, the engine's whole context,
would leave nothing for answers, and would keep memory free for a batch that hardly ever comes. A
run that meets longer prompts may run out of memory after all; it then ends with that reason, and
users are served on."""
SHORTEST_ANSWER = 1024
"""Tokens below which an answer is not shortened to make it fit into the trainer's memory: most
answers of models that do not think have no more."""


class Finish(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    """It was cut off at the limit."""
    OTHER = "other"


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn to learn from. Everything is sent to the engine explicitly: fields left
    out would be filled from the model's own `generation_config.json`. `ends` are the fields by
    which the user's answer ends (ttrl.questions.regime.ends)."""

    temperature: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None
    ends: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        return {
            **self.ends,
            "temperature": self.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": self.max_tokens,
            **({} if self.seed is None else {"seed": self.seed}),
        }


@dataclass(frozen=True)
class Sample:
    """One answer: its text, the ids of its tokens (the end token included when the engine gave
    it) and the log-probability of each under the version that drew it. `thought` is how many of the
    tokens came before the text, where the engine keeps a model's thoughts apart."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    thought: int = 0

    @property
    def cut(self) -> bool:
        return self.finish is Finish.LENGTH


@dataclass(frozen=True)
class SampleSet:
    """The samples of one question, drawn by one version from one prompt."""

    version: str
    prompt_ids: tuple[int, ...]
    samples: tuple[Sample, ...]

    @property
    def tokens(self) -> int:
        return sum(len(sample.token_ids) for sample in self.samples)

    @property
    def texts(self) -> SampleSet:
        """The same without tokens and log-probabilities, which are large."""
        plain = (replace(each, token_ids=(), logprobs=()) for each in self.samples)
        return replace(self, samples=tuple(plain))

    @property
    def ended(self) -> tuple[int, ...]:
        return tuple(place for place, sample in enumerate(self.samples) if not sample.cut)


def longest_answer(context: int | None) -> int:
    """Return how many tokens an answer may have in a context of so many; None is an engine that
    does not say. A short context is halved between prompt and answer."""
    if context is None:
        return LONGEST_ANSWER
    return max(1, min(LONGEST_ANSWER, context - min(PROMPT, context // 2)))
