"""Whether the two monitors stop what collapses or does harm and leave alone what does not, by
simulation and without a model: `python -m benchmarks.monitors`.

The run monitor sees whole runs: questions with answer distributions like those of real models are
sampled, voted on, dropped and asked again as a run does it, while the weights change as told: not
at all, as sound learning changes them, or as a collapse does. The live monitor sees pairs of
answers, as the daemon compares them, of a version that is like the other one, better, or worse in
one way. Votes, signs, rulings and alarms are the product's own; the last line is JSON.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, median, quantiles
from typing import Any

import click

from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.monitoring import run
from ttrl.monitoring.live import (
    MINUTES_A_YEAR,
    STAKES,
    Detector,
    Side,
    Stream,
    Track,
    differences,
    failures,
    odds_of,
    threshold,
)
from ttrl.monitoring.run import Ruling
from ttrl.monitoring.signs import Signs, Watch
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import Group
from ttrl.sampling.selection import Rounds
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import take_vote

CONFIG = Config()
QUESTIONS, STEPS = 128, 40
ENTROPY = 0.5
"""Of the next token in the beginning, in nats."""


@dataclass(frozen=True)
class Asked:
    """A question to a model: how often it gets which answer, the rest are answers that nobody gives
    twice; how often none that can be read, and an answer's usual length in tokens."""

    often: Mapping[str, float]
    unreadable: float
    tokens: float


Kind = Callable[[random.Random, int], Asked]
"""Makes the question of a number."""


@dataclass(frozen=True)
class Change:
    """What learning does to the weights. All of it is reached `takes` steps after step `since`."""

    since: int = 0
    takes: int = 20
    sharper: float = 1.0
    """The power to which the probabilities of answers are raised."""
    corrected: float = 0.0
    """Of the questions, those that come to get another answer, each its own; where there are few
    answers, some other one."""
    uneven: bool = False
    """Those whose answer is not the most frequent one, half of them at most, come to get it."""
    longer: float = 1.0
    alike: float = 0.0
    """Of the questions, those that come to get one and the same answer."""
    unreadable: float = 0.0
    """Of the readable answers, those that no longer are."""
    scattered: float = 0.0
    """Of the answers, those that become ones that nobody gives twice."""
    wandering: float = 0.0
    """Of the answers, those that become a wrong one, which is another one every ten steps."""
    kl: float = 0.02
    """Nats a token from the start, at the end."""
    entropy: float = 1.0
    """Of the next token, as a part of what it was."""

    def done(self, steps: float) -> float:
        """How much of it has happened after so many steps."""
        return min(1.0, max(0.0, (steps - self.since) / self.takes))


def mathematics(alpha: float, beta: float, unreadable: float = 0.05) -> Kind:
    """Questions whose most likely answer has a share of Beta(alpha, beta), and wrong ones that come
    up again and again."""

    def make(rng: random.Random, number: int) -> Asked:
        top = rng.betavariate(alpha, beta)
        rest, often = 1 - top, {f"{number}-0": top}
        while rest > 0.02 and len(often) < 15:
            share = rest * rng.betavariate(1, 2.5)
            often[f"{number}-{len(often)}"] = share
            rest -= share
        return Asked(often, unreadable * rng.random() * 2, rng.lognormvariate(5.5, 0.6))

    return make


def choices(*balance: float, sure: tuple[float, float], unreadable: float = 0.02) -> Kind:
    """Questions with the same few answers, of which one is right in a share of `balance`, and as
    likely as Beta(*sure) says."""

    def make(rng: random.Random, number: int) -> Asked:
        names = [f"class {place}" for place in range(len(balance))]
        right = rng.choices(names, balance)[0]
        likely = rng.betavariate(*sure)
        others = [name for name in names if name != right]
        parts = [rng.random() for _ in others]
        often = {n: (1 - likely) * p / sum(parts) for n, p in zip(others, parts, strict=True)}
        return Asked({right: likely, **often}, unreadable, rng.lognormvariate(1.5, 0.3))

    return make


def uneven(rng: random.Random, number: int) -> Asked:
    """A third of the questions never gets an answer that can be read, the others always do."""
    asked = mathematics(2, 1)(rng, number)
    return replace(asked, unreadable=float(rng.random() < 1 / 3))


