"""What the tests know of the engine they talk to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ttrl.engine.client import EngineClient
from ttrl.engine.samples import Sampling
from ttrl.questions.question import Question

BASE = "tiny"
MAX_MODEL_LEN = 256
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
"""Goes before the sampling defaults of the model itself."""


@dataclass(frozen=True)
class Served:
    """An engine that answers at `url` and serves `model` as BASE; `folder` has adapters for it."""

    kind: str
    url: str
    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"


def greedy_text(client: EngineClient, question: Question, max_tokens: int) -> str:
    """The greedy answer's text."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    return client.sample(question, model=BASE, n=1, sampling=sampling).samples[0].text
