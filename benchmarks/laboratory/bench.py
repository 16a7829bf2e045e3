"""The workbench: one engine for the whole table, and what its versions answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.laboratory.measures import Answered
from ttrl.answers import AnswerKind, Reader
from ttrl.demo import Problem, model_dir
from ttrl.engine import threads
from ttrl.engine.client import EngineClient
from ttrl.engine.process import EngineLog, EngineProcess, embedded_command, free_port
from ttrl.engine.samples import SampleSet, Sampling
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import read_answers
from ttrl.votes import take_vote

BASE = "ttrl-demo"
MAX_TOKENS = 96
AT_ONCE = 16
READER = Reader()
"""Requests in flight."""


class CountingClient(EngineClient):
    """Counts the samples that were drawn through it, by whomever."""

    samples = 0
    _counting = threading.Lock()

    def sample(self, *asked: Any, n: int, **how: Any) -> SampleSet:
        with self._counting:
            self.samples += n
        return super().sample(*asked, n=n, **how)


class Bench:
    """The engine, and adapters in it under names of their own."""

    def __init__(self, client: CountingClient) -> None:
        self.client = client
        self._numbers = itertools.count(1)

    @contextmanager
    def serving(self, adapter: Path | None, name: str | None = None) -> Iterator[str]:
        """The name under which these weights answer meanwhile; None is the base model."""
        if adapter is None:
            yield BASE
            return
        name = name or f"laboratory-{next(self._numbers)}"
        self.client.load_adapter(name, adapter)
        yield name
        self.client.unload_adapter(name)

    def ask(
        self, version: str, problems: Sequence[Problem], samples: int, temperature: float = 1.0
    ) -> Answered:
        """Each problem's answers: the most likely one, and `samples` drawn at a temperature."""

        def one(problem: Problem) -> tuple[SampleSet, SampleSet]:
            return self._draw(version, problem, samples, temperature), self._draw(version, problem)

        asked = list(threads.map_in_order(one, problems, width=AT_ONCE))
        return _read(problems, asked)

    def seconds(self, version: str, problems: Sequence[Problem]) -> tuple[float, float]:
        """Mean time to the most likely answer, of the base and of a version: asked by turns, since
        what else the machine does changes, and one at a time."""
        took = [(self._time(BASE, problem), self._time(version, problem)) for problem in problems]
        before, after = zip(*took, strict=True)
        return fmean(before), fmean(after)

    def _time(self, version: str, problem: Problem) -> float:
        began = time.perf_counter()
        self._draw(version, problem)
        return time.perf_counter() - began

    def _draw(self, version: str, problem: Problem, n: int = 1, heat: float = 0.0) -> SampleSet:
        sampling = Sampling(heat, MAX_TOKENS)
        return self.client.sample(
            from_prompt(problem.prompt), model=version, n=n, sampling=sampling
        )


@contextmanager
def bench(directory: Path, model: Path | None = None) -> Iterator[Bench]:
    """Start the engine of a model, the demo's if none is given, and keep it; its log is in the
    directory. Raises EngineError."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = embedded_command(model or model_dir(), port, BASE)
    log = EngineLog(directory / "engine.log")
    with EngineProcess(command, url=url, log=log), CountingClient(url) as client:
        yield Bench(client)


def _read(problems: Sequence[Problem], asked: Sequence[tuple[SampleSet, SampleSet]]) -> Answered:
    right, majority, greedy, unreadable, tokens = [], [], [], 0, 0
    for problem, (drawn, likely) in zip(problems, asked, strict=True):
        truth = truth_of(problem)
        read = read_answers(READER, problem.prompt, drawn).answers
        right.append(read.count(truth))
        majority.append(take_vote(read).label == truth)
        greedy.append(read_answers(READER, problem.prompt, likely).answers == (truth,))
        unreadable += read.count(None)
        tokens += sum(len(sample.token_ids) for sample in drawn.samples)
    samples = len(asked[0][0].samples)
    return Answered(
        samples=samples,
        right=tuple(right),
        majority=tuple(majority),
        greedy=tuple(greedy),
        hard=tuple(problem.hard for problem in problems),
        unreadable=unreadable / (samples * len(problems)),
        tokens=tokens / (samples * len(problems)),
    )


def truth_of(problem: Problem) -> str:
    """The right answer, written as votes have it."""
    (truth,) = Reader(AnswerKind.MATH).read("", [rf"\boxed{{{problem.answer}}}"]).answers
    assert truth is not None
    return truth
