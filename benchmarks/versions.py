"""Versions of the demo's model that answer unlike each other, as runs would have published them.

    python -m benchmarks.versions FOLDER COUNT

makes the weights, in a process of its own so that torch stays out of the benchmark's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttrl import versions
from ttrl.demo import make_problems, model_dir
from ttrl.engine.proof import Pin, Pinned
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.questions import Recorded
from ttrl.versions import Manifest

RANK = 16
PINS = 8
NOISE = 0.05
"""Standard deviation of the random adapters' B: enough to answer otherwise than the base."""
MEASURED = "measured.json"


@dataclass(frozen=True)
class Made:
    """Adapters in `folder`, numbered from 0, and for each what the trainer computed of the pins."""

    folder: Path
    measured: tuple[tuple[Pinned, ...], ...]


def make(folder: Path, count: int, store: Store) -> Made:
    """Random adapters, proven with questions that are recorded in the store for it."""
    command = [sys.executable, "-m", "benchmarks.versions", str(folder), str(count)]
    subprocess.run(command, check=True)
    asked = [Recorded(from_prompt(problem.prompt), 1.0) for problem in make_problems(PINS, seed=3)]
    store.questions.record(asked, holdout=0.0)
    ids = [row.id for row in store.questions.page(PINS)]
    rows = json.loads((folder / MEASURED).read_text())
    return Made(folder, tuple(tuple(map(_pinned, ids, each)) for each in rows))


def publish(store: Store, state_dir: Path, made: Made, which: int, number: int) -> str:
    """One of the adapters as version `number`; its name, which is the wanted one from now on."""
    source = made.folder / str(which)
    digest = versions.digest_of(source)
    name = versions.version_name("bench", number, digest)
    base, at, targets = str(model_dir()), time.time(), ("all-linear",)
    manifest = Manifest(name, "bench", number, digest, base, None, 0, RANK, targets, at)
    versions.publish(source, state_dir / "adapters", manifest)
    row = AdapterRow(
        name, "bench", number, digest, None, base, None, RANK,
        AdapterState.APPROVED, "made for a benchmark", at,
    )  # fmt: skip
    store.adapters.publish(row, [], made.measured[which], author="benchmark")
    return name


def _pinned(question_id: int, row: dict[str, Any]) -> Pinned:
    pin = Pin(question_id, tuple(row["token_ids"]), row["start"])
    return Pinned(pin, "float32", tuple(row["own"]), tuple(row["base"]))


def _make_weights(folder: Path, count: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(model_dir(), dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear"))
    pins = list(_pins(AutoTokenizer.from_pretrained(model_dir())))
    measured = []
    for number in range(count):
        torch.manual_seed(number)
        with torch.no_grad():
            for name, values in model.named_parameters():
                if "lora_B" in name:
                    values.normal_(std=NOISE)
        model.save_pretrained(str(folder / str(number)), save_embedding_layers=False)
        measured.append([_measure(model, ids, start) for ids, start in pins])
    (folder / MEASURED).write_text(json.dumps(measured))


def _pins(tokenizer: Any) -> Any:
    for problem in make_problems(PINS, seed=3):
        asked = [{"role": "user", "content": problem.prompt}]
        words = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        start = len(tokenizer(words, add_special_tokens=False).input_ids)
        said = f"{words}It is \\boxed{{{problem.answer}}}."
        yield tokenizer(said, add_special_tokens=False).input_ids, start


def _measure(model: Any, ids: list[int], start: int) -> dict[str, Any]:
    own = _logprobs(model, ids, start)
    with model.disable_adapter():
        base = _logprobs(model, ids, start)
    return {"token_ids": ids, "start": start, "own": own, "base": base}


def _logprobs(model: Any, ids: list[int], start: int) -> list[float]:
    import torch

    rows = torch.tensor([ids])
    with torch.no_grad():
        every = model(rows).logits[0, start - 1 : -1].log_softmax(-1)
    values: list[float] = every.gather(1, rows[0, start:, None])[:, 0].tolist()
    return values


if __name__ == "__main__":
    _make_weights(Path(sys.argv[1]), int(sys.argv[2]))
