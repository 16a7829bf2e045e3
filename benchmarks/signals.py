"""What do signals besides the vote gain where the vote is wrong? `python -m benchmarks.signals`.

The demo's model learns, with our loop and nothing to judge what comes of it, from `fooled-45`,
where the majority is wrong for half of the questions, and from `easy`, where it is right: by the
vote, by that of the version before training, with the check `arithmetic` on all questions, on a
third, or as five votes, by the vote over two wordings, by the shares of all answers with a penalty
where there is no majority, with what a minority says kept while labels change, and by the right
answers. The table is on standard error; the last line on
standard output is JSON. With `--out` an interrupted table is continued.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from benchmarks.laboratory import arms, cells
from benchmarks.laboratory.arms import Arm
from benchmarks.laboratory.book import Book, Cell
from benchmarks.laboratory.measures import compare
from benchmarks.laboratory.mixtures import MIXTURES, Mixture, Size

SIGNALS: Mapping[str, Mapping[str, Any]] = {
    "vote": {},
    "teacher": {"vote.teacher": "live"},
    "verifier": {"verify.checks": {"arithmetic": ""}},
    "verifier on a third": {"verify.checks": {"arithmetic": r"[036]\D*$"}},
    "verifier as 5 votes": {"verify.checks": {"arithmetic": ""}, "verify.weight": 5},
    "views": {
        "vote.views": 2,
        "vote.rephrase": "benchmarks.laboratory.rephrasing:phrasings",
    },
    "distribution": {"vote.rewards": {"soft_majority": 1.0}, "vote.penalty": 0.5},
    "minority": {"vote.rewards": {"minority_preserving": 1.0}, "vote.flip_discount": 0.5},
}
FOOLED = "fooled-45"


def choose(mixture: str, arm: str) -> tuple[Mixture, Arm]:
    if arm in ("none", "truth"):
        return MIXTURES[mixture], arms.ARMS[arm]
    mixed = MIXTURES[mixture]
    return replace(mixed, changes={**mixed.changes, **SIGNALS[arm]}), arms.unjudged


def summary(book: Book) -> dict[str, Any]:
    """Return, by mixture and arm: `pass_at_1` of held-out questions, `corrupted`, the share of the
    questions right by the base's majority that are wrong now, `samples` and `seconds`; means over
    seeds. `recovered` is the share of what the vote loses against the truth."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for cell in book:
        found.setdefault(cell.mixture, {}).setdefault(cell.arm, {})
    for mixture, rows in found.items():
        for arm, row in rows.items():
            those = [each for each in book if (each.mixture, each.arm) == (mixture, arm)]
            row |= {
                "pass_at_1": fmean(each.scores[0].held_out.rates()["pass_at_1"] for each in those),
                "corrupted": fmean(_corrupted(book, each) for each in those),
                "samples": fmean(each.samples for each in those),
                "seconds": fmean(each.seconds for each in those),
            }
        vote, truth = (rows[arm]["pass_at_1"] for arm in ("vote", "truth"))
        for arm in SIGNALS:
            if arm in rows and truth > vote:
                rows[arm]["recovered"] = (rows[arm]["pass_at_1"] - vote) / (truth - vote)
    return found


def _corrupted(book: Book, cell: Cell) -> float:
    before = book.cells[cell.mixture, "none", cell.seed].scores[0].held_out.majority
    change = compare(before, cell.scores[0].held_out.majority)
    return change.lost / max(sum(before), 1)


def last_line(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    fooled = found[FOOLED]
    signals = [arm for arm in fooled if arm in SIGNALS]
    best = max(signals, key=lambda arm: (arm != "vote", fooled[arm]["pass_at_1"]))
    base, truth = fooled["none"]["pass_at_1"], fooled["truth"]["pass_at_1"]
    harm = [
        rows["vote"]["pass_at_1"] - rows[arm]["pass_at_1"]
        for rows in found.values()
        for arm in signals
    ]
    return {
        "best_signal_fooled_45": best,
        "share_of_truth_fooled_45": round(
            (fooled[best]["pass_at_1"] - base) / max(truth - base, 1e-9), 3
        ),
        "recovered": round(fooled[best].get("recovered", 0.0), 3),
        "harm": round(max(harm), 3),
        "found": found,
    }


@click.command()
@click.option("--seeds", default=2, show_default=True)
@click.option("--steps", default=Size.steps, show_default=True, help="Optimizer steps of an arm.")
@click.option(
    "--signal", "names", multiple=True, type=click.Choice(list(SIGNALS)), help="Default: all."
)
@click.option("--at-once", default=2, show_default=True, help="Cells; each keeps a core busy.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="All numbers; continued."
)
def main(seeds: int, steps: int, names: Sequence[str], at_once: int, out: Path | None) -> None:
    """Learn with and without other signals than the vote."""
    book = Book.open(replace(Size(), steps=steps, probes=0), out)
    taught = ("none", "vote", *(name for name in names or SIGNALS if name != "vote"), "truth")
    keys = [key[1:] + key[:1] for key in product(range(1, seeds + 1), (FOOLED, "easy"), taught)]
    cells.fill_all(book, keys, at_once, choose)
    found = summary(book)
    for mixture, rows in found.items():
        for arm, row in rows.items():
            numbers = "  ".join(f"{name} {value:.3g}" for name, value in row.items())
            click.echo(f"{mixture:10} {arm:20} {numbers}", err=True)
    print(json.dumps(last_line(found)))


if __name__ == "__main__":
    main()
