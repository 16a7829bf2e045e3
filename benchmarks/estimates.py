"""Does the estimated accuracy hold what it promises? `python -m benchmarks.estimates`.

Simulated installations, without a model. A pool of questions is all the traffic there is; each
version has a distribution of answers to each, so that its true accuracy is known. Gate after gate,
some questions stand for the traffic, `ttrl.evaluation.probes` draws those that an operator is
asked about, the operator judges, and what is known is kept as the product keeps it; the candidate
then serves, and other answers come to be given. After 20, 40 and 80 drawn questions
`ttrl.evaluation.estimates` measures the version that serves.
Operators differ in whether they type what is right, and whether they skip
what is hard to judge; populations in how much is right, in whether a large majority says anything
of it, and in how many questions have no majority. At the end the traffic moves: the labels stay
those of before.

The table is on standard error; the last line on standard output is JSON: `coverage`, how often the
truth lies inside the interval of an estimate that is made, in the worst cell of population,
operator and number of labels (cells with fewer than 50 estimates, as of an operator who skips at 20
questions, are taken together over the populations: one miss among ten says little);
`coverage_by_operator` the same for each operator; `bias`, the mean
of value less truth for the operator of whom it is the largest; `made`, how often an estimate is
made; `operators` all of it for each; `moved`, for labels from before the traffic moved, how often
an estimate is made, and how often it is and the truth is outside.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from statistics import fmean

import click
from rich.console import Console
from rich.table import Table

from ttrl.answers import AnswerKind, Reader
from ttrl.evaluation import estimates as quality
from ttrl.evaluation.estimates import Estimate
from ttrl.evaluation.evidence import Answered
from ttrl.evaluation.probes import (
    Judged,
    Label,
    Pair,
    ProbeOrigin,
    Side,
    draw,
    to_judge,
    to_judge_again,
)
from ttrl.questions.question import from_prompt

RIGHT = "right"
QUESTIONS = 1000
COHORT = 64
"""Questions that stand for the traffic at a time (`gate.probes`)."""
SAMPLES = 8
DRAWN = 20
"""Questions a gate that are drawn for the operator."""
GATES = 4
MEASURED = (1, 2, 4)
"""After these gates, by 20, 40 and 80 labels."""
FEWEST = 50
"""Estimates by which the coverage of a cell is told."""
CHANGES = 0.2
"""Share of the questions to which a version answers otherwise than the one before."""


class Operator(StrEnum):
    """How somebody judges. All of them judge every pair that they can."""

    TYPES = "types"
    """Always what is right where neither is."""
    SILENT = "silent"
    """Never."""
    SKIPS = "skips"
    """Never, and "cannot tell" of three in ten questions to which both answers are wrong, of one in
    twenty of the others."""
    MIXED = "mixed"
    """Every other time, and "cannot tell" one time in ten."""


TYPES = {Operator.TYPES: 1.0, Operator.SILENT: 0.0, Operator.SKIPS: 0.0, Operator.MIXED: 0.5}
SKIPS = {
    Operator.TYPES: (0.0, 0.0),
    Operator.SILENT: (0.0, 0.0),
    Operator.SKIPS: (0.3, 0.05),
    Operator.MIXED: (0.1, 0.1),
}
"""The chance that nothing is said of two wrong answers, and of others."""


@dataclass(frozen=True)
class Population:
    """Questions with the mean share `right` of right answers. Wrong answers to one are scattered
    over so many (`wrong`), or the same one. To `scattered` of the questions every answer is about
    as frequent as any other, and a fifth cannot be read."""

    right: float
    wrong: int
    scattered: float

    def __str__(self) -> str:
        return f"{self.right:.0%} right, {self.wrong} wrong, {self.scattered:.0%} scattered"


POPULATIONS = (
    *(
        Population(right, wrong, scattered)
        for right in (0.1, 0.35, 0.65)
        for wrong, scattered in ((1, 0.05), (6, 0.3))
    ),
    Population(0.95, 1, 0.0),
    Population(0.95, 6, 0.0),
)
UNREADABLE = None


@dataclass(frozen=True)
class Answers:
    """A version's answers to a question, with the chance of each."""

    answers: Sequence[str | None]
    chances: Sequence[float]

    @cached_property
    def cumulative(self) -> list[float]:
        """As random.choices takes them."""
        return list(accumulate(self.chances))

    @property
    def right(self) -> float:
        """The share of right ones."""
        return self.chances[0]


