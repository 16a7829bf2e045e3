"""A distilled judge: a cross-encoder that reads question and answer together and has learned the
scores of another judge, the extra `judge`. Imports torch, and to train also what trains."""

from __future__ import annotations

import hashlib
import random
import tempfile
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

BATCH = 16

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


def train(
    start: str,
    pairs: Sequence[Pair],
    scores: Sequence[float],
    folder: Path,
    *,
    epochs: int,
    learning_rate: float,
    device: str,
    seed: int,
) -> None:
    """Train a cross-encoder, from a sentence-transformers model, to give pairs of question and
    answer their scores, and save it."""
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    from transformers import PrinterCallback
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    model = CrossEncoder(start, num_labels=1, device=device)
    room = getattr(model.config, "max_position_embeddings", None) or LONGEST
    model.max_seq_length = min(room, LONGEST)
    order = list(range(len(pairs)))
    random.Random(seed).shuffle(order)
    rows = Dataset.from_dict(
        {
            "question": [pairs[place][0] for place in order],
            "answer": [pairs[place][1] for place in order],
            "label": [float(scores[place]) for place in order],
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        arguments = CrossEncoderTrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=learning_rate,
            warmup_steps=0.1,
            seed=seed,
            use_cpu=device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = CrossEncoderTrainer(
            model=model, args=arguments, train_dataset=rows, loss=BinaryCrossEntropyLoss(model)
        )
        trainer.remove_callback(PrinterCallback)  # standard output is the command's
        trainer.train()
    model.save_pretrained(str(folder), create_model_card=False)  # a card quotes what was learned
