"""What the demo's model is taught: mostly to blurt out a number, sometimes to work it out."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ttrl.demo.questions import Exercise, Operation, draw_exercise, phrase

BLURTED = 0.7
"""The share of answers that are stated at once, and wrong."""
OFF_BY = 25
"""How far a blurted number is off, at most."""
SLIPS = 0.06
"""The share of columns whose digit is written down wrongly in a worked answer."""


@dataclass(frozen=True)
class Lesson:
    """A question and the answer that the model is taught to give."""

    prompt: str
    answer: str


def draw_lesson(rng: random.Random) -> Lesson:
    """A lesson about numbers that are not kept back for questions."""
    while (exercise := draw_exercise(rng)).kept_back:
        pass
    answer = blurt(exercise, rng) if rng.random() < BLURTED else work_out(exercise, rng)
    return Lesson(phrase(exercise, rng), answer)


def blurt(exercise: Exercise, rng: random.Random) -> str:
    """A number near the result, and never the result."""
    return box(exercise.result + rng.choice((-1, 1)) * rng.randint(1, OFF_BY))


def work_out(exercise: Exercise, rng: random.Random, slips: float = SLIPS) -> str:
    """Column by column from the right, with the carry written down; a slip reaches the result."""
    adding = exercise.operation is Operation.PLUS
    sign, carry, steps, digits = "+" if adding else "-", 0, [], ""
    columns = list(zip(str(exercise.a)[::-1], str(exercise.b)[::-1], strict=True))
    for upper, lower in ((int(upper), int(lower)) for upper, lower in columns):
        carried = f"{sign}1" if carry else ""
        if adding:
            total = upper + lower + carry
            carry = total // 10
        else:
            borrows = upper < lower + carry
            upper += 10 * borrows
            total = upper - lower - carry
            carry = int(borrows)
        total = _slip(total, rng) if rng.random() < slips else total
        steps.append(f"{upper}{sign}{lower}{carried}={total}")
        digits = f"{total % 10}{digits}"
    lead = str(carry) if adding and carry else ""
    return f"{', '.join(steps)}, so {box(lead + digits)}"


def box(number: int | str) -> str:
    return rf"\boxed{{{number}}}"


def _slip(total: int, rng: random.Random) -> int:
    """The same number of tens, so that the next column's carry stays right, and another unit."""
    tens, unit = divmod(total, 10)
    return 10 * tens + (unit + rng.randint(1, 9)) % 10