def ranging(rng: random.Random, number: int) -> Asked:
    """Answers from a word to pages, and of any certainty."""
    asked = mathematics(0.4, 0.4, 0.2)(rng, number)
    return replace(asked, tokens=rng.lognormvariate(4, 1.5))


KINDS: Mapping[str, Kind] = {
    "AIME": mathematics(1.0, 3.5),
    "AMC": mathematics(1.6, 1.6),
    "MATH": mathematics(3, 1),
    "two labels": choices(0.5, 0.5, sure=(4, 3)),
    "two labels, 70 to 30": choices(0.7, 0.3, sure=(4, 3)),
    "two labels, coin flips": choices(0.5, 0.5, sure=(60, 60)),
    "two labels, sure": choices(0.6, 0.4, sure=(9, 1)),
    "nearly one label": choices(0.95, 0.05, sure=(5, 1)),
    "six labels": choices(0.24, 0.22, 0.2, 0.16, 0.14, 0.04, sure=(2, 2)),
    "four letters": choices(0.25, 0.25, 0.25, 0.25, sure=(2, 3)),
    "free text": mathematics(0.6, 3, 0.0),
    "a third unreadable": uneven,
    "all lengths": ranging,
}

SOUND: Mapping[str, Change] = {
    "sharper": Change(sharper=4.0, entropy=0.2, kl=0.05),
    "sharper within three steps": Change(sharper=8.0, takes=3, entropy=0.2, kl=0.05),
    "10% corrected, three times as long": Change(sharper=3.0, corrected=0.1, longer=3.0, kl=0.1),
    "30% corrected, a third as long": Change(sharper=3.0, corrected=0.3, longer=1 / 3, kl=0.1),
    "15% corrected, all towards one": Change(sharper=3.0, corrected=0.15, uneven=True, kl=0.1),
    "30% corrected within ten steps": Change(sharper=4.0, corrected=0.3, takes=10, kl=0.1),
}

COLLAPSES: Mapping[str, Change] = {
    "one answer within 3 steps": Change(alike=1.0, takes=3, entropy=0.1),
    "one answer within 3 steps, late": Change(alike=1.0, since=22, takes=3, entropy=0.1),
    "one answer within 10 steps": Change(alike=1.0, takes=10, entropy=0.1),
    "one answer to half of the questions": Change(alike=0.5, takes=10, entropy=0.3),
    "unreadable within 3 steps": Change(unreadable=0.95, takes=3),
    "unreadable within 15 steps": Change(unreadable=0.9, takes=15),
    "answers of a word": Change(longer=1 / 60, takes=10, entropy=0.3),
    "agreement lost": Change(scattered=0.8, since=5, takes=10, entropy=1.5),
    "every answer another one": Change(wandering=0.8, since=3, takes=3, sharper=3.0, kl=0.1),
}
FEW = frozenset(kind for kind in KINDS if "label" in kind or "letters" in kind)
"""Kinds of questions with the same few, short answers."""
NOT_SHOWN: Mapping[str, frozenset[str]] = {
    # Of few answers, one more often may be the truth; where a third of the questions has no label
    # either, too few are left to tell.
    "one answer to half of the questions": FEW | {"a third unreadable"},
    # What has some twenty tokens cannot become much shorter.
    "answers of a word": FEW | {"all lengths"},
}


def collapses() -> list[tuple[str, str]]:
    """Every collapse, with every kind of questions that can show it."""
    return [
        (change, kind)
        for change in COLLAPSES
        for kind in KINDS
        if kind not in NOT_SHOWN.get(change, frozenset())
    ]


