"""Many answers of the versions that a run passes through, to count votes among."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.laboratory import teachers
from benchmarks.laboratory.arms import Scene
from benchmarks.laboratory.bench import BASE, MAX_TOKENS, READER, Bench, truth_of
from benchmarks.laboratory.mixtures import MIXTURES, Kind, Size
from ttrl.demo import Problem
from ttrl.engine import threads
from ttrl.engine.samples import Sampling
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import read_answers
from ttrl.training import Row

STEPS = (5, 15, 30)
"""Optimizer steps after which a version is asked, besides the base."""
AT_ONCE = 8


@dataclass(frozen=True)
class Asked:
    """All answers of one version to a question, with the texts that end in them, and the right
    one."""

    answers: tuple[str | None, ...]
    texts: tuple[str, ...]
    truth: str


class Keeping(teachers.Published):
    """Plain TTRL that leaves the weights of some steps in its working directory."""

    def next_batch(self, step: int, numbers: Mapping[str, float]) -> Sequence[Row]:
        if step in STEPS:
            self.save(Path(f"step {step}"))
        return super().next_batch(step, numbers)


def versions(
    worked_on: Bench, place: Path, questions: int, samples: int
) -> Iterator[tuple[str, list[Asked]]]:
    """The answers of the base, and of what plain TTRL made of it on the easy questions after some
    steps: to held-out questions of all honest mixtures, so many of each."""
    mixture = MIXTURES["easy"]
    scene = Scene(worked_on, mixture, mixture.draw("easy", 1, Size()), Size(), 1, place)
    night = teachers.Night(
        worked_on.client, scene.config(), scene.questions, BASE, None, place / "last"
    )
    problems = _held_out(questions)
    yield "base", ask(worked_on, BASE, problems, samples)
    teachers.publish(night, Keeping)
    for step in STEPS:
        with worked_on.serving(Path(f"step {step}").absolute()) as version:
            yield f"step {step}", ask(worked_on, version, problems, samples)


def _held_out(count: int) -> list[Problem]:
    size = Size(trained=1, held_out=count, probes=1)
    honest = {name: m for name, m in MIXTURES.items() if m.kind is Kind.CURVE}
    return [p for name, mixture in honest.items() for p in mixture.draw(name, 1, size).held_out]


def ask(worked_on: Bench, version: str, problems: Sequence[Problem], samples: int) -> list[Asked]:
    return list(
        threads.map_in_order(partial(_one, worked_on, version, samples), problems, width=AT_ONCE)
    )


def _one(worked_on: Bench, version: str, samples: int, problem: Problem) -> Asked:
    drawn = worked_on.client.sample(
        from_prompt(problem.prompt), model=version, n=samples, sampling=Sampling(1.0, MAX_TOKENS)
    )
    answers = read_answers(READER, problem.prompt, drawn).answers
    texts = tuple(sample.text for sample in drawn.samples)
    return Asked(answers, texts, truth_of(problem))
