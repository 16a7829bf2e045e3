"""How soon the live guard raises an alarm, and how often a false one, by simulation and without a
model: `python -m benchmarks.detector`.

Users ask questions of two kinds, with a number or with one of four letters for an answer; four
answers of each version are compared as the daemon compares them. The live version is like the other
one, or worse in one way, by about what the stream is made for. Stated and measured stand side by
side; the last line is JSON.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median, quantiles

import click

from ttrl.config import ShadowConfig
from ttrl.detector import BOUNDS, MINUTES_A_YEAR, Detector, Stream, Track, delay, threshold
from ttrl.shadow import Answers, Side, differences, failures

SAMPLES = ShadowConfig().samples
LOW = 300.0
"""A threshold at which false alarms are frequent enough to be counted."""
UNREADABLE = 0.03
"""Share of answers that nobody can read, of any version."""


@dataclass(frozen=True)
class Asked:
    """A question: what may be answered, the most likely first, and how likely that one is; the
    others share the rest. `tokens` is an answer's usual length."""

    options: tuple[str, ...]
    likely: float
    tokens: float


@dataclass(frozen=True)
class Change:
    """In what a version is worse than the other, as shares of questions, answers or requests."""

    doubt: float = 0.0
    """By so much less likely is the most likely answer."""
    unreadable: float = 0.0
    longer: float = 1.0
    constant: float = 0.0
    """Of the answers, those that are always the same."""
    elsewhere: float = 0.0
    """Of the questions, those on which it is as sure of another answer."""
    fails: float = 0.0


CHANGES: Mapping[Stream, Change] = {
    Stream.AGREEMENT: Change(doubt=0.18),
    Stream.UNREADABLE: Change(unreadable=0.15),
    Stream.LONGER: Change(longer=12.0),
    Stream.SHORTER: Change(longer=1 / 8),
    Stream.REPETITION: Change(constant=0.56),
    Stream.DEPARTURE: Change(elsewhere=2 / 3),
    Stream.ERRORS: Change(fails=0.10),
}
NONSENSE = Change(unreadable=0.95)
"""Hardly an answer can be read."""
MOST = 50_000
"""Pairs after which a change counts as not found."""


def ask(rng: random.Random, number: int) -> Asked:
    """The next question."""
    letters = rng.random() < 0.3
    options = list("ABCD") if letters else [f"{number}-{place}" for place in range(6)]
    rng.shuffle(options)
    return Asked(tuple(options), rng.betavariate(4, 2), rng.lognormvariate(5, 0.5))


def answer(rng: random.Random, asked: Asked, change: Change) -> Side | None:
    """What one version says to it."""
    if rng.random() < change.fails:
        return None
    first = int(rng.random() < change.elsewhere)
    likely = max(0.0, asked.likely - change.doubt)
    answers = [_one(rng, asked, change, first, likely) for _ in range(SAMPLES)]
    lengths = [asked.tokens * change.longer * rng.lognormvariate(0, 0.4) for _ in answers]
    return Side(answers, fmean(lengths))


def _one(rng: random.Random, asked: Asked, change: Change, first: int, likely: float) -> str | None:
    if rng.random() < UNREADABLE + change.unreadable:
        return None
    if rng.random() < change.constant:
        return "0"
    if rng.random() < likely:
        return asked.options[first]
    return rng.choice([each for each in asked.options if each != asked.options[first]])


def stream_of(seed: int, change: Change) -> Iterator[dict[Stream, float]]:
    """One pair after the other, without end."""
    rng = random.Random(seed)
    before: Answers = ()
    for number in itertools.count():
        asked = ask(rng, number)
        live, other = answer(rng, asked, change), answer(rng, asked, Change())
        if live is None or other is None:
            yield failures(live=live is None, other=other is None)
            continue
        yield differences(live, other, before)
        before = live.answers


def pairs_to_alarm(seed: int, change: Change, limit: float) -> int:
    """How many pairs an alarm of any stream takes."""
    detector = Detector(limit)
    for found in itertools.islice(stream_of(seed, change), MOST):
        detector = detector.after(found)
        if detector.alarm:
            break
    return detector.pairs


def delays(change: Change, stream: Stream, limit: float, repetitions: int) -> dict[str, float]:
    """How late a change is found, as stated for the stream that is made for it, and as measured."""
    seen = [pair[stream] for pair in itertools.islice(stream_of(0, change), 5000) if stream in pair]
    measured = [pairs_to_alarm(seed, change, limit) for seed in range(repetitions)]
    return {
        "mean_difference": round(fmean(seen), 3),
        "stated": round(delay(seen, BOUNDS[stream].tolerated, limit)),
        "median": median(measured),
        "nine_of_ten": round(quantiles(measured, n=10)[-1]),
    }


def unchanged(limit: float, pairs: int) -> int:
    """Alarms in so many pairs of versions that are alike; after each, the detector begins anew."""
    alarms, detector = 0, Detector(limit)
    for found in itertools.islice(stream_of(1, Change()), pairs):
        detector = detector.after(found)
        if detector.alarm:
            alarms, detector = alarms + 1, Detector(limit)
    return alarms


def at_the_bound(limit: float, repetitions: int, draw: Callable[[random.Random], float]) -> float:
    """The mean number of pairs until a false alarm of one stream whose mean difference, here 0, is
    just what is tolerated."""
    waits = []
    for seed in range(repetitions):
        rng, track, pairs = random.Random(seed), Track(), 0
        while track.evidence < limit:
            track, pairs = track.after(draw(rng), 0.0), pairs + 1
        waits.append(pairs)
    return fmean(waits)


@click.command()
@click.option("--repetitions", default=200, show_default=True)
@click.option("--pairs", default=300_000, show_default=True, help="Of versions that are alike.")
@click.option("--smoke", is_flag=True, help="Only see that it runs.")
def main(repetitions: int, pairs: int, smoke: bool) -> None:
    """Measure the live guard's delays and its false alarms."""
    if smoke:
        repetitions, pairs = 5, 2_000
    settings = ShadowConfig()
    limit = threshold(settings.pairs_a_minute, settings.false_alarms_a_year)
    table = {}
    for stream in Stream:
        table[str(stream)] = delays(CHANGES[stream], stream, limit, repetitions)
        click.echo(f"{stream}: {table[stream]}", err=True)
    table["nonsense"] = delays(NONSENSE, Stream.UNREADABLE, limit, repetitions)
    coin = at_the_bound(LOW, repetitions, lambda rng: rng.choice((-1.0, 1.0)))
    small = at_the_bound(LOW, repetitions, lambda rng: rng.choice((-0.25, 0.0, 0.25)))
    result = {
        "threshold": round(limit),
        "pairs_a_year": round(settings.pairs_a_minute * MINUTES_A_YEAR),
        "false_alarms_a_year_stated": settings.false_alarms_a_year,
        "alarms_unchanged": {"pairs": pairs, "alarms": unchanged(limit, pairs)},
        "pairs_to_false_alarm_at_the_bound": {
            "stated_at_least": LOW, "coin": round(coin), "small": round(small)
        },
        "pairs_to_alarm": table,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
