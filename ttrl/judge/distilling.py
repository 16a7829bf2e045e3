"""Training a distilled judge: a cross-encoder that learns the scores of a judge, the extra `judge`.
Imports torch."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging

from ttrl.judge.distilled import LONGEST, Pair

BATCH = 16


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