@dataclass
class Model:
    """Answers questions with weights that have changed for so many steps."""

    rng: random.Random
    change: Change
    asked: Mapping[int, Asked]
    steps: int = 0

    def __post_init__(self) -> None:
        keys = list(self.asked)
        tops = {key: max(a.often, key=a.often.__getitem__) for key, a in self.asked.items()}
        answers = Counter(tops.values())
        self._most = most = answers.most_common(1)[0][0]
        free = [key for key in keys if not (self.change.uneven and tops[key] == most)]
        others = min(
            len(free) // (1 + self.change.uneven), round(self.change.corrected * len(keys))
        )
        self._other = set(self.rng.sample(free, others))
        self._one = set(self.rng.sample(keys, round(self.change.alike * len(keys))))
        frequent = answers.most_common(2)
        # Where there are few answers, the collapse is not to the one that is the most frequent.
        self._common = frequent[-1][0] if frequent[0][1] > 1 else "the same"

    def ask(self, key: int, samples: int) -> tuple[list[str | None], float]:
        """Canonical answers, and their mean length in tokens."""
        asked, change, done = self.asked[key], self.change, self.change.done(self.steps)
        names, weights = list(asked.often), list(asked.often.values())
        if key in self._other:
            right = [*names, f"{key}-right"][1]
            if change.uneven and self._most in names:
                right = self._most
            weights = [w * (1 - done) for w in weights]
            names, weights = [*names, right], [*weights, done * 0.9]
        power = change.sharper**done
        weights = [w**power for w in [*weights, max(0.0, 1 - sum(weights))]]
        names.append("?")
        answers: list[str | None] = []
        for name in self.rng.choices(names, weights, k=samples):
            if self.rng.random() < asked.unreadable + done * change.unreadable * (
                1 - asked.unreadable
            ):
                answers.append(None)
            elif key in self._one and self.rng.random() < done:
                answers.append(self._common)
            elif self.rng.random() < done * change.wandering:
                answers.append(f"{key}-wrong-{self.steps // 10}")
            elif name == "?" or self.rng.random() < done * change.scattered:
                answers.append(f"{self.rng.random()}")
            else:
                answers.append(name)
        return answers, max(1.0, asked.tokens * change.longer**done)


@cache
def tokens(count: int) -> tuple[int, ...]:
    """So many of them."""
    return (0,) * count


def group(row: StoredQuestion, answers: Sequence[str | None], length: float) -> Group:
    """A question's samples as a run has them; each that agrees with the majority is worth 1."""
    ids = tokens(round(length))
    samples = tuple(Sample("", ids, (), Finish.STOP) for _ in answers)
    vote = take_vote(answers, floor=CONFIG.vote.floor)
    worth = tuple(float(vote.label is not None and each == vote.label) for each in answers)
    kept = tuple(range(len(answers)))
    return Group(row, SampleSet("", (), samples), vote, worth, kept)


def signs(seed: int, kind: Kind, change: Change, steps: int) -> Iterator[Signs]:
    """What the steps of one run show, of so many steps, until its questions are used up."""
    rng = random.Random(seed)
    rows = {
        number: StoredQuestion(number, from_prompt(str(number)), 1, False, QuestionState.NEW, None)
        for number in range(QUESTIONS)
    }
    model = Model(rng, change, {number: kind(rng, number) for number in rows})
    rounds, watch = Rounds(list(rows.values()), seed=seed), Watch(Reader())
    first: list[StoredQuestion] = []
    needed = CONFIG.update.questions_per_step
    for step in range(1, steps + 1):
        model.steps = step - 1
        drawn: list[Group] = []
        for _ in range(4):
            missing = needed - sum(each.informative for each in drawn)
            if step == 1:
                labelled = sum(each.vote.label is not None for each in drawn)
                missing = max(missing, min(run.LABELS - labelled, rounds.unasked))
            for row in rounds.take(missing):
                drawn.append(group(row, *model.ask(row.id, CONFIG.vote.samples)))
                if drawn[-1].settled:
                    rounds.drop(row.id)
        first = first or [each.question for each in drawn]
        over = not any(each.informative for each in drawn)
        if over:  # what the first questions have become, as a run looks at it
            drawn += [group(row, *model.ask(row.id, CONFIG.vote.samples)) for row in first]
        done = change.done(step - 1)
        yield watch.read(
            step,
            drawn,
            {
                "entropy": ENTROPY * change.entropy**done * rng.lognormvariate(0, 0.2),
                "kl_to_start": change.kl * done * rng.lognormvariate(0, 0.3),
            },
        )
        if over:
            return


def judged(seed: int, kind: Kind, change: Change, steps: int = STEPS) -> tuple[Ruling, int]:
    """The ruling that a run ends with, and after how many steps."""
    seen: list[Signs] = []
    ruling = Ruling(run.Action.GO_ON, 0)
    for each in signs(seed, kind, change, steps):
        seen.append(each)
        ruling = run.judge(seen, CONFIG.guard)
        if ruling.stops:
            break
    return ruling, len(seen)


