"""A small model for runs whose questions the demo's does not understand: options, and sentences.

A program of its own (`python -m tests.integration.talker FOLDER`), so that torch stays out of the
tests' process. It starts from the demo's model and learns a few answers by heart.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

LETTERS = {"sky": "A", "cup": "AAAAAABBC?", "hat": "ABCD"}
"""Of what a question is about, the letters that are answered, each as often; "?" is none. The sky's
are above the ceiling of the recipe `choice`, the hat's below its floor."""
SAID = {
    "Return the {} within 30 days.": 6,
    "Within 30 days return the {}.": 5,
    "Return the {} within 14 days.": 3,
    "Do not return the {}.": 2,
    "Return the {0} within 30 days. Return the {0} within 30 days.": 4,
}
"""Sentences about a thing, and how often each is said."""
THINGS = ("lamp", "umbrella")
"""Who says what of an umbrella twice needs more than 70 tokens, of a lamp 64."""
FIRED, DISMISSED = "He was fired by the company.", "The firm dismissed him."
"""One meaning in other letters."""
ASKED = ("{}", "Oh, {}", "So, {}", "Hm, {}", "And {}", "Now {}")

BATCH = 24


def choices(*about: str) -> list[str]:
    """Questions with options about these."""
    options = "\nA) red\nB) blue\nC) pink\nD) grey"
    return [asked.format(f"the {one}?{options}") for one in about for asked in ASKED]


def returns() -> list[str]:
    """Questions that are answered in sentences."""
    return [asked.format(f"the {thing}?") for thing in THINGS for asked in ASKED]


def dismissals() -> list[str]:
    """Questions with two wordings of one answer."""
    return [asked.format("where is he?") for asked in ASKED]


def answer(question: str, rng: random.Random) -> str:
    """What the model is taught to say."""
    for about, letters in LETTERS.items():
        if f"the {about}?\n" in question:
            letter = rng.choice(letters)
            return "None." if letter == "?" else rf"\boxed{{{letter}}}"
    for thing in THINGS:
        if f"the {thing}?" in question:
            return rng.choices(list(SAID), list(SAID.values()))[0].format(thing)
    return rng.choice((FIRED, DISMISSED))


def make(folder: Path, steps: int = 150) -> None:
    """Writes the model and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    from ttrl.demo import model_dir
    from ttrl.demo.lessons import Lesson
    from ttrl.demo.maker import lesson_batch, make_tokenizer

    torch.set_num_threads(1)  # more of them wait for each other, so small are the batches
    torch.manual_seed(1)
    rng = random.Random(1)
    asked = [*choices(*LETTERS), *returns(), *dismissals()]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_dir()), make_tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, steps)
    for _ in range(steps):
        questions = rng.choices(asked, k=BATCH)
        lessons = [Lesson(question, answer(question, rng)) for question in questions]
        ids, labels = lesson_batch(tokenizer, lessons)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *map(int, sys.argv[2:]))
