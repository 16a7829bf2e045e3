"""The demo's small model, shipped as package data (made by benchmarks/demo_model.py), and its
questions: sums and differences in words, with their answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path


def model_dir() -> Path:
    """Return the directory of the shipped model. A model is loaded from a path, so the package must
    lie on a file system, as installers put it."""
    return Path(str(files(__name__) / "model"))


class Operation(StrEnum):
    PLUS = "plus"
    MINUS = "minus"


PHRASINGS = {
    Operation.PLUS: (
        "What is {a} plus {b}?",
        "Add {a} and {b}.",
        "{a} + {b} = ?",
        "Find the sum of {a} and {b}.",
    ),
    Operation.MINUS: (
        "What is {a} minus {b}?",
        "Subtract {b} from {a}.",
        "{a} - {b} = ?",
        "How much is {a} less {b}?",
    ),
}

KEPT_BACK = 13
"""One pair of numbers in thirteen is never taught, and questions are made of those alone. Thirteen
has nothing to do with ten: which pairs are kept back cannot be seen from their digits."""
MOST = 20_000
"""Questions in one draw: there are some 55,000 pairs to draw from."""


@dataclass(frozen=True)
class Exercise:
    """Two numbers and what to do with them; the result is at least 100."""

    operation: Operation
    a: int
    b: int

    @property
    def result(self) -> int:
        return self.a + self.b if self.operation is Operation.PLUS else self.a - self.b

    @property
    def kept_back(self) -> bool:
        return (5 * max(self.a, self.b) + min(self.a, self.b)) % KEPT_BACK == 0


@dataclass(frozen=True)
class Problem:
    """A question, its right answer, and whether it is outside what the model was taught."""

    prompt: str
    answer: str
    hard: bool


def make_problems(count: int, *, seed: int, hard_share: float = 0.0) -> tuple[Problem, ...]:
    """Return `count` questions, no two of them about the same numbers; the same for the same seed.

    Raises ValueError for more than there are many of."""
    if count > MOST:
        raise ValueError(f"at most {MOST:,} questions can be generated, not {count:,}")
    rng = random.Random(seed)
    hard_count = round(count * hard_share)
    exercises: list[Exercise] = []
    for number, hard in ((count - hard_count, False), (hard_count, True)):
        distinct: dict[tuple[Operation, frozenset[int]], Exercise] = {}
        while len(distinct) < number:
            exercise = draw_exercise(rng, digits=rng.randint(4, 6) if hard else 3)
            if hard or exercise.kept_back:
                distinct[exercise.operation, frozenset((exercise.a, exercise.b))] = exercise
        exercises += distinct.values()
    rng.shuffle(exercises)
    return tuple(
        Problem(phrase(exercise, rng), str(exercise.result), max(exercise.a, exercise.b) > 999)
        for exercise in exercises
    )


def make_disjoint(
    asked: int, held_out: int, *, seed: int, hard_share: float = 0.0
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Return questions to ask and questions to hold out, none of them about the same numbers."""
    problems = make_problems(asked + held_out, seed=seed, hard_share=hard_share)
    return problems[:asked], problems[asked:]


def draw_exercise(rng: random.Random, *, digits: int = 3) -> Exercise:
    """Draw a sum, or a difference with a result of at least 100, of numbers of `digits` digits."""
    low, high = 10 ** (digits - 1), 10**digits - 1
    if rng.random() < 0.5:
        return Exercise(Operation.PLUS, rng.randint(low, high), rng.randint(low, high))
    b = rng.randint(low, high - 100)
    return Exercise(Operation.MINUS, rng.randint(b + 100, high), b)


def phrase(exercise: Exercise, rng: random.Random) -> str:
    """Return the exercise as a question, in one of its phrasings."""
    template = rng.choice(PHRASINGS[exercise.operation])
    return template.format(a=exercise.a, b=exercise.b)
