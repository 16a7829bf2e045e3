"""What an engine drew for one question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    OTHER = "other"


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. Everything is sent to the engine explicitly: fields left out would be
    filled from the model's own `generation_config.json`."""

    temperature: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None


@dataclass(frozen=True)
class Sample:
    """One answer: its text, the ids of its tokens (the end token included when the engine gave
    it) and the log-probability of each under the version that drew it."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish


@dataclass(frozen=True)
class SampleSet:
    """The samples of one question, drawn by one version from one prompt."""

    version: str
    prompt_ids: tuple[int, ...]
    samples: tuple[Sample, ...]

    def __add__(self, other: SampleSet) -> SampleSet:
        """Those of two rounds of one question."""
        assert (other.version, other.prompt_ids) == (self.version, self.prompt_ids)
        return replace(self, samples=self.samples + other.samples)