def answers(rng: random.Random, population: Population, version: int) -> Answers:
    """To one question; whichever are wrong are named for the version that began to give them."""
    if rng.random() < population.scattered:
        right = min(0.25, population.right)
        others = [f"odd {version} {n}" for n in range(7)]
        rest = (0.8 - right) / len(others)
        return Answers([RIGHT, *others, UNREADABLE], [right, *[rest] * len(others), 0.2])
    scattered = population.scattered * min(0.25, population.right)
    mean = (population.right - scattered) / (1 - population.scattered)
    right = rng.betavariate(mean, 1 - mean)  # most questions are nearly always right or wrong
    others = [f"wrong {version} {n}" for n in range(population.wrong)]
    return Answers([RIGHT, *others], [right, *[(1 - right) / len(others)] * len(others)])


@dataclass(frozen=True)
class Pool:
    """All questions, and what each of GATES + 1 versions answers."""

    versions: Sequence[Sequence[Answers]]

    def truth(self, version: int) -> float:
        """The share of right answers."""
        return fmean(each.right for each in self.versions[version])


def pool(rng: random.Random, population: Population) -> Pool:
    """Some questions are answered otherwise by each next version."""
    versions = [[answers(rng, population, 0) for _ in range(QUESTIONS)]]
    for number in range(1, GATES + 1):
        versions.append(
            [
                answers(rng, population, number) if rng.random() < CHANGES else before
                for before in versions[-1]
            ]
        )
    return Pool(versions)


