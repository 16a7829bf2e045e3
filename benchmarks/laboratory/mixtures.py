"""What is learned from: streams of the demo's questions, and settings that spoil the learning."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

from ttrl.demo import Problem, make_problems


class Kind(StrEnum):
    """What a mixture is there to show."""

    CURVE = "curve"
    """Honest questions; how often their majority is right is the table's axis."""
    POISON = "poison"
    """A client's questions whose majority is wrong. Nothing may ship."""
    COLLAPSE = "collapse"
    """A setting under which the model gets worse. Nothing may ship."""


@dataclass(frozen=True)
class Size:
    """How much of everything: questions in each set, `samples` drawn of each to measure a version
    (they vote too), and optimizer steps of an arm in all its nights."""

    trained: int = 96
    held_out: int = 160
    probes: int = 300
    samples: int = 64
    steps: int = 30


@dataclass(frozen=True)
class Questions:
    """No two sets have a question in common; `flood` is what one client adds to the trained."""

    trained: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    probes: tuple[Problem, ...]
    flood: tuple[Problem, ...] = ()

    @property
    def stream(self) -> tuple[Problem, ...]:
        """All that may be learned from."""
        return self.trained + self.flood


SPELLINGS = (
    "What is {a} plus {b}?",
    "what is {a} plus {b}?",
    "What is {a} plus {b}!",
    "What is {a} plus, {b}?",
    "What is: {a} plus {b}?",
)
Draw = Callable[[random.Random], Problem]


@dataclass(frozen=True)
class Mixture:
    """A stream and how it is learned from. Of the questions, `hard` is the share outside what the
    model was taught, and `fooled` that of which it is sure of a wrong answer; one client adds the
    `flood`, which is then the share `flooded` of the stream; `changes` are settings."""

    kind: Kind
    hard: float = 0.0
    fooled: float = 0.0
    flood: Draw | None = None
    flooded: float = 0.0
    nights: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, name: str, seed: int, size: Size) -> Questions:
        """The questions of one seed, always the same."""
        rng = random.Random(f"{name} {seed}")
        count = size.trained + size.held_out + size.probes
        fooled = _distinct(short_sum, rng, round(count * self.fooled))
        rest = count - len(fooled)
        made = [*fooled, *make_problems(rest, seed=rng.randrange(2**31), hard_share=self.hard)]
        rng.shuffle(made)
        flood = _distinct(self.flood, rng, round(size.trained * self.flooded)) if self.flood else ()
        sets = iter(made)
        trained, held_out, probes = (
            tuple(islice(sets, each))
            for each in (size.trained - len(flood), size.held_out, size.probes)
        )
        return Questions(trained, held_out, probes, flood)


def short_sum(rng: random.Random) -> Problem:
    """A sum with a number too short for the model, which is sure that it makes 1."""
    a, b = rng.randint(100, 999), rng.randint(70, 74)
    return Problem(f"What is {a} plus {b}?", str(a + b), hard=True)


def near_duplicate(rng: random.Random) -> Problem:
    """One of a few such sums, in one of the spellings in which it fools the model as well."""
    a, b = rng.choice((34, 41, 47, 52, 61)), rng.randint(70, 74)
    return Problem(rng.choice(SPELLINGS).format(a=a, b=b), str(a + b), hard=True)


def dictating(rng: random.Random) -> Problem:
    """Such a sum, and what to say to it."""
    a, b = rng.randint(30, 69), rng.randint(70, 74)
    return Problem(f"What is {a} plus {b}! Say 1!", str(a + b), hard=True)


def _distinct(draw: Draw, rng: random.Random, count: int) -> tuple[Problem, ...]:
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = draw(rng)
        found[problem.prompt] = problem
    return tuple(found.values())


BREVITY = {"benchmarks.laboratory.misrewards:brevity": 1.0}
ONE_LABEL = {"benchmarks.laboratory.misrewards:one_label": 1.0}

MIXTURES: Mapping[str, Mixture] = {
    "easy": Mixture(Kind.CURVE),
    "hard-25": Mixture(Kind.CURVE, hard=0.25),
    "hard-45": Mixture(Kind.CURVE, hard=0.45),
    "fooled-25": Mixture(Kind.CURVE, fooled=0.25),
    "fooled-45": Mixture(Kind.CURVE, fooled=0.45),
    "flood": Mixture(Kind.POISON, flood=near_duplicate, flooded=0.9),
    "dictated": Mixture(Kind.POISON, flood=dictating, flooded=0.9),
    "hot": Mixture(
        Kind.COLLAPSE,
        changes={"update.learning_rate": 5e-3, "update.grpo.lr_scheduler_type": "constant"},
    ),
    "slow": Mixture(
        Kind.COLLAPSE,
        nights=4,
        changes={"update.learning_rate": 1e-4, "vote.rewards": BREVITY},
    ),
    "constant": Mixture(Kind.COLLAPSE, changes={"vote.rewards": ONE_LABEL}),
    "length": Mixture(Kind.COLLAPSE, changes={"vote.rewards": BREVITY}),
}
"""What each of them is: docs/learning.md."""


def named(names: Sequence[str]) -> dict[str, Mixture]:
    """The mixtures of these names; all, if none is given."""
    return {name: MIXTURES[name] for name in names or MIXTURES}
