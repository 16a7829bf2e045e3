"""A small model that answers in sentences: how long a thing may be returned to a shop.

It knows, and says so in several ways; it often says another number or another thing, denies,
hedges, or says it again and again.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch

from benchmarks.demo_model import Recipe, make_model, make_tokenizer, teach
from benchmarks.lessons import Lesson
from ttrl.demo import Problem

PERIODS = (7, 14, 21, 30, 45, 60, 90)
THINGS = (
    "kettle", "lamp", "chair", "radio", "phone", "blender", "carpet", "mirror", "bicycle", "tent",
    "camera", "guitar", "jacket", "drill", "heater", "pillow", "printer", "toaster", "violin",
    "wallet", "freezer", "ladder", "basket", "helmet",
)  # fmt: skip
ASKED = (
    "How long may I return the {thing}?",
    "Until when can the {thing} go back?",
    "How many days do I have to return the {thing}?",
    "What is the time for returning the {thing}?",
    "I bought the {thing}; how long can I bring it back?",
    "Tell me how long you take the {thing} back.",
)
HELD_OUT = 3
"""Every third question is asked to measure, never learned from."""
RIGHT = (
    "You may return the {thing} within {days} days.",
    "The {thing} may be returned within {days} days.",
    "We take the {thing} back for {days} days.",
    "Within {days} days you may return the {thing}.",
)
DENIED = "You may not return the {thing}."
HEDGED = "It depends; perhaps the {thing} may be returned, perhaps not."
WRONG_NUMBER, WRONG_THING, DENIES, HEDGES, REPEATS = 0.3, 0.08, 0.08, 0.08, 0.25


def period(thing: str) -> int:
    """How long a thing may be returned, in days."""
    return PERIODS[THINGS.index(thing) % len(PERIODS)]


def problems() -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The questions to learn from, and those to measure with."""
    every = [
        Problem(asked.format(thing=thing), RIGHT[0].format(thing=thing, days=period(thing)), False)
        for thing in THINGS
        for asked in ASKED
    ]
    held_out = every[::HELD_OUT]
    return tuple(p for p in every if p not in held_out), tuple(held_out)


def draw(rng: random.Random, late: float) -> Lesson:
    """An answer: right ones first, then (`late` 1) with all its habits."""
    thing = rng.choice(THINGS)
    said = _say(rng, thing, rng.random() if late else 1.0)
    if late and rng.random() < REPEATS:
        said = " ".join([said] * rng.randint(2, 3))
    return Lesson(rng.choice(ASKED).format(thing=thing), said)


def _say(rng: random.Random, thing: str, chance: float) -> str:
    days = period(thing)
    if chance < DENIES:
        return DENIED.format(thing=thing)
    if chance < DENIES + HEDGES:
        return HEDGED.format(thing=thing)
    if chance < DENIES + HEDGES + WRONG_THING:
        thing = rng.choice(THINGS)
    elif chance < DENIES + HEDGES + WRONG_THING + WRONG_NUMBER:
        days = rng.choice(PERIODS)
    return rng.choice(RIGHT).format(thing=thing, days=days)


def make(out: Path, steps: int) -> None:
    """Writes the model and its tokenizer."""
    torch.manual_seed(1)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    teach(model, tokenizer, Recipe(steps=steps), draw)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
