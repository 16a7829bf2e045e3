"""Does asking in rounds find the label of all samples with fewer? `python -m benchmarks.votes`.

Plain TTRL on the laboratory's easy questions passes through several versions; each answers held-out
questions of all honest mixtures, as often as a whole vote asks. The answers to each question are
then shuffled and counted again: all of them, fixed numbers of them, in rounds until the vote is
decided, and all of them by ways of reasoning, each way with the square root of its votes. Label
accuracy is the share of the questions whose label is the right answer, the loss is against the vote
over all samples. The table is on standard error; the last line on standard output is JSON, with the
figures of the recipes' rule: means over the versions, a run's votes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import click
from rich.console import Console
from rich.table import Table

from benchmarks.laboratory import plot
from benchmarks.laboratory.answered import Asked, versions
from benchmarks.laboratory.bench import bench
from ttrl.meaning import Letters, cluster
from ttrl.votes import decided, rounds, take_vote

ROUNDS, SURE = 4, 0.9
"""The recipes' rule."""
SURES = (0.7, 0.8, SURE, 0.95, 0.99)
FIXED = (4, 8, 16, 24, 32, 48)
SAME_WAY = 0.9
"""Likeness by letters from which on two answers came about in the same way."""
DRAWS = 5
"""Times that the answers are shuffled."""

Stop = Callable[[Sequence[str | None]], int]
"""After how many of the answers it is enough."""


@dataclass(frozen=True)
class Measured:
    """What a rule came to on one version."""

    accuracy: float
    samples: float


def adaptive(samples: int, most: int, sure: float) -> Stop:
    """In at most so many rounds, until the vote is decided."""

    def stop(answers: Sequence[str | None]) -> int:
        reached = 0
        for count in rounds(samples, most):
            reached += count
            if decided([votes for _, votes in take_vote(answers[:reached]).counts], sure):
                break
        return reached

    return stop


def rules(samples: int) -> dict[str, Stop]:
    """By their names; the first is the vote over all samples, the second the recipes'."""
    found: dict[str, Stop] = {"all": lambda _: samples}
    found["recipes"] = adaptive(samples, ROUNDS, SURE)
    found |= {f"{ROUNDS} rounds, {sure:.0%}": adaptive(samples, ROUNDS, sure) for sure in SURES}
    return found | {f"{count}": lambda _, count=count: count for count in FIXED if count < samples}


def measure(asked: Sequence[Asked], stop: Stop) -> Measured:
    """The same shuffles for each rule."""
    rng = random.Random(0)
    right, drawn = [], []
    for _ in range(DRAWS):
        for each in asked:
            answers = rng.sample(each.answers, len(each.answers))
            count = stop(answers)
            right.append(take_vote(answers[:count]).label == each.truth)
            drawn.append(count)
    return Measured(round(fmean(right), 4), round(fmean(drawn), 2))


Found = Mapping[str, Mapping[str, Measured]]
"""By version and rule."""


def summary(found: Found, samples: int) -> dict[str, float]:
    """Of the recipes' rule, as parts of one."""
    each = [(rows["all"], rows["recipes"]) for rows in found.values()]
    return {
        "samples_saved": round(1 - fmean(ours.samples for _, ours in each) / samples, 3),
        "label_accuracy_loss": round(fmean(full.accuracy - o.accuracy for full, o in each), 4),
    }


def show(found: Found) -> None:
    """The table on standard error."""
    table = Table(title="label accuracy with so many samples of each question")
    table.add_column("rule")
    for version in found:
        table.add_column(version)
    for rule in next(iter(found.values())):
        cells = (f"{rows[rule].accuracy:.1%} {rows[rule].samples:.1f}" for rows in found.values())
        table.add_row(rule, *cells)
    Console(stderr=True, width=120).print(table)


def by_ways(asked: Sequence[Asked]) -> float:
    """Label accuracy where one way of reasoning does not outvote two."""
    return fmean(_heaviest(each) == each.truth for each in asked)


