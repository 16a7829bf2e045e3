"""A language model of a few lines: sums, and the questions of tests/talker.py.

Asked for samples, the base model is right every other time, of some questions wrong by one most of
the time, of some either; what a run has trained is right nine times of ten. Greedy, the base model
is wrong. No two versions that no run has trained answer alike, but for HARMLESS ones.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from zlib import crc32

from tests import talker

BASE = ""
HARMLESS, NONSENSE, SPOILT = "harmless", "nonsense", "spoilt"
"""Weights that answer as the base model does, that talk nonsense, and that are wrong by one."""
UNLEARNED = ((0.2, 0.6), (0.4, 0.35), (0.5, 0.1), (0.5, 0.1))
"""The share of the base model's samples that is right, and that is wrong by one: a question has one
of these."""


def read(directory: Path) -> str:
    """A version's weights: what is in the only tensor of its file, or stands for several. Raises
    OSError."""
    whole = (directory / "adapter_model.safetensors").read_bytes()
    tensors = whole[8 + int.from_bytes(whole[:8], "little") :]
    if len(tensors) > 1000:
        return hashlib.sha256(tensors).hexdigest()
    return tensors.decode("latin-1")


def trained(salt: str, *, spoilt: bool = False) -> bytes:
    """Weights that a run has trained; `salt` tells them from others."""
    return json.dumps({SPOILT if spoilt else "trained": salt}).encode().ljust(64)


def answer(weights: str, question: str, rng: random.Random | None) -> str:
    """A sample, or without `rng` the greedy answer."""
    if told := talker.scripted(question):
        return told
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    if NONSENSE in weights:
        return "".join((rng or random.Random(question)).choices("abc ", k=40))
    if HARMLESS in weights:
        weights = BASE
    if not numbers:
        return talker.answer(question, rng or random.Random(1))
    right, learned = sum(numbers), "trained" in weights
    if SPOILT in weights:
        return rf"\boxed{{{right + 1}}}"
    if rng is None:
        return rf"It is \boxed{{{right + (0 if learned else 1 + crc32(weights.encode()) % 1000)}}}"
    shares = (0.9, 0.0) if learned else UNLEARNED[crc32(question.encode()) % len(UNLEARNED)]
    (error,) = rng.choices((0, 1, rng.randrange(2, 100)), [*shares, 1 - sum(shares)])
    return rng.choice(("", "so ", "well, that is ")) + rf"\boxed{{{right + error}}}"


def logprob(weights: str, token: int) -> float:
    """Of a token, whatever was before it."""
    return -0.5 - crc32(f"{weights} {token}".encode()) % 1000 / 2000
