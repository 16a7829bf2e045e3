"""Does a run sample while it trains? `python -m benchmarks.overlap`.

The run's own loop, store, pacer and votes, between an engine and a trainer that only sleep. Answers
have the lengths of a real service; the engine's speed is such that a step's samples take about as
long as its training: 1 and 10 s, with `--long` 60 s as well. Each runs with and without
`update.overlap`, all of them side by side. `step_over_max` is the time of the steps over that of
the longer part of each: 1 where the other part is hidden, 2 where equal ones take turns. The last
line on standard output is JSON.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import click

from jobs.candidate import Candidate
from jobs.run import Run
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.engine.client import Load, ModelCard
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.questions.question import Question, from_prompt
from ttrl.sampling.groups import Roller, pacer_for
from ttrl.store import Store
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger

LENGTHS = (
    7, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 411, 424, 451, 1000
)  # fmt: skip
"""Tokens of an answer at each twentieth of a conversation service's 19,366 requests (the quantiles
of GeneratedTokens in AzureLLMInferenceTrace_conv.csv of Azure/AzurePublicDataset, 2023; Patel et
al., "Splitwise", arXiv 2311.18677)."""
AGREED = 0.2
"""Share of the questions whose samples all agree, so that the step asks another one."""
LOAD_SECONDS = 0.03
"""To save an adapter and load it, as long as a small one takes with vLLM."""
STEPS = {1.0: 30, 10.0: 6, 60.0: 4}
"""Optimizer steps that are measured, by the seconds of a step."""
WARM_UP = 1
"""Steps before these, in which the pipe is filled and the pacer finds its limit."""
QUESTIONS = 400
SETTINGS: Mapping[str, Any] = {
    "vote": {"samples": 16, "max_tokens": 1024},
    "update": {"questions_per_step": 8, "keep": 8},
}


class Busy:
    """How long at least one of those who use it was at work since it was read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work, self._since, self._seconds = 0, 0.0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._at_work:
                self._since = time.monotonic()
            self._at_work += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._at_work -= 1
            if not self._at_work:
                self._seconds += time.monotonic() - self._since

    def read(self) -> float:
        with self._lock:
            now = time.monotonic()
            seconds = self._seconds + (now - self._since if self._at_work else 0.0)
            self._seconds, self._since = 0.0, now
            return seconds


@dataclass
class Sleeper:
    """An engine that takes its time for the longest of the answers that it is asked for at once."""

    seconds_per_token: float
    busy: Busy = field(default_factory=Busy)
    _times: Counter[str] = field(default_factory=Counter)

    def sample(self, question: Question, *, model: str, n: int, **_: object) -> SampleSet:
        self._times[question.hash] += 1
        lengths, answers = answers_to(question.hash, self._times[question.hash], n)
        with self.busy:
            time.sleep(max(lengths) * self.seconds_per_token)
        samples = (
            Sample(f"\\boxed{{{answer}}}", (1,) * length, (-1.0,) * length, Finish.STOP)
            for answer, length in zip(answers, lengths, strict=True)
        )
        return SampleSet(model, (1, 2), tuple(samples))

    def load(self) -> Load:
        return Load(running=0, waiting=0, tokens=0)

    def models(self) -> Sequence[ModelCard]:
        return ()

    def load_adapter(self, name: str, directory: Path) -> None:
        time.sleep(LOAD_SECONDS)

    def unload_adapter(self, name: str) -> None: ...


def answers_to(key: str, times: int, count: int) -> tuple[list[int], list[int]]:
    """Return the lengths of so many answers to a question that is asked for the n-th time, and what
    they say: two things, unless all agree."""
    agreed = Random(key).random() < AGREED
    rng = Random(f"{key} {times}")
    lengths = [length(rng) for _ in range(count)]
    return lengths, [0 if agreed or place < 0.6 * count else 1 for place in range(count)]


def length(rng: Random) -> int:
    place, part = divmod(rng.random() * (len(LENGTHS) - 1), 1)
    low, high = LENGTHS[int(place) : int(place) + 2]
    return round(low + part * (high - low))


def tokens_in_a_row() -> float:
    """Return how many tokens one after the other a step waits for: the longest answer to each of
    its questions, and to those that take the place of agreed ones, which begin when these end."""
    config = Config(**SETTINGS)
    rng = Random(0)

    def place() -> int:
        lengths, answers = answers_to(f"{rng.random()}", 1, config.vote.samples)
        return max(lengths) + (place() if len(set(answers)) == 1 else 0)

    places = config.update.questions_per_step
    return fmean(max(place() for _ in range(places)) for _ in range(1000))


class Measured(NamedTuple):
    """The time of a run's steps over what it is at least: the sum of each step's larger part,
    sampling or training, and the larger of the two sums. The latter also counts that steps, and so
    the parts of one, differ in length."""

    step_over_max: float
    all_over_max: float


def measure(seconds: float, overlap: bool) -> Measured:
    steps = WARM_UP + STEPS[seconds]
    update = {**SETTINGS["update"], "overlap": overlap}
    config = Config(**{**SETTINGS, "update": update})
    engine = Sleeper(seconds / tokens_in_a_row())
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name)) as store:
        texts = [f"How much is {number} and {number}?" for number in range(QUESTIONS)]
        store.questions.record([Recorded(from_prompt(text), 1.0) for text in texts], holdout=0)
        run = Run(config, store, engine, store.runs.create(Trigger.OPERATOR, {}).id)  # type: ignore[arg-type]
        with (
            Candidate(run.client, Path(name) / "run", run.id, "base") as candidate,
            pacer_for(run.client, config.vote) as pacer,
        ):
            roller = Roller(run.client, config.vote, config.update, pacer, Reader())
            run.prepare(store.questions.new(QUESTIONS), steps + 1, candidate, roller, pacer)
            run.save = lambda directory: directory.mkdir()
            run.next_batch(0, {})
            parts = []
            for step in range(1, steps + 1):
                began = time.monotonic()
                time.sleep(seconds)
                trained = time.monotonic() - began
                run.next_batch(step, {})
                parts.append((time.monotonic() - began, trained, engine.busy.read()))
    walls, training, sampling = zip(*parts[WARM_UP:], strict=True)
    at_least = sum(map(max, training, sampling))
    return Measured(sum(walls) / at_least, sum(walls) / max(sum(training), sum(sampling)))


@click.command()
@click.option("--long", is_flag=True, help="With 60 s a step as well; takes ten minutes.")
def main(long: bool) -> None:
    """Measure how much of a run's sampling is hidden behind its training."""
    delays = [seconds for seconds in STEPS if long or seconds <= 10]
    arms = [(seconds, overlap) for overlap in (True, False) for seconds in delays]
    with ProcessPoolExecutor(len(arms)) as processes:
        found = dict(zip(arms, processes.map(measure, *zip(*arms, strict=True)), strict=True))
    summary = {
        f"{name}{'' if overlap else '_without'}": {
            f"{seconds:g}": round(getattr(found[seconds, overlap], name), 2) for seconds in delays
        }
        for name in Measured._fields
        for overlap in (True, False)
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