def runs(seeds: range, changes: Sequence[tuple[str, Change, str]]) -> dict[str, dict[str, Any]]:
    """What became of runs of each change and kind: how many were stopped, after how many steps, by
    which rules, and how much of the change the weights that are trusted have at most."""
    table: dict[str, dict[str, Any]] = {}
    for name, change, kind in changes:
        ended = [judged(seed, KINDS[kind], change) for seed in seeds]
        stopped = [(ruling, steps) for ruling, steps in ended if ruling.stops]
        row = table[f"{name}: {kind}"] = {
            "runs": len(ended),
            "stopped": len(stopped),
            "median_step": median(steps for _, steps in stopped) if stopped else None,
            "rules": dict(Counter(str(ruling.rule) for ruling, _ in stopped)),
            "changed_when_trusted": max((change.done(r.trusted) for r, _ in stopped), default=None),
        }
        click.echo(f"{name}: {kind}: {row}", err=True)
    return table


def share_stopped(table: Mapping[str, Mapping[str, Any]], worst: Callable[..., float]) -> float:
    """Of the runs of the worst population."""
    return worst(row["stopped"] / row["runs"] for row in table.values())


LOW = 300.0
"""A threshold at which false alarms are frequent enough to be counted."""
MOST = 50_000
"""Pairs after which a version counts as not found."""
UNREADABLE = 0.03
"""Share of answers that nobody can read, of any version."""


@dataclass(frozen=True)
class Version:
    """How a version answers: shares are of questions, answers or requests."""

    sure: float = 0.0
    """Added to the probability of the most likely answer."""
    unreadable: float = 0.0
    longer: float = 1.0
    constant: float = 0.0
    """Of the answers, those that are always the same."""
    elsewhere: float = 0.0
    """Of the questions, those on which its most likely answer is another one."""
    first: float = 0.0
    """Of the questions, those on which its most likely answer is the first of the options."""
    fails: float = 0.0


@dataclass(frozen=True)
class Traffic:
    """What users ask. Some questions have `options` that are the same each time, the others open
    answers. The most likely one is likely by Beta(*likely)."""

    options: str = "ABCD"
    listed: float = 0.3
    likely: tuple[float, float] = (4, 2)


SURE = Traffic(likely=(19, 1))
TWO, TWO_OPEN = Traffic("+-", 1.0, (12, 2)), Traffic("+-", 1.0, (2, 2))
WORSE: Mapping[Stream, Version] = {
    Stream.AGREEMENT: Version(sure=-0.18),
    Stream.UNREADABLE: Version(unreadable=0.15),
    Stream.LONGER: Version(longer=12.0),
    Stream.SHORTER: Version(longer=1 / 8),
    Stream.REPETITION: Version(constant=0.56),
    Stream.CONSTANT: Version(constant=1.0),
    Stream.DEPARTURE: Version(elsewhere=2 / 3),
    Stream.ERRORS: Version(fails=0.10),
}
"""In one way, by about what the stream is made for."""
NONSENSE = Version(unreadable=0.95)
"""Hardly an answer can be read."""
BETTER: Mapping[str, tuple[Traffic, Version, Version]] = {
    "newly right on 15%": (SURE, Version(elsewhere=0.15), Version()),
    "newly right on 15%, less certain": (Traffic(), Version(elsewhere=0.15), Version()),
    "newly right on a third, surer": (Traffic(), Version(elsewhere=1 / 3, sure=0.1), Version()),
    "newly right on two thirds": (SURE, Version(elsewhere=2 / 3), Version()),
    "two labels, newly right on 20%": (TWO, Version(elsewhere=0.2), Version()),
    "two labels, no longer mostly one": (TWO, Version(), Version(first=0.5)),
    "two labels, 75% one and knows it": (TWO, Version(first=0.5), Version()),
    "two labels, no longer guessing": (TWO_OPEN, Version(sure=0.4, first=0.6), Version()),
    "works it out, six times as long": (Traffic(), Version(longer=6.0, sure=0.1), Version()),
    "no longer rambles": (Traffic(), Version(longer=1 / 12), Version(unreadable=0.4)),
}
"""The traffic, the better version, and the one before it."""