def _heaviest(asked: Asked) -> str | None:
    likeness = Letters(SAME_WAY)
    weights: dict[str, float] = {}
    for answer in dict.fromkeys(filter(None, asked.answers)):
        ways = [t for a, t in zip(asked.answers, asked.texts, strict=True) if a == answer]
        alike = likeness.compare(ways)
        numbers = cluster([[e * (e >= SAME_WAY) for e in row] for row in alike])
        weights[answer] = sum(math.sqrt(votes) for votes in Counter(numbers).values())
    heaviest = max(weights.values(), default=0.0)
    leading = [answer for answer, weight in weights.items() if weight == heaviest]
    return leading[0] if len(leading) == 1 else None


WIDTH, HEIGHT, LEFT, TOP = 480.0, 260.0, 60.0, 40.0
COLOURS = ("#555555", "#c2410c", "#1d4ed8", "#0b7a3b")


def draw(found: Found, samples: int) -> str:
    """Accuracy against samples: a line for fixed numbers, dots for rounds."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20:g} '
        f'{TOP + HEIGHT + 60:g}" font-family="sans-serif" font-size="12">',
        f'<rect width="{LEFT + WIDTH + 20:g}" height="{TOP + HEIGHT + 60:g}" fill="white"/>',
        plot.text(LEFT, 16, "label accuracy; lines: fixed numbers, dots: in rounds", "start"),
        plot.text(LEFT + WIDTH / 2, TOP + HEIGHT + 34, "samples of each question"),
    ]
    for tenth in range(0, 11, 2):
        y = TOP + HEIGHT * (1 - tenth / 10)
        parts.append(plot.line((LEFT, y), (LEFT + WIDTH, y), "#e5e5e5"))
        parts.append(plot.text(LEFT - 6, y + 4, f"{tenth / 10:.1f}", "end"))
    for count in (8, 16, 32, samples):
        parts.append(plot.text(LEFT + WIDTH * count / samples, TOP + HEIGHT + 16, str(count)))
    for place, ((version, rows), colour) in enumerate(zip(found.items(), COLOURS, strict=True)):
        parts += _version(rows, samples, colour)
        parts.append(plot.text(LEFT + 110 * place, TOP + HEIGHT + 54, version, "start"))
        parts.append(plot.line((LEFT + 110 * place - 22, TOP + HEIGHT + 50),
                               (LEFT + 110 * place - 4, TOP + HEIGHT + 50), colour))  # fmt: skip
    return "\n".join([*parts, "</svg>"]) + "\n"


def _version(rows: Mapping[str, Measured], samples: int, colour: str) -> Iterator[str]:
    def at(measured: Measured) -> tuple[float, float]:
        x = LEFT + WIDTH * measured.samples / samples
        return x, TOP + HEIGHT * (1 - measured.accuracy)

    fixed = [at(rows[name]) for name in (*map(str, FIXED), "all") if name in rows]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in fixed)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for x, y in (at(measured) for name, measured in rows.items() if "rounds" in name):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'


@click.command()
@click.option("--questions", default=60, show_default=True, help="Of each mixture.")
@click.option("--samples", default=64, show_default=True, help="A whole vote.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="All numbers.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="An SVG.")
def main(questions: int, samples: int, out: Path | None, picture: Path | None) -> None:
    """Measure what votes in rounds save, and what that costs."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    out, picture = (path and path.absolute() for path in (out, picture))
    found: dict[str, dict[str, Measured]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        place = Path(name)
        with bench(place) as worked_on:
            for version, asked in versions(worked_on, place, questions, samples):
                found[version] = {
                    rule: measure(asked, stop) for rule, stop in rules(samples).items()
                } | {"by ways": Measured(round(by_ways(asked), 4), float(samples))}
                click.echo(f"{version}: {len(asked)} questions asked {samples} times", err=True)
    show(found)
    if out:
        rows = {v: {rule: asdict(m) for rule, m in rules_.items()} for v, rules_ in found.items()}
        out.write_text(json.dumps(rows, indent=1) + "\n")
    if picture:
        picture.write_text(draw(found, samples))
    print(json.dumps(summary(found, samples)))


if __name__ == "__main__":
    main()
