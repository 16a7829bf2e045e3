"""What all cells say together: medians and spreads over seeds, the table, and the last line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import add, itemgetter
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.laboratory.arms import ARMS
from benchmarks.laboratory.book import Book, Cell, Scores
from benchmarks.laboratory.measures import (
    ONE_SIDED,
    TWO_SIDED,
    K,
    Paired,
    compare,
    excess,
)
from benchmarks.laboratory.mixtures import MIXTURES, Kind

SOUND = 0.9
"""Label accuracy from which on the prior counts as sound."""
NOBODY = Paired(0, 0, 0)


def base(book: Book, cell: Cell) -> tuple[Scores, Scores]:
    """The two draws of the base on the cell's questions."""
    first, again = book.cells[cell.mixture, "none", cell.seed].scores
    return first, again


def served(book: Book, cell: Cell) -> Scores:
    """What users get in the end: the version's answers, or the base's when asked again."""
    return cell.scores[-1] if cell.scores else base(book, cell)[1]


def label_accuracy(book: Book, cell: Cell) -> float:
    """The share of the questions to learn from whose majority, by the base, is right."""
    return fmean(base(book, cell)[0].trained.majority)


def majorities(scores: Scores) -> tuple[bool, ...]:
    """Whether the majority is right: of the trained questions, then of the held-out ones."""
    return (*scores.trained.majority, *scores.held_out.majority)


def harmed(book: Book, cell: Cell) -> Paired:
    """Corrupted in excess of what the base shows when it is asked again."""
    first, again = base(book, cell)
    return excess(majorities(first), majorities(again), majorities(served(book, cell)))


def above_majority(book: Book, cell: Cell) -> Paired:
    """Held-out: the greedy answer against the base's majority."""
    return compare(base(book, cell)[0].held_out.majority, served(book, cell).held_out.greedy)


def numbers(book: Book, cell: Cell) -> dict[str, float]:
    """One cell's figures."""
    (first, again), scores = base(book, cell), served(book, cell)
    change = compare(majorities(first), majorities(scores))
    by_chance = compare(majorities(first), majorities(again))
    rows = {
        "held_out": scores.held_out,
        "trained": scores.trained,
        "easy": scores.held_out.easy(),
    }
    return {
        "label_accuracy": label_accuracy(book, cell),
        **{f"{of}_{name}": v for of, a in rows.items() for name, v in a.rates().items()},
        "learned": change.gained,
        "corrupted": change.lost,
        "corrupted_by_chance": by_chance.lost,
        "excess_corrupted": harmed(book, cell).difference,
        "unreadable": scores.held_out.unreadable,
        "tokens": scores.held_out.tokens,
        "samples": cell.samples,
        "seconds": cell.seconds,
    }


def groups(book: Book) -> Iterator[tuple[str, str, list[Cell]]]:
    """The cells of each mixture and arm, in the table's order."""
    for mixture in MIXTURES:
        for arm in ARMS:
            if cells := [cell for cell in book if (cell.mixture, cell.arm) == (mixture, arm)]:
                yield mixture, arm, cells


def rows(book: Book) -> list[dict[str, Any]]:
    """For each mixture and arm the median over seeds of every figure, with the least and the most,
    how many shipped, and why."""
    found = []
    for mixture, arm, cells in groups(book):
        each = [numbers(book, cell) for cell in cells]
        spread = {
            name: [median(values), min(values), max(values)]
            for name in each[0]
            if (values := [one[name] for one in each])
        }
        why = sorted({cell.why for cell in cells})
        shipped = sum(cell.shipped for cell in cells)
        found.append(
            {"mixture": mixture, "arm": arm, "seeds": len(cells), **spread, "shipped": shipped,
             "why": why}
        )  # fmt: skip
    return found


def summary(book: Book) -> dict[str, Any]:
    """The last line; what the chosen mixtures and arms cannot say is null."""
    shipped = [cell for cell in book if cell.arm == "ours" and cell.shipped]
    harm = reduce(add, (harmed(book, cell) for cell in shipped), NOBODY)
    return {
        **share_of_ceiling(book),
        "excess_corrupted_upper": harm.interval(ONE_SIDED)[1] if harm.questions else None,
        "excess_corrupted": harm.difference if harm.questions else None,
        "initially_right": harm.questions,
        **shipped_from(book, Kind.COLLAPSE),
        **shipped_from(book, Kind.POISON),
        "above_majority": best_above_majority(book),
        "seconds": round(sum(cell.seconds + cell.measuring for cell in book), 1),
    }