@dataclass(frozen=True)
class Posed:
    """One question: what may be answered, the most likely first, and how likely that is."""

    options: Sequence[str]
    likely: float
    tokens: float


def pose(rng: random.Random, traffic: Traffic, number: int) -> Posed:
    """The next question."""
    listed = rng.random() < traffic.listed
    options = list(traffic.options) if listed else [f"{number}-{place}" for place in range(6)]
    rng.shuffle(options)
    return Posed(options, rng.betavariate(*traffic.likely), rng.lognormvariate(5, 0.5))


def answer(rng: random.Random, posed: Posed, version: Version) -> Side | None:
    """What one version says to it."""
    if rng.random() < version.fails:
        return None
    options = list(posed.options)
    if rng.random() < version.first:
        options.sort()
    elif rng.random() < version.elsewhere:
        options.append(options.pop(0))
    likely = min(1.0, max(0.0, posed.likely + version.sure))
    answers: list[str | None] = []
    for _ in range(CONFIG.shadow.samples):
        if rng.random() < UNREADABLE + version.unreadable:
            answers.append(None)
        elif rng.random() < version.constant:
            answers.append("+")
        else:
            answers.append(options[0] if rng.random() < likely else rng.choice(options[1:]))
    lengths = [posed.tokens * version.longer * rng.lognormvariate(0, 0.4) for _ in answers]
    return Side(answers, fmean(lengths))


def pairs(
    seed: int, live: Version, other: Version = Version(), traffic: Traffic = Traffic()
) -> Iterator[dict[Stream, float]]:
    """What one pair after the other says, without end."""
    rng = random.Random(seed)
    before: tuple[Side, Side] | None = None
    for number in itertools.count():
        posed = pose(rng, traffic, number)
        ours, others = answer(rng, posed, live), answer(rng, posed, other)
        if ours is None or others is None:
            yield failures(live=ours is None, other=others is None)
            continue
        yield differences(ours, others, before)
        before = ours, others


def pairs_until_found(
    seed: int, live: Version, limit: float, traffic: Traffic, harm: bool = True
) -> int:
    """How many pairs the roll-back takes, or, where there is no `harm`, the alert."""
    detector = Detector(limit)
    for found in itertools.islice(pairs(seed, live, traffic=traffic), MOST):
        detector = detector.after(found)
        if detector.alarm if harm else detector.alerts:
            break
    return detector.pairs


def delay(differences: Sequence[float], tolerated: float, threshold: float) -> float:
    """About how many pairs an alarm takes once the differences are like these: what is to be won
    over how fast the best stake wins it; infinite when none does."""
    odds = [odds_of(difference, tolerated) for difference in differences]
    growth = max(fmean(math.log1p(stake * each) for each in odds) for stake in STAKES)
    return math.log(threshold * len(STAKES)) / growth if growth > 0 else math.inf


def delays(
    version: Version, stream: Stream, limit: float, repetitions: int, count: int = 5000
) -> dict[str, float]:
    """How late a worse version is found, as stated for the stream that is made for it, and as
    measured."""
    traffic = TWO if stream is Stream.CONSTANT else Traffic()
    drawn = itertools.islice(pairs(0, version, traffic=traffic), count)
    seen = [pair[stream] for pair in drawn if stream in pair]
    measured = [
        pairs_until_found(seed, version, limit, traffic, stream.harm) for seed in range(repetitions)
    ]
    return {
        "mean_difference": round(fmean(seen), 3),
        "stated": round(delay(seen, stream.tolerated, limit)),
        "median": median(measured),
        "nine_of_ten": round(quantiles(measured, n=10)[-1]),
    }


def roll_backs(seed: int, case: str, limit: float, count: int) -> dict[str, float | None]:
    """Of a better version: how many roll-backs there are in `count` pairs when little evidence is
    enough for one (LOW), and how many a year that makes, at most, when `limit` is asked for: the
    chance of ever reaching so much more is the ratio of the two at most. `alert` is the pair after
    which labels are asked for."""
    traffic, better, before = BETTER[case]
    low, real, alert, low_count = Detector(LOW), Detector(limit), None, 0
    for found in itertools.islice(pairs(seed, better, before, traffic), count):
        low, real = low.after(found), real.after(found)
        if low.alarm:
            low, low_count = Detector(LOW), low_count + 1
        if real.alarm:
            return {"low": low_count, "a_year": pairs_a_year() / real.pairs, "alert": alert}
        if alert is None and real.alerts:
            alert = real.pairs
    return {"low": low_count, "a_year": low_count / count * pairs_a_year() * LOW / limit,
            "alert": alert}  # fmt: skip


