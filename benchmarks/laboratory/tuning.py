"""Supervised tuning of a LoRA; imported where it is done, for it imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from ttrl.config import Config
from ttrl.training import Row
from ttrl.training.grpo import lora_model

IGNORED = -100
"""The label of tokens that are not learned."""


def tune(config: Config, parent: Path | None, batches: Sequence[Sequence[Row]], out: Path) -> None:
    """A step of AdamW on each batch of answers, at a rate that falls to 0 as in the demo's runs."""
    torch.manual_seed(config.update.seed)
    model = lora_model(config.model.name, parent, config.update)
    trained = [values for values in model.parameters() if values.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.update.learning_rate, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, len(batches))
    for batch in batches:
        ids, labels = _padded(batch)
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
    model.save_pretrained(str(out), save_embedding_layers=False)


def _padded(batch: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, (sequences, longest), padded on the right, where no answer looks."""
    ids = [torch.tensor([*row.prompt_ids, *row.completion_ids]) for row in batch]
    labels = [each.clone() for each in ids]
    for row, each in zip(batch, labels, strict=True):
        each[: len(row.prompt_ids)] = IGNORED
    return (
        pad_sequence(ids, batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    )
