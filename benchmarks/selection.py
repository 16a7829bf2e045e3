"""What does the order of selection change? `python -m benchmarks.selection`.

The demo's model learns for some nights, with our loop and nothing to judge what comes of it, from a
stream of which each night has room for a part: the newest first, or by `selection.order: signal`.
Of both, an equal number of optimizer steps: what they took of samples, how many votes had a
training signal, and the accuracy on held-out questions. Figures are on standard error, means over
seeds; the last line on standard output is JSON. With `--out` an interrupted table is continued.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from benchmarks.laboratory import cells, teachers
from benchmarks.laboratory.arms import Arm, Outcome, Scene, none
from benchmarks.laboratory.bench import BASE
from benchmarks.laboratory.book import Book, Cell
from benchmarks.laboratory.mixtures import MIXTURES, Mixture, Size
from jobs.selection import Descent, select
from ttrl.config import SelectionOrder
from ttrl.config.loading import override
from ttrl.store import Store
from ttrl.store.questions import StoredQuestion
from ttrl.versions import Manifest
from ttrl.votes import VoteOutcome

NIGHTS = 4
SIZE = Size(trained=128, held_out=100, probes=0, samples=8, steps=24)
CHANGES = {
    "vote.samples": 16, "vote.floor": 0.2, "update.keep": 8, "update.questions_per_step": 4,
    "update.steps": SIZE.steps // NIGHTS, "selection.max_questions": SIZE.trained // NIGHTS,
    "guard.flips": 1.0,
}  # fmt: skip
"""The demo's, but half of the samples, and a quarter of the stream in each night."""


def choose(mixture: str, arm: str) -> tuple[Mixture, Arm]:
    return MIXTURES[mixture], none if arm == "none" else partial(learn, arm)


def learn(order: str, scene: Scene) -> Outcome:
    """Night after night from what came out of the last, in a store that knows the earlier ones."""
    parent, steps = None, 0
    for night in range(NIGHTS):
        config = override(scene.config(night), {**CHANGES, "selection.order": order})
        out = scene.directory / f"night-{night}"
        with scene.bench.serving(parent) as served:
            given = teachers.Night(scene.bench.client, config, scene.questions, served, parent, out)
            steps += teachers.learn(given, partial(selected, night))
        parent = out
    with Store.open(scene.directory) as store:
        votes = store.votes.recent(10**6)
    labelled = [vote for vote in votes if vote.outcome == VoteOutcome.LABEL and vote.share < 1]
    asked = len({vote.question_id for vote in votes})
    counts = {"votes": len(votes), "informative": len(labelled), "questions": asked}
    return Outcome(parent, json.dumps(counts), steps)


def selected(number: int, night: teachers.Night, store: Store) -> Sequence[StoredQuestion]:
    """What a run would choose; the run before made the version that it starts from."""
    made = None
    if night.parent:
        made = Manifest(night.parent.name, "", number, "", BASE, None, number, 16, (), 0.0)
    return select(night.config, store, Descent(made))[0].chosen


def row(cells_of: Sequence[Cell]) -> dict[str, Any]:
    """Return means over seeds; `informative` are votes with a training signal per 1000 samples."""
    counts = [json.loads(cell.why) for cell in cells_of if cell.shipped]
    rates = [cell.scores[0].held_out.rates() for cell in cells_of]
    found = {
        name: round(fmean(each[name] for each in rates), 3) for name in ("pass_at_1", "greedy")
    }
    if counts:
        samples = fmean(cell.samples for cell in cells_of)
        found |= {name: fmean(each[name] for each in counts) for name in counts[0]}
        found |= {"steps": fmean(cell.steps for cell in cells_of), "samples": samples}
        found["informative"] = round(1000 * found["informative"] / samples, 2)
    return found


@click.command()
@click.option("--seeds", default=2, show_default=True)
@click.option("--at-once", default=2, show_default=True, help="Cells; each keeps a core busy.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="All numbers; continued."
)
def main(seeds: int, at_once: int, out: Path | None) -> None:
    """Learn from what each order selects."""
    book = Book.open(SIZE, out)
    arms = ("none", *map(str, SelectionOrder))
    keys = [(m, arm, n) for n, m, arm in product(range(1, seeds + 1), ("hard-45", "easy"), arms)]
    cells.fill_all(book, keys, at_once, choose)
    found = {
        f"{mixture} {arm}": row([cell for cell in book if cell.key[:2] == (mixture, arm)])
        for mixture, arm in dict.fromkeys(key[:2] for key in keys)
    }
    for name, numbers in found.items():
        click.echo(f"{name:16} {numbers}", err=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
