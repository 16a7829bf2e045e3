"""Filling a book: one cell after the other, several at once."""

from __future__ import annotations

import atexit
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import click

from benchmarks.laboratory import table
from benchmarks.laboratory.arms import Arm, Scene
from benchmarks.laboratory.bench import Bench, bench
from benchmarks.laboratory.book import Book, Cell, Scores
from benchmarks.laboratory.mixtures import Mixture, Size

ALONE = 40
"""Questions that are asked one at a time, for the seconds of an answer."""
Key = tuple[str, str, int]
Choose = Callable[[str, str], tuple[Mixture, Arm]]
"""What the names of a mixture and an arm stand for; a function of a module, for other processes."""


def fill(size: Size, choose: Choose, key: Key) -> Cell:
    """One cell: let the arm learn, and measure what serves then."""
    name, arm, seed = key
    worked_on = _own_bench()
    mixture, let_learn = choose(name, arm)
    questions = mixture.draw(name, seed, size)
    with tempfile.TemporaryDirectory() as place:
        scene = Scene(worked_on, mixture, questions, size, seed, Path(place))
        began, drawn = time.monotonic(), worked_on.client.samples
        outcome = let_learn(scene)
        learned, samples = time.monotonic(), worked_on.client.samples - drawn
        with worked_on.serving(outcome.adapter) as version:
            scores = tuple(
                Scores(
                    worked_on.ask(version, questions.stream, size.samples, outcome.temperature),
                    worked_on.ask(version, questions.held_out, size.samples, outcome.temperature),
                )
                for _ in range(outcome.draws)
            )
            waits = worked_on.seconds(version, questions.held_out[:ALONE])
    return Cell(
        *key,
        shipped=outcome.shipped,
        why=outcome.why,
        steps=outcome.steps,
        samples=samples,
        seconds=round(learned - began, 1),
        measuring=round(time.monotonic() - learned, 1),
        answer_seconds=waits,
        scores=scores,
    )


@cache
def _own_bench() -> Bench:
    """This process's, until it ends."""
    ending = ExitStack()
    atexit.register(ending.close)
    place = ending.enter_context(tempfile.TemporaryDirectory())
    return ending.enter_context(bench(Path(place)))


def fill_all(book: Book, keys: Sequence[Key], at_once: int, choose: Choose) -> None:
    """The cells that are not there yet, and how far it is. Processes, since a run sets the seeds
    and the threads of its whole process; new ones, since torch does not survive a fork."""
    missing = [key for key in keys if key not in book.cells]
    began = time.monotonic()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    one = partial(fill, book.size, choose)
    with ProcessPoolExecutor(at_once, get_context("spawn"), _ready_to_train) as pool:
        for number, cell in enumerate(pool.map(one, missing), 1):
            book.add(cell)
            rest = (time.monotonic() - began) / number * (len(missing) - number)
            click.echo(f"{number}/{len(missing)} {table.line(book, cell)}", err=True)
            click.echo(f"    about {rest / 60:.0f} minutes to go", err=True)


def _ready_to_train() -> None:
    """As a run's process is: threads that spin while they wait would take the engine's cores."""
    os.environ.setdefault("TQDM_DISABLE", "1")
