"""Does learning help, and what harm does it do? `python -m benchmarks.learning [--smoke]`.

The demo's model and questions in mixtures, from easy ones to poisoned and spoilt ones; on each,
with several seeds, arms that learn from the same questions: nothing, a better temperature,
supervised tuning, TTRL as published, ours, and the truth. `docs/learning.md` says what is measured
and how to read it. The table is on standard error; the last line on standard output is JSON. With
`--out` an interrupted table is continued.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.laboratory import cells, table
from benchmarks.laboratory.arms import ARMS, Arm, arms_of
from benchmarks.laboratory.book import Book, OtherSize
from benchmarks.laboratory.cells import Key
from benchmarks.laboratory.mixtures import MIXTURES, Mixture, Size, named

SMOKE = Size(trained=32, held_out=24, probes=160, samples=32, steps=6)
SMOKE_MIXTURES, SMOKE_ARMS = ("easy", "constant"), ("none", "plain", "ours")


def plan(mixtures: Sequence[str], arms: Sequence[str], seeds: int) -> Iterator[Key]:
    """The cells in their order: a table that is interrupted has whole seeds. Whatever arms are
    chosen, the base is one of them: all others are measured against it."""
    for seed, (name, mixture) in itertools.product(range(1, seeds + 1), named(mixtures).items()):
        for arm in arms_of(mixture):
            if not arms or arm in ("none", *arms):
                yield name, arm, seed


def choose(mixture: str, arm: str) -> tuple[Mixture, Arm]:
    """What a cell is about."""
    return MIXTURES[mixture], ARMS[arm]


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
def main(
    smoke: bool,
    seeds: int,
    mixtures: tuple[str, ...],
    arms: tuple[str, ...],
    steps: int,
    at_once: int,
    out: Path | None,
) -> None:
    """Measure what learning does to a model, and what of it ships."""
    size = SMOKE if smoke else replace(Size(), steps=steps)
    if smoke:
        seeds, mixtures, arms = 1, mixtures or SMOKE_MIXTURES, arms or SMOKE_ARMS
    try:
        book = Book.open(size, out)
    except OtherSize as error:
        raise click.ClickException(str(error)) from None
    cells.fill_all(book, list(plan(mixtures, arms, seeds)), at_once, choose)
    found = table.summary(book)
    book.write(found=found, rows=table.rows(book))
    table.show(book)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
