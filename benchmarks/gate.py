"""What the gate lets through, by simulation and without a model: `python -m benchmarks.gate`.

500 lineages of 90 nights. Each night a candidate is made from the live version, truly better or
worse by chance, mostly worse; base, live version and candidate answer the same labelled probes; the
operator looks after every tenth of them and ships at the first sight of `better`. The probes stay
the same for all nights. How often does the live version ever become truly worse than the base by
more than a point? And how many nights does a candidate that is truly better by three points, or by
five, need? The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np

from ttrl.config import GateConfig
from ttrl.evidence import CONVINCING, STAKES, Budget

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

POPULATION = 20_000
"""Questions that users ask; probes are drawn from them, and what is true is true of them."""
LOOKS = 10
SAMPLES = GateConfig().samples
MARGIN, REACH = GateConfig().base_margin, GateConfig().reach
HARM = 0.01
"""More than this below the base must not happen; 5% of lineages may."""
MOVED = 0.2
"""Share of the questions whose answers a candidate changes at all."""
DRIFT, SPREAD = -0.005, 0.01
"""Mean and standard deviation of the true effect of a night, as a share of right answers."""


@dataclass
class Lineage:
    """The chance of a right answer to each question, of the base and of what is live."""

    base: Array
    live: Array
    budget: Budget = field(default_factory=Budget)

    @property
    def gain(self) -> float:
        """The truth, which no gate sees."""
        return float(self.live.mean() - self.base.mean())


def begin(rng: np.random.Generator) -> Lineage:
    """Questions as a model finds them: some it can, some it cannot, few between."""
    base = rng.beta(0.6, 0.4, POPULATION)
    return Lineage(base, base)


def candidate(rng: np.random.Generator, live: Array, effect: float) -> Array:
    """Some questions move up or down at random, so that the mean moves by `effect`: chances end at
    0 and 1, so how far they must be pushed for that is found by halving."""
    moved = np.flatnonzero(rng.random(POPULATION) < MOVED)
    scattered = live[moved] + rng.normal(0, 0.2, len(moved))
    wanted = live[moved].sum() + effect * POPULATION
    low, high = -2.0, 2.0
    for _ in range(25):
        push = (low + high) / 2
        enough = np.clip(scattered + push, 0, 1).sum() >= wanted
        low, high = (low, push) if enough else (push, high)
    made = live.copy()
    made[moved] = np.clip(scattered + high, 0, 1)
    return made


def look_and_look(
    rng: np.random.Generator, base: Array, live: Array, other: Array, budget: Budget
) -> bool:
    """Whether `better` is seen at any of the looks: better than live, reaching no fewer right
    answers, and not worse than base."""
    answered = [rng.binomial(SAMPLES, each) / SAMPLES for each in (base, live, other)]
    better = evidence(answered[2] - answered[1], 0.0) >= np.log(budget.threshold)
    not_worse = evidence(answered[2] - answered[0], -MARGIN) >= np.log(CONVINCING)
    reached = [(each > 0).astype(float) for each in answered]
    not_narrower = evidence(reached[2] - reached[1], -REACH) >= np.log(CONVINCING)
    return bool((better & not_worse & not_narrower).any())


def evidence(differences: Array, above: float) -> Array:
    """The logarithm of the e-value at each look; as `ttrl.evidence.e_value`, for all looks at
    once."""
    odds = (differences - above) / (1 + above)
    logs = np.cumsum(np.log1p(np.outer(STAKES, odds)), axis=1)
    looks = np.linspace(0, len(differences) - 1, LOOKS + 1).astype(int)[1:]
    found: Array = np.logaddexp.reduce(logs[:, looks], axis=0) - np.log(len(STAKES))
    return found


def night(rng: np.random.Generator, lineage: Lineage, probes: Indices, effect: float) -> bool:
    """One candidate and its gate; whether it ships."""
    made = candidate(rng, lineage.live, effect)
    base, live, other = (each[probes] for each in (lineage.base, lineage.live, made))
    ships = look_and_look(rng, base, live, other, lineage.budget)
    lineage.budget = Budget(lineage.budget.gates + 1, lineage.budget.better + ships)
    if ships:
        lineage.live = made
    return ships


def harm(rng: np.random.Generator, count: int, lineages: int, nights: int) -> dict[str, float]:
    """What ships when most candidates are worse."""
    ever = shipped = 0
    gains = []
    for _ in range(lineages):
        lineage, probes = begin(rng), rng.choice(POPULATION, count, replace=False)
        worst = 0.0
        for effect in rng.normal(DRIFT, SPREAD, nights):
            shipped += night(rng, lineage, probes, effect)
            worst = min(worst, lineage.gain)
        ever += worst < -HARM
        gains.append(lineage.gain)
    return {
        "ever_harmed_share": ever / lineages,
        "shipped_per_lineage": shipped / lineages,
        "median_gain": round(statistics.median(gains), 4),
    }


def power(
    rng: np.random.Generator, count: int, lineages: int, nights: int, effect: float
) -> float | None:
    """The median night on which a candidate with this effect ships, when every night has one like
    it; None when it is later than the last."""
    found = []
    for _ in range(lineages):
        lineage, probes = begin(rng), rng.choice(POPULATION, count, replace=False)
        ships = (n for n in range(1, nights + 1) if night(rng, lineage, probes, effect))
        found.append(next(ships, nights + 1))
    median = statistics.median(found)
    return None if median > nights else median


@click.command()
@click.option("--lineages", default=500, show_default=True)
@click.option("--nights", default=90, show_default=True)
@click.option("--smoke", is_flag=True, help="Only see that it runs.")
def main(lineages: int, nights: int, smoke: bool) -> None:
    """Measure the gate's errors and its power."""
    counts: tuple[int, ...] = (50, 100, 200, 500, 1000, 2000)
    if smoke:
        lineages, nights, counts = 4, 5, (50, 2000)
    table: dict[int, dict[str, Any]] = {}
    for count in counts:
        rng = np.random.default_rng(count)
        found = harm(rng, count, lineages, nights)
        waits = {
            f"nights_to_ship_{points}_points": power(rng, count, lineages // 5 + 1, nights, effect)
            for points, effect in ((3, 0.03), (5, 0.05))
        }
        table[count] = {**found, **waits}
        click.echo(f"{count} probes: {table[count]}", err=True)
    worst = max(row["ever_harmed_share"] for row in table.values())
    print(json.dumps({"lineages": lineages, "nights": nights, "worst": worst, "probes": table}))


if __name__ == "__main__":
    main()
