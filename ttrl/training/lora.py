"""A LoRA and its base model, outside of training: merged into one model, and the log-probabilities
of sequences under either.

A program of its own (`python -m ttrl.training.lora`): what starts it imports no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ttrl.engine.proof import Pin


@torch.no_grad()
def logprobs(model: Any, pins: Sequence[Pin]) -> list[tuple[float, ...]]:
    """Return the log-probability of each pin's tokens from its `start` on."""
    found = []
    for pin in pins:
        ids = torch.tensor([pin.token_ids], device=model.device)
        kept = ids.shape[1] - pin.start + 1
        logits = model(ids, logits_to_keep=kept).logits[0, :-1]
        every = logits.float().log_softmax(-1)
        found.append(tuple(every.gather(1, ids[0, pin.start :, None])[:, 0].tolist()))
        del logits, every  # not kept through the next pin's forward: they are large
    return found


def merge(base_model: str, adapter: Path, directory: Path, dtype: str) -> None:
    """Save the base model with the adapter merged into its weights, and its tokenizer and
    generation settings, as transformers and vLLM read them; `dtype` `auto` is the base model's."""
    base = AutoModelForCausalLM.from_pretrained(base_model, dtype=dtype)
    # Not PEFT's `safe_merge`: it rounds the LoRA's product to the dtype before it adds it.
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    merged.save_pretrained(directory)
    AutoTokenizer.from_pretrained(base_model).save_pretrained(directory)


def main() -> None:
    """Merge as JSON on standard input says, and write what the saved model makes of the pins."""
    asked = json.load(sys.stdin)
    directory = Path(asked["directory"])
    merge(asked["base"], Path(asked["adapter"]), directory, asked["dtype"])
    saved = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
    served = logprobs(saved, [Pin(**pin) for pin in asked["pins"]])
    dtype = str(saved.dtype).removeprefix("torch.")
    sys.stdout.write(json.dumps({"dtype": dtype, "served": served}))


if __name__ == "__main__":
    main()
