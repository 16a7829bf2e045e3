"""What is each switch good for? `python -m benchmarks.rewards`.

The laboratory's questions, a fifth of them too hard and some that fool the model, learned from by
our own loop with nobody to judge the result: by the demo's settings, and with one thing changed at
a time. Gains are on held-out questions, against the base; corrupted are questions that the base's
majority had right, in excess of what asking the base again shows. The table is on standard error,
the last line on standard output is JSON. With `--out` an interrupted table is continued.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.laboratory import cells, table
from benchmarks.laboratory.arms import Arm, none, unjudged
from benchmarks.laboratory.book import Book, OtherSize
from benchmarks.laboratory.mixtures import Kind, Mixture, Size

MIXED = Mixture(Kind.CURVE, hard=0.2, fooled=0.15)
UNGUARDED = {"guard.flips": 1.0}
"""So many questions without a right majority are near the guard's bound: chance would end some of
the runs early, and those could not be compared."""
SIZE = Size(trained=96, held_out=160, probes=1, samples=32, steps=20)
SMOKE = Size(trained=32, held_out=24, probes=1, samples=16, steps=2)


def _also(reward: str, weight: float) -> dict[str, Any]:
    return {"vote.rewards": {"majority": 1.0, reward: weight}}


SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "rounds": {"vote.rounds": 4, "vote.sure": 0.9},
    "no floor": {"vote.floor": 0.0},
    "ceiling": {"vote.ceiling": 0.9},
    "soft majority": {"vote.rewards": {"soft_majority": 1.0}},
    "readable": _also("readable", 0.2),
    "length": _also("length", 0.2),
    "overlong": _also("overlong", 0.2),
    "repetition": _also("repetition", 0.2),
    "novelty": _also("novelty", 0.2),
    "random samples": {"update.downsampling": "random"},
    "first samples": {"update.downsampling": "first"},
    "all samples": {"update.keep": 32},
    "loss grpo": {"update.loss": "grpo"},
    "scale none": {"update.scale": "none"},
    "kl 0.05": {"update.kl": 0.05},
    "top entropy": {"update.top_entropy": 0.2},
    "entropy target": {"update.entropy_target": 0.3},
    "replay": {"update.replay": 0.25},
}
FIGURES = {
    "gain": "held_out_pass_at_1",
    "greedy": "held_out_greedy",
    "majority": "held_out_majority",
}
ANSWER = ("tokens", "ms")
"""What an answer takes that is served, before and after."""
COSTS = ("samples", "seconds")
"""Of the learning."""


def choose(_mixture: str, arm: str) -> tuple[Mixture, Arm]:
    """What a cell is about."""
    return (
        (MIXED, none)
        if arm == "none"
        else (
            replace(MIXED, changes=UNGUARDED | dict(SWITCHES[arm])),
            unjudged,
        )
    )


def rows(book: Book) -> dict[str, dict[str, float | list[float]]]:
    """For each switch the medians over seeds, of gains with the least and the most."""
    found: dict[str, dict[str, float | list[float]]] = {}
    for switch in SWITCHES:
        of = [cell for cell in book if cell.arm == switch]
        if not of:
            continue
        row: dict[str, float | list[float]] = {}
        for name, figure in FIGURES.items():
            gains = [_figure(book, cell.key, figure) for cell in of]
            row[name] = [round(each, 4) for each in (median(gains), min(gains), max(gains))]
        row["corrupted"] = round(median(table.harmed(book, cell).difference for cell in of), 4)
        row["tokens"] = _medians(
            (table.base(book, cell)[0].held_out.tokens, table.served(book, cell).held_out.tokens)
            for cell in of
        )
        row["ms"] = _medians((1000 * s for s in cell.answer_seconds) for cell in of)
        row["samples"] = median(cell.samples for cell in of)
        row["seconds"] = median(cell.seconds for cell in of)
        found[switch] = row
    return found


def _medians(of: Iterable[Iterable[float]]) -> list[float]:
    """Of what each has at the same place."""
    return [round(median(values), 1) for values in zip(*of, strict=True)]


def _figure(book: Book, key: cells.Key, name: str) -> float:
    """A gain over the base."""
    cell = book.cells[key]
    before = table.base(book, cell)[0].held_out.rates()
    after = table.served(book, cell).held_out.rates()
    short = name.removeprefix("held_out_")
    return after[short] - before[short]


def show(found: Mapping[str, Mapping[str, float | list[float]]]) -> None:
    """The table on standard error."""
    drawn = RichTable(title="gains over the base in points: median (least to most of the seeds)")
    for heading in ("switch", *FIGURES, "corrupted", *ANSWER, *COSTS):
        drawn.add_column(heading, justify="left" if heading == "switch" else "right", no_wrap=True)
    for switch, row in found.items():
        texts = [_spread(row[name]) for name in FIGURES]
        texts += [f"{row['corrupted']:+.1%}", *(_change(row[name]) for name in ANSWER)]
        drawn.add_row(switch, *texts, *(f"{row[name]:.0f}" for name in COSTS))
    Console(stderr=True, width=150).print(drawn)


def _spread(values: float | list[float]) -> str:
    assert isinstance(values, list)
    middle, least, most = (100 * value for value in values)
    return f"{middle:+.1f} ({least:+.1f} to {most:+.1f})"


def _change(values: float | list[float]) -> str:
    assert isinstance(values, list)
    before, after = values
    return f"{before:.0f} to {after:.0f}"


@click.command()
@click.option("--smoke", is_flag=True, help="See in minutes that it runs.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--switches", default="", help="Some, by comma.")
@click.option("--at-once", default=2, show_default=True, help="Cells; each keeps a core busy.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="All numbers; continued."
)
def main(smoke: bool, seeds: int, switches: str, at_once: int, out: Path | None) -> None:
    """Measure what each switch does to what is learned."""
    chosen = [name for name in switches.split(",") if name] or list(SWITCHES)
    if unknown := set(chosen) - SWITCHES.keys():
        raise click.BadParameter(f"{', '.join(unknown)}; there are: {', '.join(SWITCHES)}")
    try:
        book = Book.open(SMOKE if smoke else SIZE, out)
    except OtherSize as error:
        raise click.ClickException(str(error)) from None
    keys = itertools.product(range(1, (1 if smoke else seeds) + 1), ["none", *chosen])
    cells.fill_all(book, [("mixed", arm, seed) for seed, arm in keys], at_once, choose)
    found = rows(book)
    book.write(found=found)
    show(found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
