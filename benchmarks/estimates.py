"""Does the estimated accuracy hold what it promises? `python -m benchmarks.estimates`.

Our loop learns for some nights, each from what came out of the last, and everything that comes out
serves. Each version answers a pool of held-out questions, of which all right answers are known: its
true accuracy. Then a few questions of the pool are drawn and labelled, others are drawn without a
label, and the estimate is made of both, again and again; with replacement, so that the pool is all
the traffic there is. The same for a pool in which most questions are outside what the model was
taught: with labels from it, and with labels from before it came to that. The table is on standard
error; the last line on standard output is JSON, as parts of one: how often an estimate is made, how
often the truth lies inside the interval of one that is, its width, how far off the estimate and the
bare agreement are.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import click
from rich.console import Console
from rich.table import Table

from benchmarks.laboratory import teachers
from benchmarks.laboratory.answered import Asked, ask
from benchmarks.laboratory.arms import Scene
from benchmarks.laboratory.bench import BASE, bench
from benchmarks.laboratory.mixtures import Kind, Mixture, Size
from ttrl import quality
from ttrl.demo.questions import Problem
from ttrl.paired import Answered

UNGUARDED = {"guard.flips": 1.0}
"""Everything is to be learned that can be."""
USUAL = Mixture(Kind.CURVE, hard=0.2, fooled=0.1, changes=UNGUARDED)
MOVED = replace(USUAL, hard=0.7)
STEPS = 6
"""Of a night."""
LABELS = (20, 40, 80)
UNLABELLED = 200
DRAWS = 200


@dataclass(frozen=True)
class Pool:
    """Questions and a version's answers to them."""

    problems: Sequence[Problem]
    asked: Sequence[quality.Asked]

    @property
    def truth(self) -> float:
        """The share of right answers."""
        return fmean(each.answered.accuracy for each in self.asked)


@dataclass(frozen=True)
class Found:
    """Of the draws, the share in which an estimate was made at all, and that in which the truth was
    outside its interval; means over those that were made, if any were; and how far off the bare
    agreement is."""

    truth: float
    made: float
    wrong: float
    width: float | None
    off: float | None
    agreement_off: float


def pool_of(problems: Sequence[Problem], answered: Sequence[Asked]) -> Pool:
    """Each question its own cluster."""
    asked = [
        quality.Asked(
            problem.prompt, Answered(one.answers, tuple(a == one.truth for a in one.answers))
        )
        for problem, one in zip(problems, answered, strict=True)
    ]
    return Pool(problems, asked)


def draw(rng: random.Random, labelled: Pool, traffic: Pool, labels: int) -> quality.Quality:
    """So many questions of one pool with their labels, and others without."""
    known = rng.choices(labelled.asked, k=labels)
    other = [
        replace(each, answered=replace(each.answered, right=None))
        for each in rng.choices(traffic.asked, k=UNLABELLED)
    ]
    found = quality.measure(
        [replace(each, cluster=str(number)) for number, each in enumerate([*known, *other])]
    )
    assert found is not None
    return found


def try_out(labelled: Pool, traffic: Pool, labels: int) -> Found:
    """The estimate of the traffic's accuracy, over and over."""
    rng = random.Random(labels)
    made = [draw(rng, labelled, traffic, labels) for _ in range(DRAWS)]
    found = [each.estimate for each in made if each.estimate is not None]
    truth = traffic.truth
    return Found(
        truth,
        made=len(found) / len(made),
        wrong=sum(not e.low <= truth <= e.high for e in found) / len(made),
        width=_mean(e.high - e.low for e in found),
        off=_mean(abs(e.value - truth) for e in found),
        agreement_off=fmean(abs(each.agreement - truth) for each in made),
    )


def _mean(values: Iterable[float]) -> float | None:
    every = list(values)
    return fmean(every) if every else None