def pairs_a_year() -> float:
    """As many as there may be."""
    return CONFIG.shadow.pairs_a_minute * MINUTES_A_YEAR


def unchanged(limit: float, count: int) -> int:
    """Alarms in so many pairs of versions that are alike; after each, the detector begins anew."""
    alarms, detector = 0, Detector(limit)
    for found in itertools.islice(pairs(1, Version()), count):
        detector = detector.after(found)
        if detector.alarm or detector.alerts:
            alarms, detector = alarms + 1, Detector(limit)
    return alarms


def at_the_bound(limit: float, repetitions: int, draw: Callable[[random.Random], float]) -> float:
    """The mean number of pairs until a false alarm of one stream whose mean difference, here 0, is
    just what is tolerated."""
    waits = []
    for seed in range(repetitions):
        rng, track, count = random.Random(seed), Track(), 0
        while track.evidence < limit:
            track, count = track.after(draw(rng), 0.0), count + 1
        waits.append(count)
    return fmean(waits)


@click.command()
@click.option("--runs", "run_count", default=40, show_default=True, help="Of each population.")
@click.option("--repetitions", default=40, show_default=True, help="Of each worse version.")
@click.option(
    "--pairs", "pair_count", default=40_000, show_default=True, help="Of each better one."
)
@click.option("--seed", default=1000, show_default=True, help="The first of the runs'.")
@click.option("--smoke", is_flag=True, help="Only see that it runs.")
def main(run_count: int, repetitions: int, pair_count: int, seed: int, smoke: bool) -> None:
    """Measure what both monitors stop, and how late."""
    kinds, sound, chosen = list(KINDS), list(SOUND), collapses()
    streams, cases = list(Stream), list(BETTER)
    if smoke:
        run_count, repetitions, pair_count = 2, 2, 300
        kinds, sound, chosen = kinds[:1], sound[:1], chosen[:1]
        streams, cases = streams[:1], cases[:1]
    seeds = range(seed, seed + run_count)
    few = range(seed, seed + max(2, run_count // 4))
    nothing = runs(seeds, [("nothing changes", Change(), kind) for kind in kinds])
    learning = runs(few, [(name, SOUND[name], kind) for name in sound for kind in kinds])
    collapsed = runs(few, [(name, COLLAPSES[name], kind) for name, kind in chosen])
    limit = threshold(CONFIG.shadow.pairs_a_minute, CONFIG.shadow.false_alarms_a_year)
    found, counted = {}, min(5000, pair_count)
    for stream in streams:
        found[str(stream)] = delays(WORSE[stream], stream, limit, repetitions, counted)
        click.echo(f"{stream}: {found[stream]}", err=True)
    found["nonsense"] = delays(NONSENSE, Stream.UNREADABLE, limit, repetitions, counted)
    better = {}
    for case in cases:
        better[case] = roll_backs(seed, case, limit, pair_count)
        click.echo(f"{case}: {better[case]}", err=True)
    low = 10.0 if smoke else LOW
    coin = at_the_bound(low, repetitions, lambda rng: rng.choice((-1.0, 1.0)))
    small = at_the_bound(low, repetitions, lambda rng: rng.choice((-0.25, 0.0, 0.25)))
    result = {
        "null_stopped": share_stopped(nothing, max),
        "learning_stopped": share_stopped(learning, max),
        "collapses_stopped": share_stopped(collapsed, min),
        "better_rolled_back_a_year": max(row["a_year"] or 0.0 for row in better.values()),
        "worse_found_after_pairs": max(row["median"] for row in found.values()),
        "threshold": round(limit),
        "pairs_a_year": round(pairs_a_year()),
        "unchanged": {"pairs": pair_count, "alarms": unchanged(limit, pair_count)},
        "pairs_to_false_alarm_at_the_bound": {
            "stated_at_least": low, "coin": round(coin), "small": round(small)
        },
        "better": better,
        "worse": found,
        "runs": {**nothing, **learning, **collapsed},
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
