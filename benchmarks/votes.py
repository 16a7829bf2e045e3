"""Does asking in rounds find the label of all samples with fewer? `python -m benchmarks.votes`.

Plain TTRL on the laboratory's easy questions passes through several versions; each answers held-out
questions of all honest mixtures, as often as a whole vote asks. The answers to each question are
then shuffled and counted again: all of them, fixed numbers of them, and in rounds until the vote is
decided. Label accuracy is the share of the questions whose label is the right answer, the loss is
against the vote over all samples. The table is on standard error; the last line on standard output
is JSON, with the figures of the recipes' rule: means over the versions, a run's votes.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.laboratory import teachers
from benchmarks.laboratory.arms import Scene
from benchmarks.laboratory.bench import BASE, MAX_TOKENS, READER, Bench, bench, truth_of
from benchmarks.laboratory.mixtures import MIXTURES, Kind, Size
from ttrl.demo import Problem
from ttrl.engine import threads
from ttrl.engine.samples import Sampling
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import read_answers
from ttrl.training import Row
from ttrl.votes import decided, rounds, take_vote

ROUNDS, SURE = 4, 0.9
"""The recipes' rule."""
SURES = (0.7, 0.8, SURE, 0.95, 0.99)
FIXED = (4, 8, 16, 24, 32, 48)
STEPS = (5, 15, 30)
"""Optimizer steps after which a version is asked, besides the base."""
DRAWS = 5
"""Times that the answers are shuffled."""
AT_ONCE = 8

Stop = Callable[[Sequence[str | None]], int]
"""After how many of the answers it is enough."""


@dataclass(frozen=True)
class Asked:
    """All answers of one version to a question, and the right one."""

    answers: tuple[str | None, ...]
    truth: str


@dataclass(frozen=True)
class Measured:
    """What a rule came to on one version."""

    accuracy: float
    samples: float


def adaptive(samples: int, most: int, sure: float) -> Stop:
    """In at most so many rounds, until the vote is decided."""

    def stop(answers: Sequence[str | None]) -> int:
        reached = 0
        for count in rounds(samples, most):
            reached += count
            if decided([votes for _, votes in take_vote(answers[:reached]).counts], sure):
                break
        return reached

    return stop


def rules(samples: int) -> dict[str, Stop]:
    """By their names; the first is the vote over all samples, the second the recipes'."""
    found: dict[str, Stop] = {"all": lambda _: samples}
    found["recipes"] = adaptive(samples, ROUNDS, SURE)
    found |= {f"{ROUNDS} rounds, {sure:.0%}": adaptive(samples, ROUNDS, sure) for sure in SURES}
    return found | {f"{count}": lambda _, count=count: count for count in FIXED if count < samples}


def measure(asked: Sequence[Asked], stop: Stop) -> Measured:
    """The same shuffles for each rule."""
    rng = random.Random(0)
    right, drawn = [], []
    for _ in range(DRAWS):
        for each in asked:
            answers = rng.sample(each.answers, len(each.answers))
            count = stop(answers)
            right.append(take_vote(answers[:count]).label == each.truth)
            drawn.append(count)
    return Measured(round(fmean(right), 4), round(fmean(drawn), 2))


Found = Mapping[str, Mapping[str, Measured]]
"""By version and rule."""


def summary(found: Found, samples: int) -> dict[str, float]:
    """Of the recipes' rule, as parts of one."""
    each = [(rows["all"], rows["recipes"]) for rows in found.values()]
    return {
        "samples_saved": round(1 - fmean(ours.samples for _, ours in each) / samples, 3),
        "label_accuracy_loss": round(fmean(full.accuracy - o.accuracy for full, o in each), 4),
    }


def show(found: Found) -> None:
    """The table on standard error."""
    table = Table(title="label accuracy with so many samples of each question")
    table.add_column("rule")
    for version in found:
        table.add_column(version)
    for rule in next(iter(found.values())):
        cells = (f"{rows[rule].accuracy:.1%} {rows[rule].samples:.1f}" for rows in found.values())
        table.add_row(rule, *cells)
    Console(stderr=True, width=120).print(table)


class Keeping(teachers.Published):
    """Plain TTRL that leaves the weights of some steps in a directory."""

    def __init__(self, place: Path, *learning: Any) -> None:
        super().__init__(*learning)
        self._place = place

    def next_batch(self, step: int, numbers: Mapping[str, float]) -> Sequence[Row]:
        if step in STEPS:
            self.save(self._place / f"step {step}")
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
    size = Size(trained=1, held_out=questions, probes=1)
    honest = {name: each for name, each in MIXTURES.items() if each.kind is Kind.CURVE}
    problems = [p for name, each in honest.items() for p in each.draw(name, 1, size).held_out]
    yield "base", ask(worked_on, BASE, problems, samples)
    teachers.publish(night, partial(Keeping, place))
    for step in STEPS:
        with worked_on.serving(place / f"step {step}") as version:
            yield f"step {step}", ask(worked_on, version, problems, samples)


def ask(worked_on: Bench, version: str, problems: Sequence[Problem], samples: int) -> list[Asked]:
    def one(problem: Problem) -> Asked:
        question, sampling = from_prompt(problem.prompt), Sampling(1.0, MAX_TOKENS)
        drawn = worked_on.client.sample(question, model=version, n=samples, sampling=sampling)
        return Asked(read_answers(READER, problem.prompt, drawn).answers, truth_of(problem))

    return list(threads.map_in_order(one, problems, width=AT_ONCE))


@click.command()
@click.option("--questions", default=60, show_default=True, help="Of each mixture.")
@click.option("--samples", default=64, show_default=True, help="A whole vote.")
def main(questions: int, samples: int) -> None:
    """Measure what votes in rounds save, and what that costs."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    found: dict[str, dict[str, Measured]] = {}
    with tempfile.TemporaryDirectory() as name, bench(Path(name)) as worked_on:
        for version, asked in versions(worked_on, Path(name), questions, samples):
            found[version] = {rule: measure(asked, stop) for rule, stop in rules(samples).items()}
            click.echo(f"{version}: {len(asked)} questions asked {samples} times", err=True)
    show(found)
    print(json.dumps(summary(found, samples)))


if __name__ == "__main__":
    main()