class Exact(Reader):
    """Answers as they are."""

    def close(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> float:
        """Whether it is one of them."""
        return float(text in accepted)


EXACT = Exact()
KIND = AnswerKind.TEXT
QUESTION = from_prompt("?")


@dataclass
class Known:
    """What the operator was asked about a question, and what is known of it."""

    pairs: list[tuple[Pair, Judged]] = field(default_factory=list)
    origin: ProbeOrigin = ProbeOrigin.DISAGREEMENT
    label: Label | None = None


@dataclass
class Installation:
    """What is known of the questions of a pool, from one operator."""

    rng: random.Random
    pool: Pool
    operator: Operator
    known: dict[int, Known] = field(default_factory=lambda: defaultdict(Known))
    right: int = 0
    judged: int = 0

    def say(self, question: int, version: int) -> list[str | None]:
        """Answers of a version."""
        each = self.pool.versions[version][question]
        return self.rng.choices(each.answers, cum_weights=each.cumulative, k=SAMPLES)

    def read(self, label: Label | None, said: Sequence[str | None]) -> Answered:
        """As the gate reads them."""
        right = rejected = None
        if label is not None and label.decides:
            right = tuple(bool(a) and label.right(a or "", EXACT, KIND) for a in said)
        elif label is not None:
            rejected = tuple(not a or label.rejects(a, EXACT, KIND) for a in said)
        return Answered(tuple(said), right, rejected=rejected)

    def gate(self, number: int) -> None:
        """A candidate is compared with what serves, and the operator judges."""
        cohort = self.rng.sample(range(QUESTIONS), COHORT)
        seed = self.rng.randrange(2**32)
        fresh = [
            each
            for each in cohort
            if each not in self.known or self.known[each].origin is not ProbeOrigin.RANDOM
        ]
        at_random = draw(fresh, DRAWN, seed=seed)
        for each in at_random & self.known.keys():
            self.known[each].origin = ProbeOrigin.RANDOM
        told = [
            (each, self._shown(each, number), self._shown(each, number + 1))
            for each in cohort
            if each not in self.known
        ]
        again = to_judge_again(list(self._undecided(number)), DRAWN, seed=seed)
        for pair in [*to_judge(told, at_random, seed=seed), *again]:
            self._judge(pair)

    def _shown(self, question: int, version: int) -> Answered:
        said = tuple(self.say(question, version))
        return Answered(said, texts=tuple(each or "" for each in said))

    def _undecided(self, version: int) -> Iterator[Pair]:
        for question, known in self.known.items():
            label = known.label
            skipped = any(judged is Judged.CANNOT_TELL for _, judged in known.pairs)
            if label is None or label.decides or not label.rejected or skipped:
                continue
            if known.origin is ProbeOrigin.RANDOM:
                for said in self.say(question, version):
                    if said and said not in label.rejected:
                        side, times = Side(said, said), len(known.pairs)
                        yield Pair(question, ProbeOrigin.RANDOM, side, side, times)

    def _judge(self, pair: Pair) -> None:
        known = self.known[pair.question_id]
        known.origin = pair.origin
        live, candidate = pair.live.label == RIGHT, pair.candidate.label == RIGHT
        judged = {
            (True, True): Judged.BOTH,
            (True, False): Judged.LIVE,
            (False, True): Judged.CANDIDATE,
            (False, False): Judged.NEITHER,
        }[live, candidate]
        hard, easy = SKIPS[self.operator]
        if self.rng.random() < (hard if judged is Judged.NEITHER else easy):
            judged = Judged.CANNOT_TELL
        types = judged is Judged.NEITHER and self.rng.random() < TYPES[self.operator]
        wrong = known.label.rejected if known.label else ()
        known.label = pair.label(QUESTION, judged, RIGHT if types else "", wrong=wrong)
        known.pairs.append((pair, judged))
        if pair.round and judged is not Judged.CANNOT_TELL:
            self.judged += 1
            self.right += judged is Judged.BOTH

    def measure(self, version: int, moved: Pool | None = None) -> Estimate | None:
        """How many answers of a version are right, as far as can be said; `moved`: the traffic is
        another by now."""
        cohort = set(self.rng.sample(range(QUESTIONS), COHORT))
        asked = []
        for question, known in self.known.items():
            if known.label is not None:
                answered = self.read(known.label, self.say(question, version))
                drawn = known.origin is ProbeOrigin.RANDOM
                traffic = question in cohort and moved is None
                skipped = not (known.label.decides or known.label.rejected)
                asked.append(quality.Asked(str(question), answered, drawn, traffic, skipped))
        now = self if moved is None else Installation(self.rng, moved, self.operator)
        for question in cohort:
            if moved is not None or question not in self.known or not self.known[question].label:
                answered = Answered(tuple(now.say(question, version)))
                asked.append(quality.Asked(f"traffic {question}", answered))
        found = quality.measure(asked, (self.right, self.judged))
        assert found is not None
        return found.estimate


@dataclass(frozen=True)
class Cell:
    """Of so many `tries` for one population, operator and number of labels: how often an estimate
    is made; and of those that are, how often the truth lies inside, the mean of value less truth,
    and the mean width. None where none is made."""

    tries: int
    made: float
    inside: float | None
    bias: float | None
    width: float | None


def cell(found: Sequence[Estimate | None], truths: Sequence[float]) -> Cell:
    """What so many tries come to."""
    pairs = [(e, truth) for e, truth in zip(found, truths, strict=True) if e is not None]
    made = len(pairs) / len(found)
    if not pairs:
        return Cell(len(found), made, None, None, None)
    return Cell(
        len(found),
        made,
        fmean(e.low <= truth <= e.high for e, truth in pairs),
        fmean(e.value - truth for e, truth in pairs),
        fmean(e.high - e.low for e, _ in pairs),
    )


Cells = dict[tuple[Population, Operator, int], Cell]


def simulate(populations: Sequence[Population], tries: int) -> tuple[Cells, Cells]:
    """All cells, and those of labels from before the traffic moved."""
    found: dict[tuple[Population, Operator, int], list[Estimate | None]] = defaultdict(list)
    truths: dict[tuple[Population, Operator, int], list[float]] = defaultdict(list)
    old: dict[tuple[Population, Operator, int], list[Estimate | None]] = defaultdict(list)
    new: dict[tuple[Population, Operator, int], list[float]] = defaultdict(list)
    for population in populations:
        rng = random.Random(str(population))
        ours = pool(rng, population)
        moved = pool(rng, Population(0.5 * population.right, 6, 0.3))
        for operator in Operator:
            # who leaves nothing open has the narrowest intervals, and decides on the worst cell
            for number in range(tries if operator is Operator.TYPES else max(1, tries // 4)):
                one = Installation(random.Random(f"{operator} {number}"), ours, operator)
                for gate in range(GATES):
                    one.gate(gate)
                    if gate + 1 in MEASURED:
                        key = (population, operator, DRAWN * (gate + 1))
                        found[key].append(one.measure(gate + 1))
                        truths[key].append(ours.truth(gate + 1))
                key = (population, operator, DRAWN * GATES)
                old[key].append(one.measure(GATES, moved))
                new[key].append(moved.truth(GATES))
    return (
        {key: cell(each, truths[key]) for key, each in found.items()},
        {key: cell(each, new[key]) for key, each in old.items()},
    )


def show(cells: Mapping[tuple[Population, Operator, int], Cell]) -> None:
    """The table on standard error."""
    table = Table(title="truth inside (value less truth, width), by drawn questions")
    table.add_column("population")
    table.add_column("questions")
    for operator in Operator:
        table.add_column(operator)
    for population in dict.fromkeys(key[0] for key in cells):
        for labels in dict.fromkeys(key[2] for key in cells):
            row = [_told(cells[population, operator, labels]) for operator in Operator]
            table.add_row(str(population), str(labels), *row)
    Console(stderr=True, width=150).print(table)


def _told(found: Cell) -> str:
    if found.inside is None or found.bias is None or found.width is None:
        return f"made {found.made:.0%}"
    return (
        f"{found.inside:.1%} ({found.bias:+.2f}, {found.width:.2f})"
        f"{'' if found.made > 0.99 else f' made {found.made:.0%}'}"
    )


def worst(cells: Cells) -> float:
    """The coverage of the worst cell, those with few estimates together by operator and labels."""
    inside: dict[object, list[tuple[float, float]]] = defaultdict(list)
    for key, each in cells.items():
        if each.inside is not None:
            estimates = each.made * each.tries
            which = key if estimates >= FEWEST else key[1:]
            inside[which].append((each.inside * estimates, estimates))
    return min(sum(n for n, _ in some) / sum(of for _, of in some) for some in inside.values())


def summary(cells: Cells, moved: Cells) -> dict[str, object]:
    """The line of JSON."""

    def by(operator: Operator) -> dict[str, float]:
        cells_of = {key: each for key, each in cells.items() if key[1] is operator}
        ours = list(cells_of.values())
        inside = [each.inside for each in ours if each.inside is not None]
        return {
            "mean": round(fmean(inside), 3),
            "worst": round(worst(cells_of), 3),
            "bias": round(fmean(each.bias for each in ours if each.bias is not None), 3),
            "width": round(fmean(each.width for each in ours if each.width is not None), 3),
            "made": round(fmean(each.made for each in ours), 3),
        }

    operators = {str(operator): by(operator) for operator in Operator}
    return {
        "coverage": min(each["worst"] for each in operators.values()),
        "coverage_by_operator": {name: each["worst"] for name, each in operators.items()},
        "bias": max((each["bias"] for each in operators.values()), key=abs),
        "made": round(fmean(each.made for each in cells.values()), 3),
        "operators": operators,
        "moved": {
            "made": round(fmean(each.made for each in moved.values()), 3),
            "wrong": round(
                fmean(each.made * (1 - (each.inside or 0.0)) for each in moved.values()), 3
            ),
        },
    }


@click.command()
@click.option("--tries", default=300, show_default=True, help="Installations for each population.")
def main(tries: int) -> None:
    """Hold the estimated accuracy against the true one."""
    cells, moved = simulate(POPULATIONS, tries)
    show(cells)
    print(json.dumps(summary(cells, moved)))


if __name__ == "__main__":
    main()
