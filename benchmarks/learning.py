"""Does learning help, and what harm does it do? `python -m benchmarks.learning [--smoke]`.

The demo's model and questions in mixtures, from easy ones to poisoned and spoilt ones; on each,
with several seeds, arms that learn from the same questions: nothing, a better temperature,
supervised tuning, TTRL as published, ours, and the truth. `docs/learning.md` says what is measured
and how to read it. The table is on standard error; the last line on standard output is JSON. With
`--out` an interrupted table is continued.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import click

from benchmarks.laboratory import plot, table
from benchmarks.laboratory.arms import ARMS, Scene, arms_of
from benchmarks.laboratory.bench import Bench, bench
from benchmarks.laboratory.book import Book, Cell, OtherSize, Scores
from benchmarks.laboratory.mixtures import MIXTURES, Size, named

SMOKE = Size(trained=32, held_out=24, probes=60, samples=32, steps=6)
SMOKE_MIXTURES, SMOKE_ARMS = ("easy", "constant"), ("none", "plain", "ours")

Key = tuple[str, str, int]


def plan(mixtures: Sequence[str], arms: Sequence[str], seeds: int) -> Iterator[Key]:
    """The cells in their order: a table that is interrupted has whole seeds. Whatever arms are
    chosen, the base is one of them: all others are measured against it."""
    for seed, (name, mixture) in itertools.product(range(1, seeds + 1), named(mixtures).items()):
        for arm in arms_of(mixture):
            if not arms or arm in ("none", *arms):
                yield name, arm, seed


def fill(size: Size, key: Key) -> Cell:
    """One cell: let the arm learn, and measure what serves then."""
    name, arm, seed = key
    worked_on = _own_bench()
    mixture = MIXTURES[name]
    questions = mixture.draw(name, seed, size)
    with tempfile.TemporaryDirectory() as place:
        scene = Scene(worked_on, mixture, questions, size, seed, Path(place))
        began, drawn = time.monotonic(), worked_on.client.samples
        outcome = ARMS[arm](scene)
        learned, samples = time.monotonic(), worked_on.client.samples - drawn
        with worked_on.serving(outcome.adapter) as version:
            scores = tuple(
                Scores(
                    worked_on.ask(version, questions.stream, size.samples, outcome.temperature),
                    worked_on.ask(version, questions.held_out, size.samples, outcome.temperature),
                )
                for _ in range(outcome.draws)
            )
    return Cell(
        *key,
        shipped=outcome.shipped,
        why=outcome.why,
        steps=outcome.steps,
        samples=samples,
        seconds=round(learned - began, 1),
        measuring=round(time.monotonic() - learned, 1),
        scores=scores,
    )


@cache
def _own_bench() -> Bench:
    """This process's, until it ends."""
    ending = ExitStack()
    atexit.register(ending.close)
    place = ending.enter_context(tempfile.TemporaryDirectory())
    return ending.enter_context(bench(Path(place)))


def fill_all(book: Book, keys: Sequence[Key], at_once: int) -> None:
    """The cells that are not there yet, and how far it is. Processes, since a run sets the seeds
    and the threads of its whole process; new ones, since torch does not survive a fork."""
    missing = [key for key in keys if key not in book.cells]
    began = time.monotonic()
    with ProcessPoolExecutor(at_once, get_context("spawn"), _ready_to_train) as pool:
        for number, cell in enumerate(pool.map(fill, itertools.repeat(book.size), missing), 1):
            book.add(cell)
            rest = (time.monotonic() - began) / number * (len(missing) - number)
            click.echo(f"{number}/{len(missing)} {table.line(book, cell)}", err=True)
            click.echo(f"    about {rest / 60:.0f} minutes to go", err=True)


def _names(known: Sequence[str]) -> object:
    def check(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(name for name in value.split(",") if name)
        if unknown := set(names) - set(known):
            raise click.BadParameter(f"{', '.join(unknown)}; there are: {', '.join(known)}")
        return names

    return check


@click.command()
@click.option("--smoke", is_flag=True, help="See in minutes that it runs.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--mixtures", default="", callback=_names(tuple(MIXTURES)), help="Some, by comma.")
@click.option("--arms", default="", callback=_names(tuple(ARMS)), help="Some, by comma.")
@click.option("--steps", default=Size.steps, show_default=True, help="Optimizer steps of an arm.")
@click.option("--at-once", default=2, show_default=True, help="Cells; each keeps a core busy.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="All numbers; continued."
)
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="An SVG.")
def main(
    smoke: bool,
    seeds: int,
    mixtures: tuple[str, ...],
    arms: tuple[str, ...],
    steps: int,
    at_once: int,
    out: Path | None,
    picture: Path | None,
) -> None:
    """Measure what learning does to a model, and what of it ships."""
    size = SMOKE if smoke else replace(Size(), steps=steps)
    if smoke:
        seeds, mixtures, arms = 1, mixtures or SMOKE_MIXTURES, arms or SMOKE_ARMS
    try:
        book = Book.open(size, out)
    except OtherSize as error:
        raise click.ClickException(str(error)) from None
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fill_all(book, list(plan(mixtures, arms, seeds)), at_once)
    found = table.summary(book)
    book.write(found=found, rows=table.rows(book))
    table.show(book)
    if picture:
        picture.write_text(plot.draw(book))
    print(json.dumps(found))


def _ready_to_train() -> None:
    """As a run's process is: threads that spin while they wait would take the engine's cores."""
    os.environ.setdefault("TQDM_DISABLE", "1")


if __name__ == "__main__":
    main()
