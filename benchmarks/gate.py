"""What the gate says of candidates whose truth is known: `python -m benchmarks.gate`.

Simulated users ask questions; the live version has a chance for each answer, and so has a
candidate. Both answer labelled and held-out probes as a run would ask them, and the whole judge
(`ttrl.evaluation.gate.judge`) says what it thinks. Wrong answers to a question are alike in none to
80% of cases, as in free answers at one end and in multiple choice and triage at the other. Years of
nightly gates on the same probes, with candidates that are no better, show how often `better` is
false. No model is needed; the last line is JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jobs.probes import to_choose
from ttrl.config import GateConfig
from ttrl.evaluation.evidence import POWER, Answered, Probe, e_value, threshold_at
from ttrl.evaluation.gate import Verdict, judge

Array = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]

SETTINGS = GateConfig()
SAMPLES, HELD_OUT = SETTINGS.samples, SETTINGS.probes
ALIKE = (0.0, 0.2, 0.5, 0.8)
"""Shares of the wrong answers to a question that are the same one."""
LABELS = (100, 500)
OTHERS = 8
"""Further wrong answers, equally likely, that share what is left."""
UNREADABLE = 0.03
DAY = 86400.0


@dataclass(frozen=True)
class Population:
    """Chances of each answer to each of some questions: the correct one, the most common wrong one,
    OTHERS, and last one that cannot be read. `common` is the answer that a collapsed model gives
    to all."""

    chances: Array
    common: int | None = None

    @property
    def correct(self) -> Array:
        """Of each question, the chance of the correct answer."""
        return self.chances[:, 0]


def live(rng: np.random.Generator, count: int, alike: float, unreadable: float) -> Population:
    """Some questions the model can answer, some it cannot, few between."""
    correct = rng.beta(0.6, 0.4, count)
    wrong = 1 - correct
    others = np.repeat((wrong * (1 - alike) / OTHERS)[:, None], OTHERS, axis=1)
    told = np.column_stack([correct, wrong * alike, others])
    return Population(np.column_stack([told * (1 - unreadable), np.full(count, unreadable)]))


def with_correct(before: Population, correct: Array) -> Population:
    """The same with other chances of the correct answers, as readable as before; wrong answers
    keep their proportions."""
    wrong, unreadable = before.chances[:, 1:-1] + 1e-9, before.chances[:, -1]
    left = 1 - correct - unreadable
    wrong = wrong / wrong.sum(axis=1, keepdims=True) * left[:, None]
    return Population(np.column_stack([correct, wrong, unreadable]))


def moved(rng: np.random.Generator, before: Population, effect: float) -> Population:
    """A fifth of the questions, more for a large effect, moves up or down at random, so that the
    mean moves by `effect`: chances end at 0 and 1, so how far they must be pushed for that is found
    by bisection."""
    share = min(1.0, 0.2 + 4 * abs(effect))
    some = rng.random(len(before.correct)) < share
    scattered = before.correct[some] + rng.normal(0, 0.2, some.sum())
    wanted = before.correct[some].mean() + effect / share
    low, high = -2.0, 2.0
    for _ in range(25):
        push = (low + high) / 2
        enough = np.clip(scattered + push, 0, 1 - UNREADABLE).mean() >= wanted
        low, high = (low, push) if enough else (push, high)
    after = before.correct.copy()
    after[some] = np.clip(scattered + high, 0, 1 - UNREADABLE)
    return with_correct(before, after)


def corrected(
    rng: np.random.Generator, before: Population, share: float, lost: float = 0.0
) -> Population:
    """A share of all questions goes from mostly wrong to mostly correct, and one the other way
    round."""
    after = before.correct.copy()
    right = after > 0.5
    drawn = rng.random(len(after))
    after[~right & (drawn < share / max((~right).mean(), share))] = 0.9
    after[right & (drawn < lost / max(right.mean(), lost or 1.0))] = 0.05
    return with_correct(before, after)


def plus(rng: np.random.Generator, before: Population, effect: float) -> Population:
    """As many corrected questions, and none lost, as make the mean rise by `effect`."""
    wrong = before.correct <= 0.5
    return corrected(rng, before, effect / float(0.9 - before.correct[wrong].mean()))


def tempered(rng: np.random.Generator, before: Population, temperature: float) -> Population:
    """The live version at a lower temperature."""
    sharp = before.chances ** (1 / temperature)
    return Population(sharp / sharp.sum(axis=1, keepdims=True))


def readable(rng: np.random.Generator, before: Population, share: float) -> Population:
    """The same answers, of which a share can no longer be read, or now can."""
    told = before.chances[:, :-1] / (1 - before.chances[:, -1:])
    return Population(np.column_stack([told * share, np.full(len(told), 1 - share)]))


def constant(rng: np.random.Generator, before: Population, share: float) -> Population:
    """One answer to all questions, which happens to be correct for a few: of two answers, for half
    of them."""
    hit = rng.random(len(before.correct)) < 0.05
    chances = before.chances * (1 - share)
    chances[np.arange(len(hit)), np.where(hit, 0, 1)] += share
    return Population(chances, common=1)


Change = Callable[[np.random.Generator, Population], Population]
BETTER: Mapping[str, Change] = {
    "+2 points": lambda rng, p: moved(rng, p, 0.02),
    "+5 points": lambda rng, p: moved(rng, p, 0.05),
    "+10 points": lambda rng, p: moved(rng, p, 0.10),
    "+20 points": lambda rng, p: moved(rng, p, 0.20),
    "+5 points by corrections": lambda rng, p: plus(rng, p, 0.05),
    "+20 points by corrections": lambda rng, p: plus(rng, p, 0.20),
    "4% corrected": lambda rng, p: corrected(rng, p, 0.04),
    "8% corrected": lambda rng, p: corrected(rng, p, 0.08),
    "15% corrected": lambda rng, p: corrected(rng, p, 0.15),
    "30% corrected": lambda rng, p: corrected(rng, p, 0.30),
    "12% corrected, 4% lost": lambda rng, p: corrected(rng, p, 0.12, 0.04),
}
NOT_BETTER: Mapping[str, Change] = {
    "unchanged": lambda rng, p: p,
    "15% corrected, 18% lost": lambda rng, p: corrected(rng, p, 0.15, 0.18),
    "-2 points": lambda rng, p: moved(rng, p, -0.02),
    "-5 points": lambda rng, p: moved(rng, p, -0.05),
    "-10 points": lambda rng, p: moved(rng, p, -0.10),
    "lower temperature": lambda rng, p: tempered(rng, p, 0.6),
    "collapse to one answer": lambda rng, p: constant(rng, p, 0.9),
    "collapse to noise": lambda rng, p: readable(rng, p, 0.2),
}
"""None of these is to be `better`, also where a lower temperature makes sampled answers correct
more often."""
FORMAT = "only format: readable 70% to 97%"
KINDS: Mapping[str, Change] = {
    **BETTER,
    **NOT_BETTER,
    FORMAT: lambda rng, p: readable(rng, p, 0.97),
}
PLUS_5 = ("+5 points", "+5 points by corrections")
PLUS_20 = ("+20 points", "+20 points by corrections")
COLLAPSES = ("collapse to one answer", "collapse to noise")
YEARLY = ("unchanged", "15% corrected, 18% lost", "-2 points")


@dataclass(frozen=True)
class Case:
    """A kind of candidate, how alike wrong answers are, and how many labels an operator has."""

    kind: str
    alike: float
    labels: int


def draw(rng: np.random.Generator, population: Population) -> Counts:
    """How often a version gives each answer to each question."""
    drawn: Counts = rng.multinomial(SAMPLES, population.chances)
    return drawn


def answered(population: Population, drawn: Counts, labelled: int) -> list[Answered]:
    """The same as the gate sees it, with labels for the first questions."""
    greedy = population.chances[:, :-1].argmax(axis=1)
    made = []
    for number, counts in enumerate(drawn):
        given: list[str | None] = [f"{number}:{answer}" for answer in range(len(counts) - 1)]
        if population.common is not None:
            given[population.common] = "always"
        said = np.repeat([*given, None], counts)
        correct = tuple(np.repeat(np.arange(len(counts)) == 0, counts).tolist())
        if number < labelled:
            right = bool(greedy[number] == 0)
            made.append(Answered(tuple(said), correct, greedy_right=right))
        else:
            made.append(Answered(tuple(said)))
    return made


def verdict_on(
    before: Population, after: Population, drawn: Sequence[Counts], labelled: int, threshold: float
) -> Verdict:
    """The whole judge on what live version and candidate said."""
    arms = [answered(*each, labelled) for each in zip((before, after), drawn, strict=True)]
    probes = [
        Probe(str(n), str(n), one, one, other)
        for n, (one, other) in enumerate(zip(*arms, strict=True))
    ]
    return judge(probes, SETTINGS, threshold).verdict


def judged(case: Case, threshold: float, seed: int) -> Verdict:
    """One gate: new questions, a new candidate, new answers."""
    rng = np.random.default_rng([seed, *case.kind.encode(), int(case.alike * 10), case.labels])
    labelled = case.labels - to_choose(case.labels, SETTINGS)
    before = live(rng, labelled + HELD_OUT, case.alike, 0.3 if case.kind == FORMAT else UNREADABLE)
    after = KINDS[case.kind](rng, before)
    drawn = [draw(rng, each) for each in (before, after)]
    return verdict_on(before, after, drawn, labelled, threshold)


def verdicts(
    pool: ProcessPoolExecutor, cases: Iterable[Case], gates: int, threshold: float
) -> dict[Case, Counter[Verdict]]:
    """How often each verdict comes, in so many gates of each case."""
    found = {}
    for case in track(list(cases), "gates", console=Console(stderr=True)):
        found[case] = Counter(
            pool.map(partial(judged, case, threshold), range(gates), chunksize=10)
        )
    return found


def false_in_a_year(case: Case, year: int) -> int:
    """How many verdicts of `better` a year of nightly gates gives to candidates that are not, by
    the same probes every night. The whole judge is asked where the labels' evidence would do;
    elsewhere nothing is `better`."""
    rng = np.random.default_rng([year, *case.kind.encode(), int(case.alike * 10), case.labels])
    labelled = case.labels - to_choose(case.labels, SETTINGS)
    before = live(rng, labelled + HELD_OUT, case.alike, UNREADABLE)
    false = 0
    for night in range(365):
        nights = [n * DAY for n in range(max(0, night - 60), night)]  # older ones are forgotten
        threshold = threshold_at(night * DAY, nights, SETTINGS)
        after = KINDS[case.kind](rng, before)
        drawn = [draw(rng, each) for each in (before, after)]
        gained = (drawn[1] - drawn[0])[:labelled, 0] / SAMPLES
        if e_value(gained.tolist()) >= threshold:
            verdict = verdict_on(before, after, drawn, labelled, threshold)
            false += verdict is Verdict.BETTER
    return false


def labels_for(
    pool: ProcessPoolExecutor, kinds: Iterable[str], grid: Iterable[int], gates: int
) -> int | None:
    """The fewest labels of the grid with which POWER of the gates say `better` in each kind,
    however alike wrong answers are."""
    threshold = threshold_at(0.0, [], SETTINGS)
    for labels in grid:
        cases = [Case(kind, alike, labels) for kind in kinds for alike in ALIKE]
        found = verdicts(pool, cases, gates, threshold)
        if min(each[Verdict.BETTER] for each in found.values()) >= POWER * gates:
            return labels
    return None


def show(found: Mapping[Case, Counter[Verdict]], gates: int) -> None:
    """The table on standard error: of each kind the cell in which it comes off worst."""
    table = Table(title="share of the gates that say better / worse, worst of all ALIKE")
    table.add_column("candidate")
    labels_shown = sorted({case.labels for case in found})
    for labels in labels_shown:
        table.add_column(f"{labels} labels")
    for kind in dict.fromkeys(case.kind for case in found):
        row = [kind]
        for labels in labels_shown:
            cells = [
                each for case, each in found.items() if (case.kind, case.labels) == (kind, labels)
            ]
            better = [each[Verdict.BETTER] / gates for each in cells]
            worse = [each[Verdict.WORSE] / gates for each in cells]
            shown = (min(better), max(worse)) if kind in BETTER else (max(better), min(worse))
            row.append(f"{shown[0]:.0%} / {shown[1]:.0%}")
        table.add_row(*row)
    Console(stderr=True, width=120).print(table)


@click.command()
@click.option("--gates", default=50, show_default=True, help="Of each case.")
@click.option("--years", default=10, show_default=True, help="Of nightly gates, for each case.")
@click.option("--smoke", is_flag=True, help="Only see that it runs.")
def main(gates: int, years: int, smoke: bool) -> None:
    """Measure the gate's errors and its power."""
    labels: Sequence[int] = LABELS
    alike: Sequence[float] = ALIKE
    kinds: Sequence[str] = tuple(KINDS)
    if smoke:
        gates, years, labels, alike = 2, 1, (100,), (0.8,)
        kinds = ("+20 points by corrections", "collapse to one answer")
    first = threshold_at(0.0, [], SETTINGS)
    with ProcessPoolExecutor() as pool:
        cases = [Case(*each) for each in product(kinds, alike, labels)]
        found = verdicts(pool, cases, gates, first)
        show(found, gates)
        unlucky = [Case(k, a, n) for k in YEARLY for a in alike[-1:] for n in labels]
        false = {
            case: fmean(pool.map(partial(false_in_a_year, case), range(years)))
            for case in track(unlucky, "years", console=Console(stderr=True))
        }
        for case, mean in false.items():
            click.echo(f"false verdicts a year, {case}: {mean:g}", err=True)
        needed = (
            {
                "labels_for_plus_5": labels_for(pool, PLUS_5, range(200, 601, 50), gates),
                "labels_for_plus_20": labels_for(pool, PLUS_20, range(40, 101, 5), gates),
            }
            if not smoke
            else {}
        )

    def share(verdict: Verdict, of: Iterable[str], labels: int | None = None) -> list[float]:
        return [
            each[verdict] / gates
            for case, each in found.items()
            if case.kind in of and labels in (None, case.labels)
        ]

    result = {
        "better_when_better": min(share(Verdict.BETTER, PLUS_5, 500), default=0.0),
        "worse_when_better": max(share(Verdict.WORSE, BETTER)),
        "better_when_worse": max(false.values()),
        "false_better_a_year_allowed": SETTINGS.false_better_a_year,
        "better_when_not": max(share(Verdict.BETTER, NOT_BETTER)),
        "worse_when_collapsed": min(share(Verdict.WORSE, COLLAPSES)),
        **needed,
        "gates": gates,
        "years": years,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
