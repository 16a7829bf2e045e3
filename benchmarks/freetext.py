"""Do answers in sentences become more consistent? `python -m benchmarks.freetext`.

A small model that answers in sentences is made (minutes), and learns by our own loop with the
recipe `free-text`, compared by letters. Before and after, held-out questions are asked: how alike
their answers are, the share of the largest cluster, and of those that mean what is right; how much
they repeat themselves, their length, and the seconds of an answer. The table is on standard error,
the last line on standard output is JSON.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import click
from rich.console import Console
from rich.table import Table

from benchmarks.laboratory import speaker, teachers
from benchmarks.laboratory.bench import BASE, Bench, bench
from benchmarks.laboratory.mixtures import Questions
from ttrl.answers import AnswerKind, Reader
from ttrl.config import Config
from ttrl.config.loading import load
from ttrl.demo import Problem
from ttrl.engine import threads
from ttrl.engine.samples import Finish, SampleSet, Sampling
from ttrl.questions.question import from_prompt
from ttrl.rewards import REWARDS, Ballot
from ttrl.sampling.groups import read_answers
from ttrl.votes import take_vote

SAMPLES, MAX_TOKENS = 16, 192
READER = Reader(AnswerKind.FREE)


@dataclass(frozen=True)
class Spoken:
    """Means over questions: of pairs of their answers, and over answers."""

    likeness: float
    largest_cluster: float
    right: float
    repeated: float
    tokens: float
    cut_off: float
    seconds: float

    def rounded(self) -> dict[str, float]:
        """For reading."""
        return {name: round(value, 3) for name, value in vars(self).items()}


def config(directory: Path, model: Path, steps: int) -> Config:
    """The recipe, with what a tiny model bears."""
    overrides = {
        "recipe": "free-text",
        "state_dir": directory,
        "model.name": str(model),
        "vote.samples": SAMPLES,
        "vote.max_tokens": MAX_TOKENS,
        "update.keep": SAMPLES,
        "update.steps": steps,
        "update.learning_rate": 1e-3,
        "update.micro_batch": 32,
    }
    return load(environ={}, overrides=overrides).config


def listen(worked_on: Bench, version: str, problems: tuple[Problem, ...]) -> Spoken:
    """What a version says to them."""
    began = time.monotonic()
    drawn = list(
        threads.map_in_order(lambda problem: _ask(worked_on, version, problem), problems, width=4)
    )
    seconds = (time.monotonic() - began) / (len(drawn) * SAMPLES)
    ballots = [_ballot(*each) for each in zip(problems, drawn, strict=True)]
    samples = [sample for ballot in ballots for sample in ballot.samples]
    return Spoken(
        likeness=fmean(fmean(_pairs(ballot)) for ballot in ballots),
        largest_cluster=fmean(ballot.vote.share for ballot in ballots),
        right=fmean(fmean(REWARDS["reference"](ballot)[i] > 0 for i in range(SAMPLES))
                    for ballot in ballots),
        repeated=abs(fmean(fmean(REWARDS["echo"](ballot)) for ballot in ballots)),
        tokens=fmean(len(sample.token_ids) for sample in samples),
        cut_off=fmean(sample.finish is Finish.LENGTH for sample in samples),
        seconds=seconds,
    )  # fmt: skip


def _ask(worked_on: Bench, version: str, problem: Problem) -> SampleSet:
    question, sampling = from_prompt(problem.prompt), Sampling(1.0, MAX_TOKENS)
    return worked_on.client.sample(question, model=version, n=SAMPLES, sampling=sampling)


def _ballot(problem: Problem, drawn: SampleSet) -> Ballot:
    reading = read_answers(READER, problem.prompt, drawn)
    vote = take_vote(reading.answers, kind=reading.kind)
    return Ballot(problem.prompt, drawn.samples, vote, MAX_TOKENS, READER, (problem.answer,))


def _pairs(ballot: Ballot) -> list[float]:
    return [ballot.alike[a][b] for a in range(SAMPLES) for b in range(a)]


@click.command()
@click.option("--model-steps", default=700, show_default=True, help="Of making the model.")
@click.option("--steps", default=15, show_default=True, help="Of learning.")
@click.option(
    "--model", type=click.Path(path_type=Path, file_okay=False), help="Kept here, or used."
)
def main(model_steps: int, steps: int, model: Path | None) -> None:
    """Measure what learning does to answers in sentences."""
    learned_from, held_out = speaker.problems()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = (model or place / "model").absolute()
        if not model.exists():
            speaker.make(model, model_steps)
        with bench(place, model) as worked_on:
            before = listen(worked_on, BASE, held_out)
            night = teachers.Night(
                worked_on.client,
                config(place, model, steps),
                Questions(learned_from, held_out, ()),
                BASE,
                None,
                place / "learned",
            )
            done = teachers.learn(night)
            with worked_on.serving(night.out) as version:
                after = listen(worked_on, version, held_out)
    table = Table(title=f"{len(held_out)} held-out questions, {done} steps on {len(learned_from)}")
    for heading in ("", "before", "after"):
        table.add_column(heading)
    for figure, value in before.rounded().items():
        table.add_row(figure, f"{value:g}", f"{after.rounded()[figure]:g}")
    Console(stderr=True).print(table)
    print(json.dumps({"steps": done, "before": before.rounded(), "after": after.rounded()}))


if __name__ == "__main__":
    main()