def share_of_ceiling(book: Book) -> dict[str, Any]:
    """What ours gains over the base, as a share of what the truth gains, over all cells where the
    prior is sound and both were tried."""
    pairs = [
        (cell, book.cells[cell.mixture, "truth", cell.seed])
        for cell in book
        if cell.arm == "ours"
        and (cell.mixture, "truth", cell.seed) in book.cells
        and label_accuracy(book, cell) >= SOUND
    ]
    found: dict[str, Any] = {}
    for suffix, rate in (("", "pass_at_1"), ("_greedy", "greedy")):
        ours = sum(gain(book, cell, rate) for cell, _ in pairs)
        truth = sum(gain(book, cell, rate) for _, cell in pairs)
        found[f"share_of_ceiling{suffix}"] = ours / truth if truth > 0 else None
    return found


def gain(book: Book, cell: Cell, rate: str) -> float:
    """Held-out, over the mean of the base's two draws."""
    before = fmean(scores.held_out.rates()[rate] for scores in base(book, cell))
    return served(book, cell).held_out.rates()[rate] - before


def shipped_from(book: Book, kind: Kind) -> dict[str, int]:
    """How many of our runs there were on spoilt streams, how many of them shipped, and how many of
    those shipped something that gives fewer right answers to the held-out questions."""
    cells = [cell for cell in book if cell.arm == "ours" and MIXTURES[cell.mixture].kind is kind]
    shipped = [cell for cell in cells if cell.shipped]
    return {
        f"runs_{kind}": len(cells),
        f"shipped_from_{kind}": len(shipped),
        f"worse_from_{kind}": sum(gain(book, cell, "pass_at_1") < 0 for cell in shipped),
    }


def best_above_majority(book: Book) -> dict[str, Any] | None:
    """The mixture where ours ends surest above the base's majority with its held-out greedy
    answers, over all seeds, with a 95% interval for that mixture alone."""
    found = []
    for mixture, arm, cells in groups(book):
        if arm == "ours":
            paired = reduce(add, (above_majority(book, cell) for cell in cells))
            found.append((paired.interval(TWO_SIDED), paired, mixture))
    if not found:
        return None
    (low, high), paired, mixture = max(found, key=itemgetter(0))
    return {
        "mixture": mixture,
        "difference": paired.difference,
        "low": low,
        "high": high,
        "questions": paired.questions,
    }


def line(book: Book, cell: Cell) -> str:
    """One cell, for whoever waits."""
    now = numbers(book, cell)
    return (
        f"{cell.mixture}, seed {cell.seed}, {cell.arm}: "
        f"greedy {now['held_out_greedy']:.2f}, pass@1 {now['held_out_pass_at_1']:.2f}, "
        f"majority {now['held_out_majority']:.2f}; learned {now['learned']:.0f}, "
        f"corrupted {now['corrupted']:.0f} (by chance {now['corrupted_by_chance']:.0f}); "
        f"{cell.seconds:.0f} + {cell.measuring:.0f} s; {cell.why}"
    )


SHARES = {
    "greedy": "held_out_greedy",
    "pass@1": "held_out_pass_at_1",
    "majority": "held_out_majority",
    f"pass@{K}": f"held_out_pass_at_{K}",
    "trained pass@1": "trained_pass_at_1",
    "trained majority": "trained_majority",
    "easy pass@1": "easy_pass_at_1",
}
COUNTS = {
    "learned": "learned",
    "corrupted": "corrupted",
    "by chance": "corrupted_by_chance",
    "samples": "samples",
    "seconds": "seconds",
}
LEAST_WIDTH = 180


def show(book: Book) -> None:
    """The table, and what was said of our runs, on standard error: medians over seeds, give or take
    half of what lies between the least and the most."""
    table = Table(title="Held-out questions, unless it says otherwise")
    for name in ("mixture", "labels", "arm", *SHARES, *COUNTS, "shipped"):
        table.add_column(name, justify="left" if name in ("mixture", "arm") else "right")
    for mixture, same in groupby(rows(book), key=itemgetter("mixture")):
        table.add_section()
        for row in same:
            table.add_row(
                mixture,
                f"{row['label_accuracy'][0]:.2f}",
                row["arm"],
                *(_share(row[key]) for key in SHARES.values()),
                *(f"{row[key][0]:,.0f}" for key in COUNTS.values()),
                f"{row['shipped']}/{row['seeds']}",
            )
    console = Console(stderr=True)
    console.width = max(console.width, LEAST_WIDTH)
    console.print(table)
    for cell in book:
        if cell.arm == "ours":
            console.print(f"{cell.mixture}, seed {cell.seed}: {cell.why}", markup=False)


def _share(spread: Sequence[float]) -> str:
    middle, least, most = spread
    return f"{middle:.2f} ±{(most - least) / 2:.2f}" if most > least else f"{middle:.2f}"
