"""A distilled judge: a cross-encoder that reads question and answer together, the extra `judge`.
Imports torch."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder

from ttrl.judge import MANIFEST, SCORED, Cost
from ttrl.questions.question import Question

TOO_LONG = "too_long"
LONGEST = 512
"""Tokens of question and answer together at most, if the model has room for so many."""

Pair = tuple[str, str]


class DistilledJudge:
    """Scores all answers to a question in one pass, from 0 to 1. Of a pair that it would have to
    cut it says nothing: what stands at the end could be anything."""

    def __init__(self, folder: Path, device: str | None = None) -> None:
        """Raises OSError, ValueError and RuntimeError if the model cannot be loaded."""
        self.cost = Cost()
        self._model = CrossEncoder(str(folder), device=device, local_files_only=True)
        manifest = folder / MANIFEST
        about = manifest.read_bytes() if manifest.exists() else b""
        self.key = f"distilled judge {hashlib.sha256(about).hexdigest()[:8]}"
        self._one = threading.Lock()
        """A tokenizer is not for several threads."""

    def close(self) -> None:
        pass

    def scores(self, question: Question, answers: Sequence[str]) -> list[float | None]:
        began = time.monotonic()
        with self._one:
            found = self.score_pairs([(question.asks, answer) for answer in answers])
        said = [
            0.0 if not answer.strip() else score
            for answer, score in zip(answers, found, strict=True)
        ]
        self.cost.request(time.monotonic() - began)
        silent = said.count(None)
        self.cost.count(SCORED, len(said) - silent)
        if silent:
            self.cost.count(TOO_LONG, silent)
        return said

    def score_pairs(self, pairs: Sequence[Pair]) -> list[float | None]:
        longest = self._model.max_seq_length or LONGEST
        sizes = [len(self._model.tokenizer(*pair)["input_ids"]) for pair in pairs]
        fitting = [pair for pair, size in zip(pairs, sizes, strict=True) if size <= longest]
        found: Sequence[float] = ()
        if fitting:
            said = self._model.predict(fitting, show_progress_bar=False)
            found = np.asarray(said).astype(float).reshape(-1).tolist()
        given = iter(found)
        return [next(given) if size <= longest else None for size in sizes]
