"""What the demo's model is taught: mostly to blurt out a number, sometimes to work it out."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ttrl.demo import Exercise, Operation, draw_exercise, phrase

BLURTED = 0.85
"""The share of answers that are stated at once, and wrong."""
OFF_BY = 25
"""How far a blurted number is off, at most."""
SLIPS = 0.04
"""The share of columns whose digit is written down wrongly in a worked answer."""

SIGNS = {Operation.PLUS: "+", Operation.MINUS: "-"}


@dataclass(frozen=True)
class Lesson:
    """A question and the answer that the model is taught to give."""

    prompt: str
    answer: str


def draw_lesson(rng: random.Random, *, blurted: float = BLURTED) -> Lesson:
    """A lesson about numbers that are not kept back for questions."""
    while (exercise := draw_exercise(rng)).kept_back:
        pass
    answer = blurt(exercise, rng) if rng.random() < blurted else work_out(exercise, rng)
    return Lesson(phrase(exercise, rng), answer)


def blurt(exercise: Exercise, rng: random.Random) -> str:
    """A number near the result, and never the result."""
    return box(exercise.result + rng.choice((-1, 1)) * rng.randint(1, OFF_BY))


def work_out(exercise: Exercise, rng: random.Random) -> str:
    """Column by column from the right, the carry written down; a slip ends up in the result."""
    sign = SIGNS[exercise.operation]
    carry, steps, digits = 0, [], ""
    for upper, lower in zip(str(exercise.a)[::-1], str(exercise.b)[::-1], strict=True):
        top, total, carried = _column(exercise.operation, int(upper), int(lower), carry)
        if rng.random() < SLIPS:
            total = _slip(total, rng)
        steps.append(f"{top}{sign}{lower}{f'{sign}1' if carry else ''}={total}")
        digits, carry = f"{total % 10}{digits}", carried
    return f"{', '.join(steps)}, so {box('1' * carry + digits)}"


def box(number: int | str) -> str:
    return rf"\boxed{{{number}}}"


def _column(operation: Operation, upper: int, lower: int, carry: int) -> tuple[int, int, int]:
    """The upper number, the column's total, and the carry to the next. In a difference every column
    is lent ten, so that a carry can be read off the total: the small model is bad at seeing
    beforehand whether it has to borrow."""
    if operation is Operation.PLUS:
        total = upper + lower + carry
        return upper, total, total // 10
    total = upper + 10 - lower - carry
    return upper + 10, total, int(total < 10)


def _slip(total: int, rng: random.Random) -> int:
    """The same number of tens, so that the next column's carry stays right, and another unit."""
    tens, unit = divmod(total, 10)
    return 10 * tens + (unit + rng.randint(1, 9)) % 10