def show(found: dict[str, dict[str, dict[str, Found]]]) -> None:
    """The table on standard error."""
    table = Table(
        title="accuracy of the traffic; by labels: the estimate (how far off bare agreement is)"
    )
    table.add_column("version")
    for scene in next(iter(found.values())):
        table.add_column(scene)
    for version, scenes in found.items():
        cells = []
        for by in scenes.values():
            lines = [f"{next(iter(by.values())).truth:.1%}"]
            lines += [
                f"{n}: made {f.made:.1%}, wrong {f.wrong:.1%}; {_told(f.width)} wide, "
                f"{_told(f.off)} off ({f.agreement_off:.2f})"
                for n, f in by.items()
            ]
            cells.append("\n".join(lines))
        table.add_row(version, *cells)
    Console(stderr=True, width=150).print(table)


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def summary(found: dict[str, dict[str, dict[str, Found]]], scene: str) -> dict[str, float]:
    """Means over the versions, at the middle number of labels."""
    each = [scenes[scene][str(LABELS[1])] for scenes in found.values()]
    made = fmean(one.made for one in each)
    return {
        "made": round(made, 3),
        "inside": round(1 - fmean(one.wrong for one in each) / made, 3) if made else 1.0,
        "wrong": round(fmean(one.wrong for one in each), 3),
        "width": round(fmean(one.width for one in each if one.width is not None), 3),
        "off": round(fmean(one.off for one in each if one.off is not None), 3),
        "agreement_off": round(fmean(one.agreement_off for one in each), 3),
    }


@click.command()
@click.option("--nights", default=6, show_default=True, help="Promotions in a row.")
@click.option(
    "--questions",
    type=click.IntRange(min=UNLABELLED),
    default=300,
    show_default=True,
    help="Of each pool.",
)
@click.option("--samples", default=16, show_default=True, help="Answers to each.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="All numbers.")
def main(nights: int, questions: int, samples: int, out: Path | None) -> None:
    """Hold the estimated accuracy against the true one."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    out = out and out.absolute()
    size = Size(trained=96, held_out=questions, probes=1, steps=STEPS)
    held_out = {
        name: mixture.draw(name, 1, size).held_out
        for name, mixture in (("usual", USUAL), ("moved", MOVED))
    }
    found: dict[str, dict[str, dict[str, Found]]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), bench(Path(name)) as on:
        parent: Path | None = None
        for night in range(nights + 1):
            with on.serving(parent) as served:
                pools = {
                    scene: pool_of(problems, ask(on, served, problems, samples))
                    for scene, problems in held_out.items()
                }
                usual, moved = pools["usual"], pools["moved"]
                told = BASE if parent is None else f"night {night}"
                found[told] = {
                    "usual": {str(n): try_out(usual, usual, n) for n in LABELS},
                    "moved, new labels": {str(n): try_out(moved, moved, n) for n in LABELS},
                    "moved, old labels": {str(n): try_out(usual, moved, n) for n in LABELS},
                }
                click.echo(f"{told}: {usual.truth:.1%}, moved {moved.truth:.1%}", err=True)
                if night == nights:
                    break
                after = Path(name) / f"after-{night}"
                state = Path(name) / f"night-{night}"
                state.mkdir()
                scene = Scene(on, USUAL, USUAL.draw(told, 1, size), size, night, state)
                teachers.learn(
                    teachers.Night(
                        on.client, scene.config(night), scene.questions, served, parent, after
                    )
                )
                parent = after
    show(found)
    if out:
        rows = {v: {s: {n: asdict(f) for n, f in by.items()} for s, by in scenes.items()}
                for v, scenes in found.items()}  # fmt: skip
        out.write_text(json.dumps(rows, indent=1) + "\n")
    told_of = {scene.replace(", ", "_").replace(" ", "_"): summary(found, scene)
               for scene in next(iter(found.values()))}  # fmt: skip
    print(json.dumps({"labels": LABELS[1], **told_of}))


if __name__ == "__main__":
    main()
